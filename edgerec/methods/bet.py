"""BET: sizes of whole tables are drawn, a network predicts which are worth a training, and the best are trained fully.

Budgeted embedding table (Qu, Chen, Nguyen and Yin 2024, arXiv 2310.14884). An action sets all sizes at once and keeps
to the budget by construction; its fitness is eval on validation, over that of the full-size model, after a short
training that goes on from it. Of `candidates` actions an iteration one is judged: by turns three times the one that is
predicted to be fittest, one at random, and one whose embedding is nearest to the fittest so far (section 4.3).

Ours: sizes are projected onto the budget exactly (edgerec/methods/search/sampler.py); the final trainings stop on
validation, the authors' on users of the test part; items' frequencies are what the predictor sees of them, where the
authors' code gives it their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.methods.base import Job
from edgerec.methods.search.config import SearchConfig
from edgerec.methods.search.history import SearchHistory
from edgerec.methods.search.judge import Judge
from edgerec.methods.search.retrain import retrained
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.models.settings import check_choice, check_range
from edgerec.training import FitResult

_WIDTHS = 16
"""Distinct sizes a table where the budget is of a bundle in bytes: each is a block, which costs bytes too."""


@dataclass(frozen=True)
class Protocol:
    """What differs between the paper, its code and this.

    Attributes:
        at_once: actions that are chosen before any of them is judged, and so can be judged in parallel.
        turns: strategies of consecutive iterations, again and again.
        updates, pairs: steps of the predictor after each such batch of actions, each on so many random pairs of those
            that were judged.
        decay: factor on its step size after every step.
        by_rows: whether what it makes of a size counts by how many rows have it.
        retrain: actions that are trained in full.
        even: and one size for all beside them (ours).
    """

    at_once: int
    turns: tuple[str, ...]
    updates: int
    pairs: int
    decay: float
    by_rows: bool
    retrain: int
    even: bool


_GREEDY, _RANDOM, _NEAREST = "greedy", "random", "nearest"
_PAPER_TURNS = (_GREEDY, _GREEDY, _GREEDY, _RANDOM, _NEAREST)
_CODE_TURNS = (_GREEDY, _GREEDY, _GREEDY, _NEAREST, _RANDOM)

PROTOCOLS = {
    "own": Protocol(5, _PAPER_TURNS, updates=100, pairs=16, decay=1.0, by_rows=True, retrain=5, even=True),
    "paper": Protocol(1, _PAPER_TURNS, updates=2, pairs=1, decay=0.9, by_rows=False, retrain=5, even=False),
    "code": Protocol(1, _CODE_TURNS, updates=2, pairs=1, decay=0.9, by_rows=False, retrain=3, even=False),
}
"""By name."""

EPOCHS = {"ials": 1, "ngcf": 15}
"""Of fine-tuning, by what is trained; 10 for others, as in the paper. iALS solves for its optimum at once."""


@dataclass(frozen=True)
class BETConfig(SearchConfig):
    """How actions are drawn and chosen.

    Attributes:
        iterations: T, trainings that judge an action. The paper names 10, and 50 in its study of it and in its code.
        candidates: m, actions that are drawn for one that is judged.
        selection: 'predictor', or 'random' for none: the paper's ablation.
        protocol: 'paper'; 'code', where the turns of random and nearest are swapped, and three actions are trained in
            full; or 'own', which judges five actions at once and trains the predictor more than by the two steps an
            action of the paper, after which it ranks little (docs/searched-sizes.md).
    """

    iterations: int = 50
    candidates: int = 100
    selection: str = "predictor"
    protocol: str = "own"

    def __post_init__(self) -> None:
        """Raises SettingError for values out of range."""
        super().__post_init__()
        check_range("iterations", self.iterations, 1, 1e6)
        check_range("candidates", self.candidates, 1, 1e6)
        check_choice("selection", self.selection, ("predictor", "random"))
        check_choice("protocol", self.protocol, tuple(PROTOCOLS))


class BET:
    """A budgeted search of sizes over whole tables."""

    name: ClassVar[str] = "bet"
    config: ClassVar[type[BETConfig]] = BETConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: BETConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row, DataError where the split holds nothing
        back, WorkerError where a worker is lost."""
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.search.bet_search import BETSearch

        protocol = PROTOCOLS[config.protocol]
        sampler = _sampler(job)
        history = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        trained = "ials" if config.oracle == "ials" else job.backbone.name
        with Judge(job, "fine-tune", oracle=config.oracle, epochs=config.epochs or EPOCHS.get(trained, 10)) as judge:
            BETSearch(job, config, protocol, sampler, judge, history).run()
        best = sorted(history.judged, key=lambda entry: -entry["fitness"])[: config.retrain or protocol.retrain]
        plans = [(entry, sampler.plan(Action.from_json(entry["action"]))) for entry in best]
        return retrained(job, plans, history, even=protocol.even if config.even is None else config.even)


def _sampler(job: Job) -> Sampler:
    """Raises BudgetError."""
    in_bytes = job.budget is not None and job.budget.kind == "bytes"
    total = job.values(blocks=2 * _WIDTHS)
    widths = _WIDTHS if in_bytes else None
    return Sampler(job.train.user_counts(), job.train.item_counts(), total, job.d, widths)

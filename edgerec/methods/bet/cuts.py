"""BET on the SVD: every action is one decomposition, cut and rounded as the bundle stores it, which takes milliseconds.

As in `search.py` an action sets the sizes of the whole table and meets the budget by construction. Ours here: it sets
the bits of the rows too, and the two settings of the SVD that need no decomposition; actions are evaluated instead of
predicted (edgerec/methods/search/cuts.py). Rules come first, then random actions, and then most are near one of the
best so far.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.base import Job, Method
from edgerec.methods.search.cuts import SETTINGS, Cut, CutSearch, CutSearchConfig, CutSpace
from edgerec.methods.search.history import action_of
from edgerec.methods.search.sampler import FAMILIES
from edgerec.models import check_ranges
from edgerec.training import FitResult

FREQUENCY, _LARGEST_POWER = "frequency", 4.0
"""The family of sizes in proportion to a power of the number of interactions, and the largest power."""
_MOST_FAMILIES = {**{name: most for name, (_, most) in FAMILIES.items()}, FREQUENCY: _LARGEST_POWER}
_RULES = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Powers of the first actions, which are the rules that a search is compared with."""
_PARENTS = 15
"""Number of the best actions so far near which others are drawn."""
_DRAWS = 0
"""First part of the seed of each draw."""


@dataclass(frozen=True)
class CutConfig(CutSearchConfig):
    """Settings of BET's search on the SVD.

    Attributes:
        random: share of the actions, after the rules by popularity, that is drawn at random; the others are near one of
            the best so far.
    """

    random: float = 0.3

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        super().__post_init__()
        check_ranges(self, 0, 1, "random")


@dataclass(frozen=True)
class CutAction:
    """The parameters of sizes and bits of a whole item table, and of the SVD.

    Attributes:
        family, shape: distribution of the rows' bytes over their places by popularity, and its shape.
        widths: maximum number of distinct sizes.
        shares: for each number of bits but the fewest, the share of the rows, the most popular first, with at least
            as many.
        power, c: settings of the SVD.
    """

    family: str
    shape: float
    widths: int
    shares: tuple[float, ...]
    power: float
    c: float

    def __post_init__(self) -> None:
        """Raise ValueError for an action that the sampler does not draw."""
        if not 0 <= self.shape <= _MOST_FAMILIES.get(self.family, -1) or self.widths < 1:
            raise ValueError(f"there is no action with the family {self.family!r}, {self.shape} and {self.widths}")

    @classmethod
    def from_json(cls, fields: Any) -> CutAction:
        """Read the action of a history entry. Raises RunError if it is malformed."""
        return action_of(cls, fields)


@dataclass(frozen=True)
class CutSampler(CutSpace):
    """Draws actions and computes their cuts: more frequent rows have at least as many bytes."""

    def draw(self, rng: np.random.Generator) -> CutAction:
        """Draw an action."""
        family = str(rng.choice(list(_MOST_FAMILIES)))
        shares = [rng.choice([0.0, float(rng.random()) ** 2, 1.0], p=[0.4, 0.5, 0.1]) for _ in self.bits[1:]]
        return CutAction(
            family,
            float(rng.uniform(0, _MOST_FAMILIES[family])),
            int(rng.integers(1, len(self.totals), endpoint=True)),
            tuple(sorted(map(float, shares))),
            *(self.moved(name, self.settings[name], 1.0, rng) for name in SETTINGS),
        )

    def near(self, action: CutAction, rng: np.random.Generator) -> CutAction:
        """Draw an action near another one."""

        def moved(value: float, by: float, least: float, most: float) -> float:
            return float(np.clip(value + rng.normal(0, by), least, most)) if rng.random() < 0.5 else value

        widths = action.widths + (int(rng.choice([-1, 1])) if rng.random() < 0.3 else 0)
        shares = [moved(share, 0.05 if number == 0 else 0.15, 0, 1) for number, share in enumerate(action.shares)]
        return CutAction(
            action.family,
            float(np.clip(action.shape * np.exp(rng.normal(0, 0.3)), 0, _MOST_FAMILIES[action.family])),
            int(np.clip(widths, 1, len(self.totals))),
            tuple(sorted(shares)),
            *(self.moved(name, getattr(action, name), 0.5, rng) for name in SETTINGS),
        )

    def rules(self) -> list[CutAction]:
        """Return the actions of sizes in proportion to a power of frequency, in each number of bits."""
        return [self.rule(bits, power) for power in _RULES for bits in self.bits or (None,)]

    def rule(self, bits: int | None, power: float = 0.0) -> CutAction:
        """Return the action of sizes in proportion to a power of frequency; of one size for all rows with 0."""
        shares = tuple(float(bits is not None and one <= bits) for one in self.bits[:-1])
        widths = len(self.totals) if power else 1
        return CutAction(FREQUENCY, power, widths, shares, self.settings["power"], self.settings["c"])

    def cut_of(self, action: CutAction) -> Cut:
        """Return the sizes and bits of an action: at most the bytes of its number of widths."""
        if action.family == FREQUENCY:
            weights = (self.counts + 1.0) ** action.shape
        else:
            weights = FAMILIES[action.family][0](1 - self._places, action.shape)

        def bits_of(rows: NDArray[np.bool_]) -> int:
            place = float(self._places[rows].mean())
            return sum(place >= share for share in action.shares)

        return self.cut(weights, action.widths, bits_of, {"power": action.power, "c": action.c})

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        """(n_items,) place of each row by popularity in 0..1, the most popular first."""
        places = np.empty(self.counts.size)
        places[np.argsort(-self.counts, kind="stable")] = (np.arange(self.counts.size) + 0.5) / self.counts.size
        return places


class BETOnSVD(Method):
    """A search of sizes and bits over whole tables that cuts one decomposition."""

    name: ClassVar[str] = "bet"
    config: ClassVar[type[CutConfig]] = CutConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"svd"})
    codes_rows: ClassVar[bool] = True

    def fit(self, job: Job, config: CutConfig) -> FitResult:
        """Search sizes and bits, and train the best in full.

        Raises BudgetError if the budget leaves less than a byte or a value a row, DataError if the split holds nothing
        back, RunError if the run's folder holds another command's search.
        """
        search = CutSearch(job, config, CutSampler.of(job, config.widths))
        sampler = search.space
        _run(search, config, sampler)
        return search.trained(
            lambda entry: sampler.cut_of(CutAction.from_json(entry["action"])), lambda bits: asdict(sampler.rule(bits))
        )


def _run(search: CutSearch[CutSampler], config: CutConfig, sampler: CutSampler) -> None:
    """Evaluate actions until the history has all."""
    rules = sampler.rules()[: config.actions]
    n_random = max(int(config.random * (config.actions - len(rules))), 1)
    for number in range(len(search.history.evaluated), config.actions):
        rng = np.random.default_rng([search.job.seed, _DRAWS, number])
        if number < len(rules):
            action, strategy = rules[number], "rule"
        elif number < len(rules) + n_random:
            action, strategy = sampler.draw(rng), "random"
        else:
            best = search.best(_PARENTS)
            parent = best[int(rng.integers(len(best)))]
            action, strategy = sampler.near(CutAction.from_json(parent["action"]), rng), "nearest"
        started, cut = time.perf_counter(), sampler.cut_of(action)
        value = search.evaluator.evaluate(cut)
        entry = {**search.entry(asdict(action), cut), "strategy": strategy, "eval": value}
        entry |= {"fitness": value / search.full, "seconds": round(time.perf_counter() - started, 3)}
        search.add(entry)

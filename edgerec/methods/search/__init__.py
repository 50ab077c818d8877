"""Size searches: actions are evaluated by short trainings, and the best are trained in full.

The metric of the papers, `eval`, is the mean over k of 5, 10 and 20 of (Recall@k + NDCG@k) / 2 on the validation part.
The fitness of an action is its eval over that of the full-size model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgerec.methods.search.evaluator import Evaluation, SizeEvaluator
from edgerec.methods.search.finalists import projected, retrained, searched_budget
from edgerec.methods.search.history import VISITS_NAME, SearchHistory, size_deciles
from edgerec.methods.search.workers import parse_workers
from edgerec.models import check_choice, check_range

if TYPE_CHECKING:
    from edgerec.methods.base import Method

PROXIES = ("backbone", "ials")

__all__ = [
    "PROXIES",
    "VISITS_NAME",
    "Evaluation",
    "SearchConfig",
    "SearchHistory",
    "SizeEvaluator",
    "parse_workers",
    "projected",
    "retrained",
    "searched_budget",
    "searches",
    "size_deciles",
]


@dataclass(frozen=True)
class SearchConfig:
    """Settings that all methods with a search share: the evaluation of actions and the full trainings.

    Attributes:
        proxy: the model that is trained to evaluate sizes: the 'backbone', or 'ials', which takes a fraction of the
            time; the result is a backbone in both cases.
        epochs: epochs of the training that evaluates an action; None for a default by the trained model.
        retrain: number of the best actions to train in full; the best of them on validation is exported.
    """

    proxy: str = "backbone"
    epochs: int | None = None
    retrain: int = 3

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_choice("proxy", self.proxy, PROXIES)
        check_range("epochs", self.epochs, 1, 1e6)
        check_range("retrain", self.retrain, 1, 1e4)


def searches(method: Method) -> bool:
    """Return True for a method with a search."""
    return issubclass(method.config, SearchConfig)

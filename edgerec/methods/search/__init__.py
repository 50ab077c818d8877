"""Searching sizes: actions are evaluated by short trainings, and the best are trained in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgerec.models import check_choice, check_range

if TYPE_CHECKING:
    from edgerec.methods.base import Method

PROXIES = ("backbone", "ials")


@dataclass(frozen=True)
class SearchConfig:
    """How actions are evaluated, and how many are trained in full: settings that every method with a search has.

    Attributes:
        proxy: what is trained to evaluate sizes: the 'backbone', or 'ials', which takes a fraction of the time; what
            ships is the backbone in both cases.
        epochs: of the training that evaluates an action; None for as many as suit what is trained.
        retrain: so many of the best actions are trained in full, and the best of them on validation ships.
    """

    proxy: str = "backbone"
    epochs: int | None = None
    retrain: int = 3

    def __post_init__(self) -> None:
        """Raises SettingError for values out of range."""
        check_choice("proxy", self.proxy, PROXIES)
        check_range("epochs", self.epochs, 1, 1e6)
        check_range("retrain", self.retrain, 1, 1e4)


def searches(method: Method) -> bool:
    """Return whether the method makes a search."""
    return issubclass(method.config, SearchConfig)

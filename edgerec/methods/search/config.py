"""Settings that every method with a search has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgerec.models.settings import check_choice, check_range

if TYPE_CHECKING:
    from edgerec.methods.base import Method

ORACLES = ("backbone", "ials")


@dataclass(frozen=True)
class SearchConfig:
    """How actions are judged, and what becomes of the best.

    Attributes:
        oracle: what is trained to judge sizes: the 'backbone', or 'ials' in its place, which takes a fraction of the
            time; what ships is the backbone in both cases.
        epochs: of the training that judges an action; None for the method's own.
        retrain: so many of the best actions are trained in full, and the best of them on validation ships; None for
            the method's own.
        even: whether one size for all is trained in full beside them, so that nothing ships that validation finds
            worse; None for the protocol's.
    """

    oracle: str = "backbone"
    epochs: int | None = None
    retrain: int | None = None
    even: bool | None = None

    def __post_init__(self) -> None:
        """Raises SettingError for values out of range."""
        check_choice("oracle", self.oracle, ORACLES)
        check_range("epochs", self.epochs, 1, 1e6)
        check_range("retrain", self.retrain, 1, 1e4)


def searches(method: Method) -> bool:
    """Whether the method makes a search."""
    return issubclass(method.config, SearchConfig)

"""Figures of a search, from its history of actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.methods.search.history import FILE_NAME, RETRAIN, read_history


@dataclass(frozen=True)
class SearchFigures:
    """Figures of a search to draw, in the order of its actions.

    Attributes:
        fitness: of each evaluated action.
        best: the highest so far of those within the budget; None before there is one.
        strategies: why each was chosen.
        densities: of each action, its share of all values.
        predicted: fitness; None where nothing was predicted.
        sizes: by 'users' and 'items', for each action the mean sizes of ten parts of the rows, the least popular first.
        trained: eval on validation of what was trained in full.
        seconds: of all actions.
    """

    fitness: list[float]
    best: list[float | None]
    strategies: list[str]
    densities: list[float]
    predicted: list[float | None]
    sizes: dict[str, list[list[float]]] = field(repr=False)
    trained: list[float]
    seconds: float

    @classmethod
    def of(cls, entries: Sequence[dict[str, Any]]) -> SearchFigures:
        """The figures of a history's entries; those that do not say whether they are within the budget are."""
        evaluated = [entry for entry in entries if entry["strategy"] != RETRAIN]
        best: list[float | None] = []
        for entry in evaluated:
            before = best[-1] if best else None
            better = entry.get("within", True) and (before is None or entry["fitness"] > before)
            best.append(entry["fitness"] if better else before)
        return cls(
            fitness=[entry["fitness"] for entry in evaluated],
            best=best,
            strategies=[entry["strategy"] for entry in evaluated],
            densities=[entry["density"] for entry in evaluated],
            predicted=[entry["predicted"] for entry in evaluated],
            sizes={side: [entry["sizes"][side] for entry in evaluated] for side in ("users", "items")},
            trained=[entry["eval"] for entry in entries if entry["strategy"] == RETRAIN and "eval" in entry],
            seconds=float(sum(entry["seconds"] for entry in evaluated)),
        )

    @property
    def pairs(self) -> tuple[list[float], list[float]]:
        """Predicted and true fitness, where something was predicted."""
        both = [(p, f) for p, f in zip(self.predicted, self.fitness, strict=True) if p is not None]
        return [p for p, _ in both], [f for _, f in both]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of predicted and true fitness: each was predicted before it was known."""
        return spearman(*self.pairs)

    @property
    def best_at(self) -> int | None:
        """The number of the action that is the best so far in the end."""
        last = self.best[-1] if self.best else None
        return None if last is None else int(np.argmax(np.array(self.fitness) == last))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the rank correlation and the number of the best action."""
        return {**asdict(self), "rank_correlation": self.rank_correlation, "best_at": self.best_at}


def search_figures(folder: Path) -> SearchFigures | None:
    """The figures of the search of the run in `folder`, finished or not; None if it has no search.

    Raises RunError where its history is damaged, StorageError.
    """
    path = folder / FILE_NAME
    entries = read_history(path) if path.exists() else []
    return SearchFigures.of(entries) if entries else None


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation of two equally long sequences; equal values share their mean rank.

    None where there is none: fewer than two values, or all equal on one side.
    """
    one, other = (_ranks(np.asarray(values, np.float64)) for values in (a, b))
    if one.size < 2 or one.std() == 0 or other.std() == 0:
        return None
    return float(((one - one.mean()) * (other - other.mean())).mean() / (one.std() * other.std()))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(values)
    first, behind = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray(first + behind - 1) / 2

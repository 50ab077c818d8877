"""Item-item models as bundles: the score that each pair has, and neighbours that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.errors import ExportError
from edgerec.runtime import Recommender
from edgerec_export import export, from_neighbours

NEIGHBOURS = np.array([[1, 2], [0, -1], [1, 3], [-1, -1], [3, 0]])
WEIGHTS = np.array([[0.4, 0.2], [0.2, 7], [0.1, 0.3], [7, 7], [0.05, 0.25]])


def model(folder: Path, precision: str = "fp32", **how: Any) -> Recommender:
    source = from_neighbours(NEIGHBOURS, WEIGHTS, item_ids=[10, 11, 12, 13, 14], item_counts=[5, 4, 3, 2, 1], **how)
    return Recommender.load(export(source, folder / "b", users=False, precision=precision, layout="ell").folder)


def pairs() -> np.ndarray:
    """S: each weight once, a pair that both have as the mean, and what neighbours in common add."""
    halves = np.zeros((5, 5))
    for item, (neighbours, weights) in enumerate(zip(NEIGHBOURS, WEIGHTS, strict=True)):
        for neighbour, weight in zip(neighbours, weights, strict=True):
            if neighbour >= 0:
                halves[item, neighbour] = weight
    halves[0, 1] = halves[1, 0] = (0.4 + 0.2) / 4
    return halves + halves.T + halves @ halves.T


def test_scores_are_the_sums_of_the_weights_of_pairs(tmp_path: Path) -> None:
    history, answer = np.array([1.0, 2.0, 3.0, 1.5, 1.0]), np.array([0.5, 1.0, 0.25, 2.0, 1.0])
    found = model(tmp_path, of_history=history, of_answer=answer).score(history=[10, 13], items=[11, 12, 14])
    table = history[:, None] * pairs() * answer
    assert np.allclose(found, table[0, [1, 2, 4]] + table[3, [1, 2, 4]], rtol=1e-5)


def test_the_best_neighbour_is_recommended_in_one_byte_a_value(tmp_path: Path) -> None:
    with model(tmp_path, "int8") as app:
        assert [one.item for one in app.recommend(history=[13], k=2)] == [12, 14]
        assert [one.item for one in app.popular(2)] == [10, 11]


@pytest.mark.parametrize(
    ("neighbours", "weights", "message"),
    [
        ([[1], [5]], [[0.1], [0.1]], "another item's row, 0 to 1"),
        ([[0], [0]], [[0.1], [0.1]], "another item's row"),
        ([[-2], [0]], [[0.1], [0.1]], "-1 for none"),
        ([[1, 1], [0, -1]], [[0.1, 0.2], [0.1, 0]], "the same neighbour twice"),
        ([[1], [0]], [[0.1], [0.0]], "above 0"),
        ([[1], [0]], [[0.1], [np.nan]], "finite"),
        ([[1], [0]], [[0.1, 0.2], [0.1, 0.2]], "as many weights"),
        ([[1.5], [0]], [[0.1], [0.2]], "item rows"),
    ],
)
def test_neighbours_that_are_none_are_refused(neighbours: Any, weights: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        from_neighbours(neighbours, weights)


def test_factors_of_another_number_are_refused() -> None:
    with pytest.raises(ExportError, match="of_answer must be 2 finite numbers above 0"):
        from_neighbours([[1], [0]], [[0.1], [0.1]], of_answer=[1, 0])

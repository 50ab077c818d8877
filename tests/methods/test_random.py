"""Random sizes: of the whole range whatever the popularity, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions
from edgerec.training import FitOptions, Run

D, N_VALUES = 32, 5000
"""A mean of 10 values for each of 500 rows."""


def trained(interactions: Interactions, seed: int = 0) -> Run:
    options = FitOptions(seed, threads=1, max_epochs=1)
    return train(interactions, method="random", budget=str(N_VALUES), dimensions=D, **vars(options))


def sizes_of(run: Run) -> list[np.ndarray]:
    assert run.users is not None
    return [run.items.sizes(), run.users.sizes()]


@pytest.fixture(scope="module")
def run(interactions: Interactions) -> Run:
    return trained(interactions)


def test_sizes_reach_from_1_to_about_twice_the_mean_within_the_budget(run: Run) -> None:
    assert run.items.n_values + (0 if run.users is None else run.users.n_values) == N_VALUES
    for sizes in sizes_of(run):
        assert sizes.min() <= 2
        assert 16 <= sizes.max() <= 22
        assert 8 <= np.median(sizes) <= 12
        assert np.unique(sizes).size <= 16


def test_sizes_do_not_follow_popularity(run: Run) -> None:
    """Three standard errors of a correlation that is not there."""
    for sizes, counts in zip(sizes_of(run), (run.item_counts, run.user_counts), strict=True):
        assert counts is not None
        assert abs(np.corrcoef(sizes, counts)[0, 1]) < 3 / np.sqrt(sizes.size)


def test_the_seed_decides(run: Run, interactions: Interactions) -> None:
    for same, again, other in zip(
        sizes_of(run), sizes_of(trained(interactions)), sizes_of(trained(interactions, seed=1)), strict=True
    ):
        assert (same == again).all()
        assert (same != other).any()

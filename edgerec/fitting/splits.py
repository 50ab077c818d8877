"""Splits of `fit`: the one whose test part measures the result, and the one of the rest that decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgerec.data import Interactions, SplitSpec
from edgerec.errors import DataError

TEST = SplitSpec("random", (0.8, 0.2))
"""The usual split of all interactions."""
VALIDATION = SplitSpec("random", (0.9, 0.1))
"""The usual split of the training data, of which a tenth decides, so that the models that are compared have nearly as
much to learn from as the final one: with a fifth, models of few dimensions win that lose on test data."""
LEAVE_ONE_OUT = SplitSpec("leave-one-out")
LEAST_TESTED = 0.5
"""Share of the users with several interactions that a split has to test."""


def usual_split(interactions: Interactions, seed: int) -> SplitSpec:
    """Return the usual split, or leave-one-out where that would leave out most users: shops know few of a customer."""
    return _with_tests(TEST, interactions, seed)


def validation_split(spec: SplitSpec, training: Interactions) -> SplitSpec:
    """Return the split of the training data that decides; after a split by time the same rule again.

    Args:
        spec: the split whose test part was taken away.

    Raises DataError if every user has fewer than two interactions left.
    """
    if spec.kind == "time":
        return spec
    if not (training.user_counts() >= 2).any():
        cure = "add interactions" if spec.kind == "all" else "try --split all, which tests nothing and leaves more"
        raise DataError(f"after {spec} no user has two interactions left, so that nothing decides; {cure}")
    return spec if spec.kind == "leave-last-out" else _with_tests(VALIDATION, training, spec.seed)


def _with_tests(spec: SplitSpec, interactions: Interactions, seed: int) -> SplitSpec:
    counts = interactions.user_counts()
    several = counts[counts >= 2]
    tested = np.count_nonzero(spec.tests_of(several)) >= LEAST_TESTED * several.size
    return replace(spec if tested else LEAVE_ONE_OUT, seed=seed)

"""Exploration noise in units of sizes, stateless: what an iteration draws follows from the seed and its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOISES = ("gauss", "ou", "uniform")

PAPER_D = 128
"""Dimensions that the paper's noise is meant for; with others it is scaled."""
_GAUSS = 6.0
_UNIFORM = 11.0
_OU_STD, _OU_PULL, _OU_STEP = 40.0, 0.15, 0.01


def noise(kind: str, n: int, d: int, seeds: list[list[int]]) -> NDArray[np.float64]:
    """(n,) noise on sizes 1..d.

    'gauss' has a standard deviation of 6, 'uniform' reaches from -11 to 11, and 'ou' is an Ornstein-Uhlenbeck process
    (deviation 40, pull 0.15, step 0.01) that begins with the episode: CIESS's, for 128 dimensions.

    Args:
        seeds: one for each iteration of the episode up to this one.
    """
    scale = d / PAPER_D
    rng = np.random.default_rng(seeds[-1])
    if kind == "gauss":
        return rng.normal(0, _GAUSS * scale, n)
    if kind == "uniform":
        return rng.uniform(-_UNIFORM * scale, _UNIFORM * scale, n)
    at = np.zeros(n)
    for seed in seeds:
        drawn = np.random.default_rng(seed).standard_normal(n)
        at += -_OU_PULL * at * _OU_STEP + _OU_STD * np.sqrt(_OU_STEP) * drawn
    return at * scale

"""Integer codes of values, and numbers in a byte each: how integer precisions are trained and stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = {"int8": 127, "int4": 7, "int2": 3}
"""Largest code of each integer precision; the codes of int2 are odd."""
BYTE_POWER = np.float32(256.0**4)
"""A power of two, so that it can be divided by exactly: see `to_bytes`."""
FARTHEST_BYTE = np.float32(1.25)
"""Largest ratio of a number in a byte to the top of an older bundle; the largest are then clipped."""
TINY = np.finfo(np.float32).tiny
"""Smallest scale: the smallest normal float32."""


def to_codes(values: NDArray[np.float32], scale: Any, precision: str) -> NDArray[np.int32]:
    """Return signed codes, rounded to nearest and clipped to the largest code."""
    return nearest_codes(values / scale, precision).astype(np.int32)


def nearest_codes(steps: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Return the nearest codes of values in steps, clipped to the largest code."""
    most = LARGEST[precision]
    codes: NDArray[np.float32] = np.clip(rounded(steps, precision), -most, most)
    return codes


def rounded(steps: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Return the nearest codes, not clipped: odd numbers for int2."""
    nearest: NDArray[np.float32] = np.rint(steps)
    if precision == "int2":
        nearest = np.asarray(2 * np.floor(steps / 2) + 1, np.float32)
    return nearest


def damped(gram: NDArray[np.floating[Any]], share: float) -> NDArray[np.float64]:
    """Return a (w, w) Gram matrix with a share of the mean of its diagonal added to the diagonal."""
    found: NDArray[np.float64] = gram + np.eye(len(gram)) * (share * np.trace(gram) / len(gram) + float(TINY))
    return found


def codes_with_feedback(
    values: NDArray[np.float32], scale: NDArray[np.float32], gram: NDArray[np.float64], precision: str
) -> NDArray[np.int32]:
    """Return (w, m) signed codes of values (w, m), by dimension, so that each step works on contiguous memory.

    What rounding a dimension loses is made up for by later ones, so that e G e' of a row's errors e is least: the
    solver of GPTQ (Frantar et al. 2022, arXiv 2210.17323), with G as the Hessian.

    Args:
        scale: (m,), or (1,) for all.
        gram: (w, w) G, positive definite.
    """
    # Row j of the upper Cholesky factor of G's inverse spreads the error of dimension j over later ones.
    upper = np.linalg.cholesky(np.linalg.inv(gram)).T.astype(np.float32)
    left = values.astype(np.float32, order="C")
    codes = np.empty(left.shape, np.int32)
    for at, row in enumerate(left):
        codes[at] = to_codes(row, scale, precision)
        error = (row - codes[at] * scale) / upper[at, at]
        for later in range(at + 1, len(left)):
            left[later] -= error * upper[at, later]
    return codes


def to_bytes(numbers: NDArray[np.floating[Any]], top: np.float32) -> NDArray[np.uint8]:
    """Return (n,) numbers of at least 0 in a byte each, top * (byte / 256)^4, which `from_bytes` reads.

    The relative error is at most 2 / byte: 0.8 % near the top, 2.5 % at a hundredth of it, 8 % at a ten-thousandth.
    Only 0 becomes 0, and larger numbers than byte 255 become 255: see `byte_top`.
    """
    roots = np.rint(256 * np.sqrt(np.sqrt(numbers / np.float64(top))))
    return np.where(numbers > 0, np.clip(roots, 1, 255), 0).astype(np.uint8)


def byte_top(largest: Any, previous: np.float32 | None = None, room: Any = None) -> np.float32:
    """Return the `top` for which `largest` is byte 255, or that of the older bundle unless `largest` is far above.

    Args:
        room: number that is byte 255 instead of `largest`, so that larger ones of later bundles have a byte.
    """
    if previous is not None and largest <= previous * FARTHEST_BYTE:
        return previous
    return np.float32((largest if room is None else room) * (256 / 255) ** 4)


def from_bytes(stored: NDArray[np.uint8], top: np.float32) -> NDArray[np.float32]:
    """Return the float32 numbers of `to_bytes`, by the operations of the graphs."""
    square = np.square(stored.astype(np.float32))
    numbers: NDArray[np.float32] = np.square(square) * (top / BYTE_POWER)
    return numbers


def in_bytes(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,) positive numbers as their bytes read, which are stored again in the same bytes."""
    top = byte_top(numbers.max())
    return from_bytes(to_bytes(numbers, top), top)


def in_int8(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, d) vectors rounded as the graphs of integer tables round those of users: to int8, a scale each."""
    scales = np.maximum(np.abs(vectors).max(1, initial=0) / np.float32(LARGEST["int8"]), TINY)[:, None]
    found: NDArray[np.float32] = np.rint(vectors / scales) * scales
    return found

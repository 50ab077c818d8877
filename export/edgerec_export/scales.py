"""Quantising so that scores, and with them ranks, change least: scales and rounding for inner products with users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.kept import KeptScales
from edgerec_export.values import LARGEST, TINY, chunks, to_codes

SAMPLE = 16_384
"""Rows that a block's scale is chosen on."""
CUTS = {"int8": np.linspace(0.7, 1.0, 7), "int4": np.linspace(0.3, 1.0, 15)}
"""Largest codes tried for a block, as shares of its largest value: what is larger is cut to it."""
FAR = 30
"""Binary exponents of values that are squared as they are."""
DAMPING = 0.01
GRAM_ROWS = 1 << 17
ROWS_AT_ONCE = 1 << 12
"""Rows whose scales are tried together: they stay in the cache, which takes a third of the time."""


def gram(users: Table) -> NDArray[np.float64]:
    """(d, d) the mean of u u' over the rows of a user table, or over some evenly spread where there are many."""
    rows = np.arange(0, users.n_rows, -(-users.n_rows // GRAM_ROWS))
    vectors = users.rows(rows).astype(np.float64)
    mean: NDArray[np.float64] = vectors.T @ vectors / len(rows)
    return mean


class Coder:
    """Turns values into integer codes.

    With G the mean of u u' over the training users, the mean squared error of a row's scores is e G e', e the error
    of the row: G, and not the plain square of e, is what scales are chosen by and what rounding pushes errors out of
    (error feedback: the solver of GPTQ, Frantar et al. 2022, arXiv 2210.17323, with G for its Hessian).
    """

    def __init__(self, gram: NDArray[np.float64] | None, shipped: KeptScales | None = None) -> None:
        """Of a table.

        Args:
            gram: (d, d) the mean of u u' over users; None where there are none: then every direction counts alike.
            shipped: scales of an older bundle to keep.
        """
        self._gram, self.shipped = None if gram is None else _near_one(gram), shipped

    def plain(self) -> Coder:
        """The same where no direction is known to matter more."""
        return Coder(None, self.shipped)

    def scale(self, rows: Sequence[NDArray[np.float32]], precision: str) -> np.float32:
        """The best scale for all of some rows, (m, w) for each width w, from their first dimension on."""
        most, largest = LARGEST[precision], max(float(np.abs(values).max(initial=0)) for values in rows)
        if largest <= TINY * most:
            return np.float32(TINY)
        if power := int(_far(np.float32(largest))):
            near = self.scale([np.ldexp(values, -power) for values in rows], precision)
            return np.float32(np.ldexp(near, power))
        tried = [np.float32(largest * cut / most) for cut in CUTS[precision]]
        errors = np.zeros(len(tried))
        for values in rows:
            root = self._root(values.shape[1])
            difference = (to_codes(values, scale, precision) * scale - values for scale in tried)
            errors += [float(np.square(one @ root).sum()) for one in difference]
        return tried[int(np.argmin(errors))]

    def row_scales(self, values: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
        """(m,) the best scale of each row."""
        root = self._root(values.shape[1])
        best = np.empty(len(values), np.float32)
        for part in chunks(len(values), ROWS_AT_ONCE):
            powers = _far(np.abs(values[part]).max(1, initial=0))
            near = np.ldexp(values[part], -powers[:, None]) if powers.any() else values[part]
            best[part] = _best_row_scales(near, root, precision)
            if powers.any():
                best[part] = np.maximum(np.ldexp(best[part], powers), TINY)
        return best

    def codes(self, values: NDArray[np.float32], scale: Any, precision: str) -> NDArray[np.int32]:
        """(m, w) codes around 0 of rows from their first dimension on, `scale` one number or (m,); int4 with error
        feedback."""
        scale = np.asarray(scale, np.float32).reshape(-1)
        if self._gram is None or precision == "int8":
            return to_codes(values, scale[:, None], precision)
        upper = self._feedback(values.shape[1])
        # By dimension, so that every step works on neighbours in memory.
        left = values.T.astype(np.float32, order="C")
        codes = np.empty(left.shape, np.int32)
        for at, row in enumerate(left):
            codes[at] = to_codes(row, scale, precision)
            error = (row - codes[at] * scale) / upper[at, at]
            for later in range(at + 1, len(left)):
                left[later] -= error * upper[at, later]
        return codes.T

    def _damped(self, width: int) -> NDArray[np.float64]:
        if self._gram is None:
            return np.eye(width)
        gram = self._gram[:width, :width]
        damped: NDArray[np.float64] = gram + np.eye(width) * (DAMPING * np.trace(gram) / width + float(TINY))
        return damped

    def _root(self, width: int) -> NDArray[np.float32]:
        """(w, w) L with G = L L'."""
        return np.linalg.cholesky(self._damped(width)).astype(np.float32)

    def _feedback(self, width: int) -> NDArray[np.float32]:
        """(w, w) the upper Cholesky factor of G's inverse: row j spreads the error of dimension j over later ones."""
        return np.linalg.cholesky(np.linalg.inv(self._damped(width))).T.astype(np.float32)


def _far(largest: Any) -> NDArray[np.int32]:
    """The binary exponent of values whose squares leave float32's range, or nearly; 0 for all others."""
    exponent: NDArray[np.int32] = np.frexp(largest)[1]
    return np.where(np.abs(exponent) > FAR, exponent, 0).astype(np.int32)


def _near_one(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix times a power of four where its trace is far from 1: no choice depends on its scale."""
    trace = float(np.trace(gram))
    exponent = math.frexp(trace)[1]
    return np.ldexp(gram, -2 * (exponent // 2)) if trace and abs(exponent) > 2 * FAR else gram


def _best_row_scales(values: NDArray[np.float32], root: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    most, largest = np.float32(LARGEST[precision]), np.abs(values).max(1, initial=0)
    best, lowest = np.full(len(values), TINY, np.float32), np.full(len(values), np.inf, np.float32)
    for cut in CUTS[precision]:
        scale = np.maximum(largest * np.float32(cut) / most, TINY)[:, None]
        shipped = np.rint(values / scale)
        np.clip(shipped, -most, most, out=shipped)
        shipped *= scale
        shipped -= values
        error = np.square(shipped @ root).sum(1)
        best, lowest = np.where(error < lowest, scale[:, 0], best), np.minimum(error, lowest)
    return best

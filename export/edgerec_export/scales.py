"""Quantising so that scores, and with them ranks, change least: scales and rounding for inner products with users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.values import LARGEST, TINY, to_codes

SAMPLE = 16_384
"""Rows that a block's scale is chosen on."""
CUTS = {"int8": np.linspace(0.7, 1.0, 7), "int4": np.linspace(0.3, 1.0, 15)}
"""Largest codes tried for a block, as shares of its largest value: what is larger is cut to it."""
DAMPING = 0.01
GRAM_ROWS = 1 << 17


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

    def __init__(self, gram: NDArray[np.float64] | None) -> None:
        """`gram` (d, d): the mean of u u' over users; None where there are none: then every direction counts alike."""
        self._gram = gram

    def scale(self, values: NDArray[np.float32], precision: str) -> np.float32:
        """The best scale for a block, from (m, w) of its rows, each from its first dimension on."""
        most, largest = LARGEST[precision], float(np.abs(values).max(initial=0))
        if largest <= TINY * most:
            return np.float32(TINY)
        tried = [np.float32(largest * cut / most) for cut in CUTS[precision]]
        root = self._root(values.shape[1])
        errors = [
            float(np.square((to_codes(values, scale, precision) * scale - values) @ root).sum()) for scale in tried
        ]
        return tried[int(np.argmin(errors))]

    def row_scales(self, values: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
        """(m,) the best scale of each row."""
        most, largest = LARGEST[precision], np.abs(values).max(1, initial=0)
        root = self._root(values.shape[1])
        best, lowest = np.full(len(values), TINY, np.float32), np.full(len(values), np.inf)
        for cut in CUTS[precision]:
            scale = np.maximum(largest * cut / most, TINY).astype(np.float32)
            difference = to_codes(values, scale[:, None], precision) * scale[:, None] - values
            error = np.square(difference @ root).sum(1)
            best, lowest = np.where(error < lowest, scale, best), np.minimum(error, lowest)
        return best

    def codes(self, values: NDArray[np.float32], scale: Any, precision: str) -> NDArray[np.int32]:
        """(m, w) codes around 0 of rows from their first dimension on, `scale` one number or (m,); int4 with error
        feedback."""
        scale = np.asarray(scale, np.float32).reshape(-1)
        if self._gram is None or precision == "int8":
            return to_codes(values, scale[:, None], precision)
        upper = self._feedback(values.shape[1])
        left, codes = values.astype(np.float32), np.empty(values.shape, np.int32)
        flat_scale = np.broadcast_to(scale, (len(values),))
        for column in range(values.shape[1]):
            codes[:, column] = to_codes(left[:, column], flat_scale, precision)
            error = (left[:, column] - codes[:, column] * flat_scale) / upper[column, column]
            left[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
        return codes

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

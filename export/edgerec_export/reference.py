"""What a bundle must answer, in numpy: for int8 the integer arithmetic replayed, not the floats it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec_export.blocks import PackedTable

ROWS_AT_ONCE = 1 << 17
"""Bounds the memory of float64 copies."""


def _values(packed: PackedTable) -> NDArray[Any]:
    """(n_rows, d) codes of an integer table, values of any other."""
    return packed.dense() if packed.scales is None else packed.codes()


class Reference:
    """Scores of packed tables, in bundle rows."""

    def __init__(
        self, items: PackedTable, users: PackedTable | None, weights: NDArray[np.float32] | None = None
    ) -> None:
        self._items, self._weights = items, weights
        self._largest = float(np.abs(items.dense()).max())
        self._users = None if users is None else (_values(users), users.row_scales())
        self._rows = _values(items)

    @property
    def d(self) -> int:
        """Dimensions of a decoded row."""
        return self._items.plan.d

    @property
    def n_items(self) -> int:
        return self._items.plan.n_rows

    def scores(self, subject: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, n_items) scores.

        Args:
            subject: (B,) user rows, or (B, H) histories padded with -1 where there are no users.
        """
        vectors, scale = self._vectors(subject)
        exact = np.empty((len(vectors), self.n_items))
        for start in range(0, self.n_items, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            exact[:, rows] = vectors.astype(np.float64) @ self._rows[rows].T.astype(np.float64)
        exact *= scale[:, None].astype(np.float64)
        exact *= self._items.row_scales().astype(np.float64)
        return exact

    def slack(self, subject: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B,) how far a score may be off: rounding, and one step of a quantised history vector."""
        vectors, scale = self._vectors(subject)
        size = np.abs(vectors.astype(np.float64) * scale[:, None]).sum(1) * self._largest
        quantised_here = self._users is None and self._items.scales is not None
        step = scale.astype(np.float64) * self._largest if quantised_here else 0.0
        allowed: NDArray[np.float64] = 1e-5 * size + 1e-6 + step
        return allowed

    def _vectors(self, subject: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._users is not None:
            rows, scales = self._users
            return rows[subject], scales[subject]
        return self._from_history(subject)

    def _from_history(self, history: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._weights is None:
            raise ValueError("without users there must be history weights")
        present = history >= 0
        weight = np.where(present, self._weights[np.maximum(history, 0)], np.float32(0))
        rows = self._rows[np.maximum(history, 0)] * self._items.row_scales()[np.maximum(history, 0)][..., None]
        vectors = np.einsum("bh,bhd->bd", weight, rows.astype(np.float32))
        if self._items.scales is None:
            return vectors, np.ones(len(vectors), np.float32)
        scale = np.maximum(np.abs(vectors).max(1) / np.float32(127), np.finfo(np.float32).tiny).astype(np.float32)
        return np.rint(vectors / scale[:, None]).astype(np.int32), scale

"""What a bundle must answer, in numpy: for int8 the integer arithmetic replayed, not the floats it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec_export.blocks import PackedTable


class Reference:
    """Scores of packed tables, in bundle rows."""

    def __init__(
        self, items: PackedTable, users: PackedTable | None, weights: NDArray[np.float32] | None = None
    ) -> None:
        self._items, self._users, self._weights = items, users, weights
        self._rows: NDArray[Any] = items.codes() if items.scales is not None else items.dense()

    @property
    def n_items(self) -> int:
        return self._items.plan.n_rows

    def scores(self, subject: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, n_items) scores.

        Args:
            subject: (B,) user rows, or (B, H) histories padded with -1 where there are no users.
        """
        vectors, scale = self._vectors(subject)
        exact = vectors.astype(np.float64) @ self._rows.T.astype(np.float64)
        return exact * scale[:, None].astype(np.float64) * self._items.row_scales().astype(np.float64)

    def slack(self, subject: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B,) how far a score may be off: rounding, and one step of a quantised history vector."""
        vectors, scale = self._vectors(subject)
        largest = np.abs(self._items.dense()).max()
        size = np.abs(vectors.astype(np.float64) * scale[:, None]).sum(1) * largest
        step = 0.0 if self._users is not None or self._items.scales is None else scale.astype(np.float64) * largest
        allowed: NDArray[np.float64] = 1e-5 * size + 1e-6 + step
        return allowed

    def _vectors(self, subject: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._users is not None:
            packed = self._users
            rows = packed.codes() if packed.scales is not None else packed.dense()
            return rows[subject], packed.row_scales()[subject]
        return self._from_history(subject)

    def _from_history(self, history: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._weights is None:
            raise ValueError("without users there must be history weights")
        present = history >= 0
        weight = np.where(present, self._weights[np.maximum(history, 0)], np.float32(0))
        vectors = np.einsum("bh,bhd->bd", weight, self._items.dense()[np.maximum(history, 0)])
        if self._items.scales is None:
            return vectors, np.ones(len(vectors), np.float32)
        scale = np.maximum(np.abs(vectors).max(1) / np.float32(127), np.finfo(np.float32).tiny).astype(np.float32)
        return np.rint(vectors / scale[:, None]).astype(np.int32), scale

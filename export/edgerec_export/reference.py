"""What a bundle must answer, in numpy: for integers the integer arithmetic replayed, not the floats it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.models.scorer import NeuMFScorer
from edgerec_export.cost import decoded_bytes
from edgerec_export.onnx import ShippedEncoder, ShippedScorer
from edgerec_export.values import LARGEST, TINY, chunks, spread

if TYPE_CHECKING:
    from edgerec_export.pack import PackedTable

ROWS_AT_ONCE = 1 << 16
"""Bounds the memory of float64 copies."""
SCORED_AT_ONCE = 1 << 10
"""Items that a scorer sees at once, for the same reason."""


class Reference:
    """Scores of packed tables, in bundle rows."""

    def __init__(
        self,
        items: PackedTable,
        users: PackedTable | None,
        encoder: ShippedEncoder | None = None,
        inverse_norms: NDArray[np.float32] | None = None,
        lookup: PackedTable | None = None,
        scorer: NeuMFScorer | None = None,
    ) -> None:
        self._items, self._users, self._encoder, self._inverse_norms = items, users, encoder, inverse_norms
        self._lookup = lookup or items
        self._scorer = scorer
        self._integer = items.plan.is_integer
        self._largest = float(np.abs(items.rows(spread(self.n_items, ROWS_AT_ONCE))).max())

    @property
    def d(self) -> int:
        """Dimensions of a decoded row."""
        return self._items.plan.d

    @property
    def n_items(self) -> int:
        return self._items.plan.n_rows

    def decoded_bytes(self, batch: int) -> int:
        """Bytes of what the graphs decode of the items at a time, for so many users."""
        scorer = None if self._scorer is None else ShippedScorer(self._scorer)
        return decoded_bytes(self._items.plan, scorer, batch)

    @property
    def takes_vectors(self) -> bool:
        """Whether users are given as vectors, which a graph of their own makes from histories."""
        return self._encoder is not None and self._encoder.in_own_graph

    def encoded(self, history: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, d) users' vectors of histories (B, H) padded with -1."""
        if self._encoder is None:
            raise ValueError("without users there must be an encoder")
        return self._encoder.vectors(history, self._lookup)

    def rounding(self, history: NDArray[np.int64], found: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B,) the error (L2) of the vectors `found` that float32 explains and scores do not see."""
        if self._encoder is None:
            raise ValueError("without users there must be an encoder")
        return self._encoder.rounding(history, found, self._lookup)

    @property
    def has_similar(self) -> bool:
        """Whether the inverse lengths of items ship, which cosines take."""
        return self._inverse_norms is not None

    def scores(self, subject: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, len(places)) scores of the items in these places.

        Args:
            subject: (B,) int64 user rows, (B, H) int64 histories padded with -1, or (B, d) float32 vectors: what the
                graph takes.
        """
        if self._scorer is not None:
            return self._made(self._scorer, subject, places)
        return self._products(*self._vectors(subject), places)

    def _made(
        self,
        scorer: NeuMFScorer,
        subject: NDArray[Any],
        places: NDArray[np.int64],
        of: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    ) -> NDArray[np.float64]:
        vectors, scale = self._vectors(subject)
        users = of(vectors.astype(np.float64) * scale[:, None])
        found = np.empty((len(users), len(places)))
        for part in chunks(len(places), SCORED_AT_ONCE):
            found[:, part] = scorer.scores(users, of(self._items.rows(places[part]).astype(np.float64)))
        return found

    def cosines(self, items: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len(items), len(places)) cosines, by the shipped inverse lengths."""
        if self._inverse_norms is None:
            raise ValueError("without inverse lengths there are no cosines")
        dots = self._products(self._items.values(items), self._items.row_scales(items), places)
        inverse = self._inverse_norms.astype(np.float64)
        return dots * inverse[items][:, None] * inverse[places]

    def _products(
        self,
        vectors: NDArray[Any],
        scale: NDArray[np.float32],
        places: NDArray[np.int64],
        of: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    ) -> NDArray[np.float64]:
        """(B, len(places)) products with the item rows, of the values as they are or of their magnitudes."""
        found = np.empty((len(vectors), len(places)))
        wide = of(vectors.astype(np.float64))
        for part in chunks(len(places), ROWS_AT_ONCE):
            rows = of(self._items.values(places[part]).astype(np.float64))
            found[:, part] = wide @ rows.T * self._items.row_scales(places[part]).astype(np.float64)
        found *= scale[:, None].astype(np.float64)
        return found

    def slack(self, subject: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, len(places)) how far scores may be off: by the rounding of what they are sums of, and one step of a
        vector that is quantised in the graph."""
        if self._scorer is not None:
            made: NDArray[np.float64] = 1e-5 * self._made(self._scorer.magnitudes(), subject, places, np.abs)
            return made
        vectors, scale = self._vectors(subject)
        if self._users is None and not self.takes_vectors:
            # The graph sums each value over the history: one that cancels is as far off as the largest is.
            vectors = np.broadcast_to(np.abs(vectors).max(1, keepdims=True), vectors.shape)
        allowed = 1e-5 * self._products(vectors, scale, places, np.abs)
        if self._users is None and self._integer:
            allowed += scale.astype(np.float64)[:, None] * self._largest
        return allowed

    def _vectors(self, subject: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._users is not None:
            return self._users.values(subject), self._users.row_scales(subject)
        vectors = subject if self.takes_vectors else self.encoded(subject)
        if not self._integer:
            return vectors, np.ones(len(vectors), np.float32)
        scale = np.maximum(np.abs(vectors).max(1) / np.float32(LARGEST["int8"]), TINY).astype(np.float32)
        return np.rint(vectors / scale[:, None]).astype(np.int32), scale

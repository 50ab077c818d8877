"""The numpy reference of a bundle's answers; integer precisions use the integer arithmetic of the graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.models.scorer import NeuMFScorer
from edgerec.tables.codes import LARGEST, TINY
from edgerec_export.cost import decoded_bytes
from edgerec_export.layouts import EllPlan
from edgerec_export.onnx import StoredEncoder, StoredScorer
from edgerec_export.thin import FEWEST_COLUMNS
from edgerec_export.values import chunks, rows_at_once, spread

if TYPE_CHECKING:
    from edgerec_export.pack import PackedTable

ROWS_AT_ONCE = 1 << 16
"""Rows that are converted to float64 at a time, which limits memory."""
TERMS_AT_ONCE = 1 << 20
"""Number of products of values that are summed at a time for rows of few values, which limits memory."""
SCORED_AT_ONCE = 1 << 10
"""Number of items that a scorer scores at a time, which limits memory."""


class Reference:
    """Scores of packed tables, by bundle row."""

    def __init__(
        self,
        items: PackedTable,
        users: PackedTable | None,
        encoder: StoredEncoder | None = None,
        inverse_norms: NDArray[np.float32] | None = None,
        lookup: PackedTable | None = None,
        scorer: NeuMFScorer | None = None,
    ) -> None:
        self._items, self._users, self._encoder, self._inverse_norms = items, users, encoder, inverse_norms
        self._lookup = lookup or items
        self._scorer = scorer
        self._integer = items.plan.is_integer
        some = spread(self.n_items, ROWS_AT_ONCE)
        parts = chunks(some.size, rows_at_once(items.plan.d, ROWS_AT_ONCE))
        self._largest = max(float(np.abs(items.rows(some[part])).max()) for part in parts)

    @property
    def d(self) -> int:
        """Dimensions of a decoded row."""
        return self._items.plan.d

    @property
    def n_items(self) -> int:
        return self._items.plan.n_rows

    def decoded_bytes(self, batch: int) -> int:
        """Return the bytes of items that the graphs decode at a time, for this number of users."""
        scorer = None if self._scorer is None else StoredScorer(self._scorer)
        return decoded_bytes(self._items.plan, scorer, batch)

    @property
    def takes_vectors(self) -> bool:
        """True if graphs take user vectors, which the graph `encode` computes from histories."""
        return self._encoder is not None and self._encoder.in_own_graph

    def encoded(self, history: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (B, d) user vectors of histories (B, H) padded with -1."""
        if self._encoder is None:
            raise ValueError("without users there must be an encoder")
        return self._encoder.vectors(history, self._lookup)

    def rounding(self, history: NDArray[np.int64], found: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the (B,) error (L2) of `found` that float32 rounding explains and that does not change scores."""
        if self._encoder is None:
            raise ValueError("without users there must be an encoder")
        return self._encoder.rounding(history, found, self._lookup)

    @property
    def has_similar(self) -> bool:
        """True if the bundle stores inverse norms of items, for cosines."""
        return self._inverse_norms is not None

    def scores(self, subject: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (B, len(places)) scores of the items in these places.

        Args:
            subject: the input of the graph: (B,) int64 user rows, (B, H) int64 histories padded with -1, or (B, d)
                float32 vectors.
        """
        if self._scorer is not None:
            return self._scorer_scores(self._scorer, subject, places)
        return self._products(*self._vectors(subject), places)

    def _scorer_scores(
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
        """Return the (len(items), len(places)) cosines, by the stored inverse norms."""
        if self._inverse_norms is None:
            raise ValueError("cosines need inverse norms")
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
        """Return the (B, len(places)) products with item rows; `of` maps both factors first, such as to magnitudes."""
        found = np.empty((len(vectors), len(places)))
        wide, plan = of(vectors.astype(np.float64)), self._items.plan
        if isinstance(plan, EllPlan) and plan.d >= FEWEST_COLUMNS:
            for part in chunks(len(places), max(TERMS_AT_ONCE // (len(wide) * plan.widest), 1)):
                for mine, columns, values in plan.stored(self._items.arrays, places[part]):
                    found[:, part.start + mine] = (wide[:, columns] * of(values.astype(np.float64))).sum(2)
            found *= self._items.row_scales(places).astype(np.float64)
        else:
            for part in chunks(len(places), ROWS_AT_ONCE):
                rows = of(self._items.values(places[part]).astype(np.float64))
                found[:, part] = wide @ rows.T * self._items.row_scales(places[part]).astype(np.float64)
        found *= scale[:, None].astype(np.float64)
        return found

    def slack(self, subject: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (B, len(places)) tolerance of scores.

        It covers rounding of the terms of a score, and one step of a vector that the graph quantises.
        """
        if self._scorer is not None:
            tolerance: NDArray[np.float64] = 1e-5 * self._scorer_scores(
                self._scorer.magnitudes(), subject, places, np.abs
            )
            return tolerance
        vectors, scale = self._vectors(subject)
        if self._users is None and not self.takes_vectors:
            # The graph sums each value over the history, so all values have the absolute error of the largest.
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

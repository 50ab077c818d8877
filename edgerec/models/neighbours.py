"""The nearest neighbours of each item, weighted by ridge regression on them: an item-item model of few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE
from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.models.base import Backbone, SizePlan, State, Vectors
from edgerec.models.encoder import Encoded, LinearEncoder
from edgerec.models.settings import check_range
from edgerec.models.sparse_items import item_table

if TYPE_CHECKING:
    import scipy.sparse

    Matrix = scipy.sparse.csr_array[Any, Any]

REGS = (10.0, 30.0, 100.0, 300.0, 1000.0)
"""Regularizations to choose from."""
MOST_ITEMS = 1 << 16
"""Items whose columns bundles store in two bytes."""
_ROWS = 512
"""Rows of the items' Gram matrix that are in memory at once."""
_SOLVED_AT_ONCE = 2048
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints, Floats, Floats]
"""Pairs of items i < j, their weights, and the (n_items,) roots of the items' precisions."""


@dataclass(frozen=True)
class NeighboursConfig:
    """Settings of nearest neighbours.

    Attributes:
        reg: the ridge penalty, in interactions; None to choose it on validation.
        candidates: items that each item is regressed on, those of the largest cosines; memory is 4 * candidates^2 bytes
            an item.
    """

    reg: float | None = None
    candidates: int = 50

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("reg", self.reg, 1e-3, 1e9)
        check_range("candidates", self.candidates, 1, 1e4)


class ItemRegression:
    """The regressions of all items on their candidates, for any regularization."""

    def __init__(self, train: Interactions, candidates: int) -> None:
        """Find the candidates of each item, and count the users that they share."""
        self.train = train
        self._solved_pairs: tuple[float, Pairs] | None = None
        self._counts = np.maximum(train.item_counts(), 1).astype(np.float64)
        self._n = train.n_items
        most = min(candidates, max(self._n - 1, 1))
        # A candidate of -1 is none: it reads the zero at the end of a row of the Gram matrix.
        self._candidates = np.full((self._n, most), -1, np.int64)
        self._shared = np.zeros((self._n, most))
        self._among = np.zeros((self._n, most, most), np.float32)
        matrix = train.matrix()
        for item, others, counts in _gram_rows(matrix):
            own = others != item
            others, counts = others[own], counts[own]
            if len(others) > most:
                chosen = np.argpartition(-counts / np.sqrt(self._counts[others]), most - 1)[:most]
                others, counts = others[chosen], counts[chosen]
            self._candidates[item, : len(others)], self._shared[item, : len(others)] = others, counts
        flat = self._candidates.ravel()
        order = np.argsort(flat, kind="stable")
        ends = np.searchsorted(flat[order], np.arange(self._n + 1))
        row = np.zeros(self._n + 1, np.float32)
        for item, others, counts in _gram_rows(matrix):
            of, place = np.divmod(order[ends[item] : ends[item + 1]], most)
            row[others] = counts
            self._among[of, place] = row[self._candidates[of]]
            row[others] = 0

    def pairs(self, reg: float) -> Pairs:
        """Return the pairs of items with their partial correlations; those of the last regularization are stored."""
        if self._solved_pairs is None or self._solved_pairs[0] != reg:
            self._solved_pairs = reg, self._pairs(reg)
        return self._solved_pairs[1]

    def _pairs(self, reg: float) -> Pairs:
        weights, precisions = self._solved(reg)
        roots = np.sqrt(precisions)
        known = self._candidates >= 0
        items, others = np.nonzero(known)[0], self._candidates[known]
        # EASE's weight of i for j is -P[i, j] / P[j, j], P the precisions; this is -P[i, j] / sqrt(P[i, i] P[j, j]).
        correlations = weights[known] * roots[items] / roots[others]
        pairs, places, counts = np.unique(
            np.minimum(items, others) * self._n + np.maximum(items, others), return_inverse=True, return_counts=True
        )
        means = np.bincount(places, correlations, len(pairs)) / counts
        first, second = np.divmod(pairs, self._n)
        return first, second, means, roots

    def _solved(self, reg: float) -> tuple[Floats, Floats]:
        """Return weights (n_items, candidates) of the regressions, and their precisions (n_items,)."""
        weights, precisions = np.empty_like(self._shared), np.empty(self._n)
        diagonal = np.arange(self._candidates.shape[1])
        for start in range(0, self._n, _SOLVED_AT_ONCE):
            part = slice(start, start + _SOLVED_AT_ONCE)
            gram = self._among[part].astype(np.float64)
            gram[:, diagonal, diagonal] += reg
            weights[part] = np.linalg.solve(gram, self._shared[part, :, None])[:, :, 0]
            explained = (self._shared[part] * weights[part]).sum(axis=1)
            precisions[part] = 1 / (self._counts[part] + reg - explained)
        return weights, precisions


def _gram_rows(matrix: Matrix) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Yield each item with the items of its users, itself among them, and the numbers of users that they share."""
    items = matrix.T.tocsr()
    for start in range(0, items.shape[0], _ROWS):
        rows = (items[start : start + _ROWS] @ matrix).tocsr()
        for at in range(rows.shape[0]):
            part = slice(rows.indptr[at], rows.indptr[at + 1])
            yield start + at, rows.indices[part], rows.data[part]


def in_rows(first: Ints, second: Ints, weights: Floats, room: Ints) -> tuple[Ints, Ints, Floats]:
    """Assign pairs of positive weight to the row of either item, the largest first, while one of them has room.

    Args:
        room: (n_items,) pairs that each row can have.

    Returns:
        The row, the other item and the weight of each assigned pair.
    """
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    left, rows, taken = room.tolist(), [], []
    for pair, one, other in zip(order.tolist(), first[order].tolist(), second[order].tolist(), strict=True):
        row = one if left[one] >= left[other] else other
        if left[row]:
            left[row] -= 1
            rows.append(row)
            taken.append(pair)
    chosen, into = np.array(taken, np.int64), np.array(rows, np.int64)
    return into, first[chosen] + second[chosen] - into, weights[chosen]


class NeighboursTrainer:
    """The regressions of one regularization, whose largest weights fill the rows that `sizes` gives room to."""

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: NeighboursConfig,
        seed: int,
        threads: int | None,
        device: str,
    ) -> None:
        """Start a fit; `seed`, `threads` and `device` are unused. Raises UnsupportedError for too many items."""
        if train.n_items > MOST_ITEMS:
            raise UnsupportedError(
                f"neighbours takes at most {MOST_ITEMS} items, since bundles store a column in two bytes, got "
                f"{train.n_items}; train lae, or leave rare items out with --min-item"
            )
        self._train, self._sizes, self._config = train, sizes, config
        self._regression: ItemRegression | None = None

    def begin(self, start: Callable[[], ItemRegression]) -> None:
        found = start()
        if len(found.train) == len(self._train):  # a final training has more interactions
            self._regression = found

    def epoch(self) -> dict[str, float]:
        """Solve all regressions."""
        self._found()
        return {}

    def vectors(self) -> Vectors:
        """Return the table and the encoder, as `sparse_items` and without dense rows."""
        first, second, weights, roots = self._found()
        sizes = np.full(self._train.n_items, self._sizes.d) if self._sizes.items is None else self._sizes.items
        table = item_table(*in_rows(first, second, weights, sizes - 1), 1 / roots)
        users, items = (np.zeros((n, 0), np.float32) for n in self._train.shape)
        return Vectors(users, items, LinearEncoder(np.square(roots).astype(np.float32)), sparse_items=table)

    def state(self) -> State:
        """Return nothing that is trained: the interactions and the settings give the same table."""
        return {"reg": np.array(self._config.reg)}

    def restore(self, state: State) -> None:
        return

    def _found(self) -> Pairs:
        if self._regression is None:
            self._regression = ItemRegression(self._train, self._config.candidates)
        return self._regression.pairs(float(self._config.reg or 0.0))


class Neighbours(Backbone):
    """The nearest neighbours of each item, with weights of a regression on them.

    Each item is regressed on the `candidates` items with the largest cosine to it, with a ridge penalty: SLIM after
    selection of features (Ning and Karypis 2011, fsSLIM), by squares alone. With all items as candidates it is EASE
    (Steck 2019, arXiv 1905.03375). The weight of a pair is its partial correlation, the mean of both items'
    regressions. The pairs with the largest weights are taken first, each into the row of its items that has more room,
    so that rows of d values, of which the item itself is one, have almost d - 1 pairs an item. The score of item j is
    the sum over items i of the history of root[i] / root[j] times the weight of the pair, with the roots of the items'
    precisions, and of small terms of the neighbours that both have.

    For the 41,000 items of Gowalla a penalty takes 13 s of a processor.
    """

    name: ClassVar[str] = "neighbours"
    config: ClassVar[type[Any]] = NeighboursConfig
    trainer_class = NeighboursTrainer
    user_table: ClassVar[bool] = False
    sparse_rows: ClassVar[bool] = True
    cpu_only: ClassVar[bool] = True
    max_epochs: ClassVar[int] = 1
    patience: ClassVar[int] = 1
    axes: ClassVar[Mapping[str, Sequence[float]]] = MappingProxyType({"reg": REGS})
    typical: ClassVar[Mapping[str, float]] = MappingProxyType({"reg": 100.0})

    def for_precision(
        self, config: NeighboursConfig, precision: str, *, whole_bundle: bool = False
    ) -> NeighboursConfig:
        """Return the same settings. Raises UnsupportedError for values of less than a byte."""
        if BITS_PER_VALUE[precision] < 8:
            raise UnsupportedError(
                f"neighbours has no precision {precision}, since the column of a value takes more bytes than the "
                "value; choose int8, fp16 or fp32"
            )
        return config

    def shared_start(
        self, train: Interactions, d: int, config: NeighboursConfig, seed: int, device: str = "cpu"
    ) -> ItemRegression:
        """Return the candidates of all items, which no regularization changes."""
        return ItemRegression(train, config.candidates)

    def encode(
        self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None
    ) -> Encoded | None:
        """Return the weights of a history; users have no dense vectors."""
        return None if vectors.encoder is None else Encoded(vectors.encoder, vectors.users)

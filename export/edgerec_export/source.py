"""What can be exported: tables with raw ids, from a run or brought along."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.budget import Budget
from edgerec.errors import ExportError
from edgerec.models.encoder import Encoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table
from edgerec.tables.paging import forget_pages
from edgerec.tables.texts import Texts, as_texts, is_text
from edgerec.training import Run
from edgerec_export.values import chunks

ROWS_AT_ONCE = 1 << 16
NEAR = (2.0**-30, 2.0**30)
"""Largest values whose squares, and products of those with others, are float32 numbers."""


@dataclass(frozen=True)
class Source:
    """Tables and what belongs to them; score(u, i) = users[u] . items[i], or what a scorer makes of the two rows.

    Attributes:
        items: (n_items, d).
        item_ids: (n_items,) int64 or str, unique.
        users: (n_users, d), or None where a user is made from a history.
        user_ids: as item_ids; None where there are no users.
        encoder: makes a user's vector from a history, for bundles without users; None where there is no way.
        item_counts: (n_items,) interactions of each item, by which bundles without users rank for an empty history;
            None where they are not known.
        titles: (n_items,) str, '' where unknown.
        budget_bytes: of the whole bundle, that the tables were trained for; None without one.
        about: for the manifest and the model card; JSON.
        scorer: of the rows of NCF models; None for inner products.
        trained: whether a run left the tables, and no one brought them along.
    """

    items: Table
    item_ids: NDArray[Any]
    users: Table | None = None
    user_ids: NDArray[Any] | None = None
    encoder: Encoder | None = None
    item_counts: NDArray[Any] | None = None
    titles: Texts | None = None
    budget_bytes: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    scorer: NeuMFScorer | None = None
    trained: bool = False

    def __post_init__(self) -> None:
        """Raises ExportError where the parts do not fit together."""
        if self.users is None and self.encoder is None:
            raise ExportError("a bundle needs a user table, or an encoder to make a user's vector from a history")
        if self.users is not None and self.users.d != self.items.d:
            raise ExportError(f"user rows have {self.users.d} dimensions and item rows {self.items.d}; they must agree")
        if self.scorer is not None and self.scorer.d != self.items.d:
            raise ExportError(f"the scorer takes rows of {self.scorer.d} dimensions, the tables have {self.items.d}")
        self._check_ids("item", self.item_ids, self.items)
        if self.item_counts is not None:
            _check_numbers("item counts", self.item_counts, (self.items.n_rows,))
        if isinstance(self.encoder, LinearEncoder):
            shapes = {"weights": (self.items.n_rows,), "matrix": (self.items.d, self.items.d), "bias": (self.items.d,)}
            for name, array in self.encoder.arrays().items():
                _check_numbers(f"an encoder's {name}", array, shapes[name])
        if self.users is not None:
            self._check_ids("user", self.user_ids, self.users)

    @staticmethod
    def _check_ids(side: str, ids: NDArray[Any] | None, table: Table) -> None:
        if ids is None or ids.shape != (table.n_rows,):
            got = 0 if ids is None else ids.size
            raise ExportError(f"{table.n_rows} {side} rows need as many ids, got {got}")
        if ids.dtype.kind not in "iu" and not (is_text(ids) and _all_text(ids)):
            raise ExportError(f"{side} ids must be integers or text, got {ids.dtype}")
        if np.unique(ids).size != ids.size:
            raise ExportError(f"{side} ids repeat; every row needs an id of its own")


def near_one(source: Source) -> Source:
    """The source, with tables times powers of two if their largest values are far from 1.

    Scores are multiplied by their product: for what compares them, and squares them in float32.
    """
    users = None if source.users is None else _near_one(source.users)
    return replace(source, items=_near_one(source.items), users=users)


def _near_one(table: Table) -> Table:
    largest = float(np.abs(table.values).max(initial=0))
    if not largest or NEAR[0] <= largest <= NEAR[1]:
        return table
    return times(table, -round(math.log2(largest)))


def times(table: Table, power: int) -> Table:
    """A table times 2^power."""
    values = np.ldexp(table.values, power)
    if isinstance(table, SparseTable):
        return SparseTable(values, table.columns, table.pointers, table.d)
    return DenseTable(values) if isinstance(table, DenseTable) else PrefixTable(values, table.row_sizes, table.d)


def from_run(run: Run) -> Source:
    """What a training run leaves."""
    asked = run.config["budget"]
    budget = None if asked is None else Budget.parse(asked)
    return Source(
        run.items,
        run.item_ids,
        run.users,
        run.user_ids if run.users is not None else None,
        run.encoder,
        run.item_counts,
        run.titles,
        None if budget is None or budget.kind != "bytes" else int(budget.amount),
        run.about(),
        run.scorer,
        trained=True,
    )


def from_arrays(
    items: ArrayLike,
    users: ArrayLike | None,
    *,
    item_ids: Any = None,
    user_ids: Any = None,
    encoder: Encoder | None = None,
    item_counts: ArrayLike | None = None,
    scorer: NeuMFScorer | None = None,
    about: dict[str, Any] | None = None,
) -> Source:
    """Your own (n_items, d) and (n_users, d) tables; without ids, row numbers are the ids.

    Rows that end in zeros are taken as shorter: a prefix mask is found where there is one.

    Args:
        users: None for a bundle without users, which needs an encoder.
        encoder: makes a user's vector from a history: `LinearEncoder(weights)`, or for factors of an implicit ALS
            `LeastSquaresEncoder(alpha, reg)`.
        item_counts: (n_items,) by which such a bundle ranks for an empty history.
        scorer: of the rows of NCF models; None for inner products.

    Raises:
        TableError: not finite matrices.
        ExportError: ids or dimensions that do not fit.
    """
    item_table, user_table = _table(items), None if users is None else _table(users)
    return Source(
        item_table,
        _ids(item_ids, item_table),
        user_table,
        None if user_table is None else _ids(user_ids, user_table),
        encoder,
        None if item_counts is None else np.asarray(item_counts),
        about={"backbone": "own table", "method": "own table", **(about or {})},
        scorer=scorer,
    )


def from_embedding(items: Any, users: Any, *, item_ids: Any = None, user_ids: Any = None) -> Source:
    """Two `torch.nn.Embedding` layers (anything with a `weight` tensor)."""
    weights = [layer.weight.detach().cpu().numpy() for layer in (items, users)]
    about = {"backbone": "torch.nn.Embedding"}
    return from_arrays(weights[0], weights[1], item_ids=item_ids, user_ids=user_ids, about=about)


def from_implicit(model: Any, *, item_ids: Any = None, user_ids: Any = None) -> Source:
    """A fitted matrix-factorisation model of the `implicit` package (anything with item_factors and user_factors)."""
    tables = []
    for name in ("item_factors", "user_factors"):
        factors = getattr(model, name, None)
        if factors is None:
            raise ExportError(f"the model has no {name}; fit it first")
        tables.append(factors.to_numpy() if hasattr(factors, "to_numpy") else np.asarray(factors))
    about = {"backbone": f"implicit {type(model).__name__}"}
    return from_arrays(tables[0], tables[1], item_ids=item_ids, user_ids=user_ids, about=about)


def _all_text(ids: NDArray[Any]) -> bool:
    return ids.dtype.kind == "U" or all(isinstance(one, str) for one in ids.tolist())


def _check_numbers(what: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ExportError(f"{what} must be finite numbers of shape {shape}, got {array.dtype} of shape {array.shape}")


def _ids(ids: Any, table: Table) -> NDArray[Any]:
    if ids is None:
        return np.arange(table.n_rows)
    texts = as_texts(ids)
    return np.asarray(ids) if texts is None else texts


def _table(values: ArrayLike) -> Table:
    dense = DenseTable(values)
    sizes = np.empty(dense.n_rows, np.int64)
    for part in chunks(dense.n_rows, ROWS_AT_ONCE):
        used = dense.values[part] != 0
        sizes[part] = np.where(used.any(1), dense.d - used[:, ::-1].argmax(1), 1)
        forget_pages(dense.values)
    return dense if (sizes == dense.d).all() else PrefixTable.from_dense(dense.values, sizes)

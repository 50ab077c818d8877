"""Sources of an export: tables with raw ids, from a run or from your own arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.budget import Budget
from edgerec.errors import ExportError
from edgerec.models.encoder import Encoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.runtime.manifest import LIMITS
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table
from edgerec.tables.paging import forget_pages
from edgerec.tables.texts import Texts, as_texts, is_text
from edgerec.training import Run
from edgerec_export.layouts import hashes
from edgerec_export.values import chunks

ROWS_AT_ONCE = 1 << 16
NEAR = (2.0**-30, 2.0**30)
"""Range of largest values whose squares, and products of squares, are normal float32 numbers."""


@dataclass(frozen=True)
class Source:
    """Tables to export, with their ids; score(u, i) = users[u] . items[i], or that of a scorer of the two rows.

    Attributes:
        items: (n_items, d).
        item_ids: (n_items,) int64 or str, unique.
        users: (n_users, d); None if an encoder computes user vectors from histories.
        user_ids: as item_ids; None without users.
        encoder: computes a user's vector from a history, for bundles without users; None if there is none.
        item_counts: (n_items,) interactions of each item, which rank items for an empty history; None if unknown.
        titles: (n_items,) str, '' if unknown.
        attributes: (n_items,) str of each further attribute, by its name; '' if unknown.
        budget_bytes: size of the whole bundle for which the tables were trained; None without such a budget.
        about: facts for the manifest and the model card, as JSON.
        scorer: scorer of NCF models; None for inner products.
        trained: True if the tables are those of a run, False for your own arrays.
        takes_vectors: True if apps of a bundle without users may pass vectors of their own too: the encoder has a graph
            of its own, and rows are stored in the basis of `items`, with all its dimensions.
        older_texts: the different texts of attributes in an older bundle, by name, which keep their numbers.
    """

    items: Table
    item_ids: NDArray[Any]
    users: Table | None = None
    user_ids: NDArray[Any] | None = None
    encoder: Encoder | None = None
    item_counts: NDArray[Any] | None = None
    titles: Texts | None = None
    attributes: Mapping[str, Texts] = field(default_factory=dict)
    budget_bytes: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    scorer: NeuMFScorer | None = None
    trained: bool = False
    takes_vectors: bool = False
    older_texts: Mapping[str, Texts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ExportError if shapes, ids or dtypes do not fit together."""
        if self.users is None and self.encoder is None:
            raise ExportError("a bundle needs a user table, or an encoder that computes user vectors from histories")
        if self.users is not None and self.users.d != self.items.d:
            raise ExportError(f"user rows have {self.users.d} dimensions and item rows {self.items.d}; they must agree")
        if self.scorer is not None and self.scorer.d != self.items.d:
            raise ExportError(f"the scorer takes rows of {self.scorer.d} dimensions, the tables have {self.items.d}")
        self._check_ids("item", self.item_ids, self.items)
        if self.item_counts is not None:
            _check_numbers("item counts", self.item_counts, (self.items.n_rows,))
            if (self.item_counts < 0).any():
                raise ExportError(f"item counts must be from 0 up, got {self.item_counts.min()}")
        if isinstance(self.encoder, LinearEncoder):
            shapes = {"weights": (self.items.n_rows,), "matrix": (self.items.d, self.items.d), "bias": (self.items.d,)}
            for name, array in self.encoder.arrays().items():
                _check_numbers(f"an encoder's {name}", array, shapes[name])
        if self.users is not None:
            self._check_ids("user", self.user_ids, self.users)

    @cached_property
    def item_hashes(self) -> NDArray[np.int64]:
        """(n_items,) hash of each text id. Raises ExportError, UnsupportedError."""
        return hashes("item", self.item_ids)

    @cached_property
    def user_hashes(self) -> NDArray[np.int64] | None:
        """(n_users,) hash of each text id; None without users. Raises ExportError, UnsupportedError."""
        return None if self.user_ids is None else hashes("user", self.user_ids)

    @cached_property
    def coded_attributes(self) -> list[tuple[Texts, NDArray[Any]]]:
        """The different texts of each attribute, and (n_items,) the number of each item's."""
        found = [_numbered(texts, self.older_texts.get(name)) for name, texts in self.attributes.items()]
        return [(texts, codes.astype(np.min_scalar_type(len(texts) - 1))) for texts, codes in found]

    @cached_property
    def packed_ids(self) -> dict[Any, tuple[str, dict[str, NDArray[Any]]]]:
        """Packed ids of the last drafts, by side, ids and row order."""
        return {}

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
    """Return the source with each table scaled by a power of two so that its largest value is near 1.

    Scores change by the product of both powers, so the result serves only to compare scores in float32.
    """
    users = None if source.users is None else _near_one(source.users)
    return replace(source, items=_near_one(source.items), users=users)


def _near_one(table: Table) -> Table:
    largest = float(np.abs(table.values).max(initial=0))
    if not largest or NEAR[0] <= largest <= NEAR[1]:
        return table
    return times(table, -round(math.log2(largest)))


def times(table: Table, power: int) -> Table:
    """Return a table times 2^power."""
    values = np.ldexp(table.values, power)
    if isinstance(table, SparseTable):
        return SparseTable(values, table.columns, table.pointers, table.d)
    return DenseTable(values) if isinstance(table, DenseTable) else PrefixTable(values, table.row_sizes, table.d)


def from_run(run: Run, *, attributes: Mapping[str, Any] | None = None) -> Source:
    """Return the tables of a training run.

    Args:
        attributes: (n_items,) texts of each further attribute of items, by its name and in the order of `run.item_ids`;
            '' for items without it.

    Raises ExportError for attributes that do not fit the items.
    """
    requested = run.config["budget"]
    budget = None if requested is None else Budget.parse(requested)
    return Source(
        run.items,
        run.item_ids,
        run.users,
        run.user_ids if run.users is not None else None,
        run.encoder,
        run.item_counts,
        run.titles,
        attributes_of(attributes or {}, run.items),
        None if budget is None or budget.kind != "bytes" else int(budget.amount),
        run.about(),
        run.scorer,
        trained=True,
    )


def from_arrays(
    items: ArrayLike,
    users: ArrayLike | None = None,
    *,
    item_ids: Any = None,
    user_ids: Any = None,
    encoder: Encoder | None = None,
    item_counts: ArrayLike | None = None,
    titles: Sequence[str] | NDArray[Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    scorer: NeuMFScorer | None = None,
    about: dict[str, Any] | None = None,
) -> Source:
    """Return your own (n_items, d) and (n_users, d) tables as a source.

    Zeros at the end of a row are not stored in mixed layouts: the tables become prefix tables if there are any.

    With `items` alone, a user is the mean of the rows of a history, the sum of its distinct rows divided by their
    number, or any vector that the app passes: rows keep their basis and their dimensions.

    Args:
        items: (n_items, d) finite numbers.
        users: (n_users, d) finite numbers; None for a bundle without users.
        item_ids, user_ids: one unique integer or text for each row; None for row numbers.
        encoder: computes a user's vector from a history: `LinearEncoder(weights)`, or for factors of implicit ALS
            `LeastSquaresEncoder(alpha, reg)`; None without users for the mean of the rows.
        item_counts: (n_items,) interactions, which rank popular items.
        titles: (n_items,) titles, '' for items without one.
        attributes: (n_items,) texts of each further attribute of items, by its name; '' for items without it.
        scorer: scorer of NCF models; None for inner products.
        about: facts for the manifest and the model card, as JSON.

    Raises:
        TableError: a table is not a finite matrix.
        ExportError: ids, titles, attributes or dimensions do not fit the tables.
    """
    item_table, user_table = _table(items), None if users is None else _table(users)
    of_mean = users is None and encoder is None
    if of_mean:
        encoder = LinearEncoder(np.ones(item_table.n_rows, np.float32), power=1)
    return Source(
        item_table,
        ids_of(item_ids, item_table),
        user_table,
        None if user_table is None else ids_of(user_ids, user_table),
        encoder,
        None if item_counts is None else np.asarray(item_counts),
        None if titles is None else titles_of(titles, item_table),
        attributes_of(attributes or {}, item_table),
        about={"backbone": "own table", "method": "own table", **(about or {})},
        scorer=scorer,
        takes_vectors=of_mean,
    )


def from_embedding(items: Any, users: Any, *, item_ids: Any = None, user_ids: Any = None) -> Source:
    """Return the tables of two `torch.nn.Embedding` layers (anything with a `weight` tensor) as a source."""
    weights = [layer.weight.detach().cpu().numpy() for layer in (items, users)]
    about = {"backbone": "torch.nn.Embedding"}
    return from_arrays(weights[0], weights[1], item_ids=item_ids, user_ids=user_ids, about=about)


def from_implicit(model: Any, *, item_ids: Any = None, user_ids: Any = None) -> Source:
    """Return the tables of a fitted model of the `implicit` package (anything with item_factors and user_factors)."""
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


def ids_of(ids: Any, table: Table) -> NDArray[Any]:
    if ids is None:
        return np.arange(table.n_rows)
    texts = as_texts(ids)
    return np.asarray(ids) if texts is None else texts


def titles_of(titles: Any, table: Table, what: str = "titles") -> Texts:
    texts = as_texts(titles)
    found = np.asarray(titles) if texts is None else texts
    if not is_text(found) or not _all_text(found) or found.shape != (table.n_rows,):
        raise ExportError(f"{table.n_rows} item rows need as many {what}, got {found.dtype} of shape {found.shape}")
    return found


def attributes_of(attributes: Mapping[str, Any], table: Table) -> dict[str, Texts]:
    names = list(attributes)
    if len(names) > LIMITS["attributes"] or not all(isinstance(name, str) and name for name in names):
        raise ExportError(
            f"a bundle has at most {LIMITS['attributes']} attributes of items, each with a name, got {names}"
        )
    return {name: titles_of(values, table, f"texts of {name!r}") for name, values in attributes.items()}


def _table(values: ArrayLike) -> Table:
    dense = DenseTable(values)
    sizes = np.empty(dense.n_rows, np.int64)
    for part in chunks(dense.n_rows, ROWS_AT_ONCE):
        used = dense.values[part] != 0
        sizes[part] = np.where(used.any(1), dense.d - used[:, ::-1].argmax(1), 1)
        forget_pages(dense.values)
    return dense if (sizes == dense.d).all() else PrefixTable.from_dense(dense.values, sizes)


def _numbered(texts: Texts, older: Texts | None) -> tuple[Texts, NDArray[np.int64]]:
    """Return the different texts, and (n,) the number of each.

    They ascend; those of an older bundle keep their numbers in it, and the others, or those whose numbers became too
    large, take the free ones in ascending order, so that few rows change in a patch.
    """
    found, codes = np.unique(texts, return_inverse=True)
    if older is None:
        return found, codes
    number = {text: place for place, text in enumerate(older.tolist())}
    places = np.array([number.get(text, found.size) for text in found.tolist()])
    free = places >= found.size
    places[free] = np.setdiff1d(np.arange(found.size), places[~free])
    ordered = np.empty_like(found)
    ordered[places] = found
    return ordered, places[codes]

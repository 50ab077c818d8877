"""Interactions, the first artefact: a sparse user x item matrix with its raw ids."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.ids import MISSING_IDS
from edgerec.errors import DataError
from edgerec.ranks import ALONE, Ranks
from edgerec.tables.texts import Texts, as_texts, is_text, text_array

if TYPE_CHECKING:
    import scipy.sparse

Ids = NDArray[Any]
"""Raw ids, unique: int64, or text as in `edgerec.tables.texts`."""
SHARD = 1 << 22
"""Maximum number of interactions in a shard of users, unless a single user has more."""
COLUMNS = ("indices", "ratings", "timestamps", "parts")
"""Attributes of interactions with a value for each of them; all but the first are optional."""


@dataclass(frozen=True)
class Interactions:
    """A user x item matrix in CSR order; rows and columns are the ranks of the sorted raw ids.

    Build one with `from_pairs`; the constructor trusts its arguments. Data built by `edgerec data build` have ids by
    popularity, and the items of a user by time; their arrays are mapped from files.

    Attributes:
        user_ids: (n_users,) raw ids, unique; int64 or str.
        item_ids: (n_items,) raw ids, unique; int64 or str.
        indptr: (n_users + 1,) int64; user row u owns entries indptr[u]:indptr[u + 1].
        indices: (n,) int32 item rows, ascending inside each user, or by time and then ascending.
        ratings: (n,) float32, or None if the data has none.
        timestamps: (n,) int64 seconds, or None if the data has none.
        titles: (n_items,) str, '' for unknown ones, or None.
        name: name of the data set; '' if it has none.
        categories: (n_items,) str, '' for unknown ones, or None.
        parts: (n,) int8 part of the split that was published with the data: 0 train, 1 validation, 2 test; or None.
    """

    user_ids: Ids
    item_ids: Ids
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    ratings: NDArray[np.float32] | None = None
    timestamps: NDArray[np.int64] | None = None
    titles: Texts | None = field(default=None, repr=False)
    name: str = ""
    categories: Texts | None = field(default=None, repr=False)
    parts: NDArray[np.int8] | None = field(default=None, repr=False)

    @classmethod
    def from_pairs(
        cls,
        users: Any,
        items: Any,
        *,
        ratings: Any = None,
        timestamps: Any = None,
        name: str = "",
    ) -> Interactions:
        """Build from parallel sequences of raw ids; only the latest of repeated pairs stays (the last on ties).

        Args:
            users, items: (n,) integers (not negative) or strings; one kind each.
            ratings: (n,) numbers, all finite, or None.
            timestamps: (n,) integer seconds, or None.

        Raises:
            DataError: lengths differ or are zero, an id is negative or empty, a rating is not finite.
        """
        user_ids, user_rows = _rank(users, "user")
        item_ids, item_rows = _rank(items, "item")
        return cls.from_rows(
            user_ids, user_rows, item_ids, item_rows, ratings=ratings, timestamps=timestamps, name=name
        )

    @classmethod
    def from_rows(
        cls,
        user_ids: Ids,
        user_rows: NDArray[np.int64],
        item_ids: Ids,
        item_rows: NDArray[np.int64],
        *,
        ratings: Any = None,
        timestamps: Any = None,
        parts: NDArray[np.int8] | None = None,
        name: str = "",
    ) -> Interactions:
        """Build from sorted unique ids and (n,) rows of them; the rest is as in `from_pairs`.

        A pair that several parts of the published split have is in the first of them.

        Raises DataError as `from_pairs` does.
        """
        n = len(user_rows)
        if len(item_rows) != n:
            raise DataError(f"users and items differ in length: {n} and {len(item_rows)}")
        if n == 0:
            raise DataError("0 interactions: there is nothing to train on")
        values = _column(ratings, n, "ratings", np.float32)
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"rating {int(np.isfinite(values).argmin()) + 1} of {n} is not a finite number")
        times = _column(timestamps, n, "timestamps", np.int64)

        # The sort is stable: without times, or at equal ones, the input order decides.
        order = np.lexsort((item_rows, user_rows) if times is None else (times, item_rows, user_rows))
        users_sorted, items_sorted = user_rows[order], item_rows[order]
        latest = np.ones(n, bool)
        latest[:-1] = (users_sorted[1:] != users_sorted[:-1]) | (items_sorted[1:] != items_sorted[:-1])
        chosen = order[latest]
        if parts is not None:
            starts = np.concatenate([[0], np.flatnonzero(latest)[:-1] + 1])
            parts = np.minimum.reduceat(parts[order], starts)
        return cls(
            user_ids,
            item_ids,
            _pointers(user_rows[chosen], len(user_ids)),
            item_rows[chosen].astype(np.int32),
            None if values is None else values[chosen],
            None if times is None else times[chosen],
            name=name,
            parts=parts,
        )

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_users, self.n_items

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ranks(self) -> Ranks:
        """The processes that train on these interactions together, each on its users (see `RankInteractions`)."""
        return ALONE

    @property
    def own_users(self) -> slice:
        """The rows of these users among those of all ranks."""
        return slice(0, self.n_users)

    @property
    def own_items(self) -> slice:
        """The rows of the items that this rank solves, among all items."""
        return slice(0, self.n_items)

    @property
    def all_users(self) -> int:
        """Number of users of all ranks together."""
        return self.n_users

    def items_of(self, user_row: int) -> NDArray[np.int32]:
        """Return the item rows of one user, in the order of `indices`."""
        return self.indices[self.indptr[user_row] : self.indptr[user_row + 1]]

    def user_rows(self) -> NDArray[np.int32]:
        """Return (n,) user rows of the interactions."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_counts())

    def user_counts(self) -> NDArray[np.int64]:
        """Return (n_users,) numbers of interactions."""
        return np.diff(self.indptr)

    def all_user_counts(self) -> NDArray[np.int64]:
        """Return (all_users,) numbers of interactions of the users of all ranks; every rank calls this."""
        return self.user_counts()

    def item_counts(self) -> NDArray[np.int64]:
        """Return (n_items,) numbers of interactions."""
        counts = np.zeros(self.n_items, np.int64)
        for start in range(0, len(self), SHARD):  # bincount makes int64 of its whole argument
            counts += np.bincount(self.indices[start : start + SHARD], minlength=self.n_items)
        return counts

    def shards(self) -> Iterator[Interactions]:
        """Yield the interactions by ranges of users, of at most `SHARD` interactions or one user, as views."""
        for first, end in user_ranges(self.indptr):
            yield self.users_between(first, end)

    def users_between(self, first: int, end: int) -> Interactions:
        """Return the interactions of user rows first to end - 1 as a view, with rows counted from `first`."""
        start, stop = self.indptr[[first, end]].tolist()
        columns: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[start:stop] for name in COLUMNS
        }
        return Interactions(
            self.user_ids[first:end],
            self.item_ids,
            self.indptr[first : end + 1] - start,
            **columns,
            titles=self.titles,
            name=self.name,
            categories=self.categories,
        )

    def of_shards(self, shards: Sequence[Interactions]) -> Interactions:
        """Return interactions over the same users and items that consist of `shards`, of consecutive user rows."""
        counts = np.concatenate([shard.user_counts() for shard in shards])
        listed = {name: [getattr(shard, name) for shard in shards] for name in COLUMNS}
        columns: dict[str, Any] = {
            name: None if any(column is None for column in parts) else np.concatenate(parts)
            for name, parts in listed.items()
        }
        return Interactions(
            self.user_ids,
            self.item_ids,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **columns,
            titles=self.titles,
            name=self.name,
            categories=self.categories,
        )

    def stored_parts(self, spec: Mapping[str, Any]) -> tuple[Interactions, Interactions, Interactions] | None:
        """Return the train, validation and test parts of a split that is stored with the data; None if it is not."""
        return None

    def matrix(self) -> scipy.sparse.csr_array[Any, Any]:
        """Return a (n_users, n_items) float32 CSR matrix of ones; needs the 'train' extra."""
        from edgerec.extras import require

        sparse = require("scipy.sparse", "train")
        ones = np.ones(len(self), np.float32)
        result: scipy.sparse.csr_array[Any, Any] = sparse.csr_array((ones, self.indices, self.indptr), shape=self.shape)
        return result

    def by_item(self) -> scipy.sparse.csr_array[Any, Any]:
        """Return the own items' (n, n_users) float32 CSR matrix of ones, with the users of all ranks."""
        transposed: scipy.sparse.csr_array[Any, Any] = self.matrix().T.tocsr()
        return transposed

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """Return the interactions at which `mask` (n,) is True, over the same users and items, rows unchanged."""
        rows = self.user_rows()[mask]
        return Interactions(
            self.user_ids,
            self.item_ids,
            _pointers(rows, self.n_users),
            self.indices[mask],
            None if self.ratings is None else self.ratings[mask],
            None if self.timestamps is None else self.timestamps[mask],
            self.titles,
            self.name,
            self.categories,
            None if self.parts is None else self.parts[mask],
        )

    def filter(self, *, min_user: int = 1, min_item: int = 1) -> Interactions:
        """Drop users and items below a minimum count until none remains (k-core); rows are renumbered.

        Raises DataError if nothing is left.
        """
        users, items = self.user_rows(), self.indices
        alive = np.ones(len(self), bool)
        while True:
            users_ok = np.bincount(users[alive], minlength=self.n_users) >= min_user
            items_ok = np.bincount(items[alive], minlength=self.n_items) >= min_item
            keep = alive & users_ok[users] & items_ok[items]
            if keep.sum() == alive.sum():
                break
            alive = keep
        if not alive.any():
            raise DataError(
                f"0 interactions after filtering with min_user={min_user}, min_item={min_item}; "
                "lower the minimum counts"
            )
        chosen_users, user_rows = np.unique(users[alive], return_inverse=True)
        chosen_items, item_rows = np.unique(items[alive], return_inverse=True)
        return Interactions(
            self.user_ids[chosen_users],
            self.item_ids[chosen_items],
            _pointers(user_rows, len(chosen_users)),
            item_rows.astype(np.int32),
            None if self.ratings is None else self.ratings[alive],
            None if self.timestamps is None else self.timestamps[alive],
            None if self.titles is None else self.titles[chosen_items],
            self.name,
            None if self.categories is None else self.categories[chosen_items],
            None if self.parts is None else self.parts[alive],
        )

    def with_titles(self, titles: dict[Any, str]) -> Interactions:
        """Return the same interactions with item titles looked up by raw id."""
        return replace(self, titles=self._looked_up(titles))

    def with_categories(self, categories: dict[Any, str]) -> Interactions:
        """Return the same interactions with item categories looked up by raw id."""
        return replace(self, categories=self._looked_up(categories))

    def _looked_up(self, texts: dict[Any, str]) -> Texts:
        return text_array([texts.get(item, "") for item in self.item_ids.tolist()])

    def fingerprint(self) -> str:
        """Return the sha256 of ids, pairs, ratings and timestamps in a fixed order and byte order, without titles."""
        digest = hashlib.sha256(b"edgerec.interactions.1")
        for label, array in (
            ("users", self.user_ids),
            ("items", self.item_ids),
            ("indptr", self.indptr),
            ("indices", self.indices),
            ("ratings", self.ratings),
            ("timestamps", self.timestamps),
        ):
            digest.update(f"\n{label}:".encode())
            if array is None:
                digest.update(b"none")
            elif is_text(array):
                for value in array.tolist():
                    encoded = value.encode()
                    digest.update(f"{len(encoded)}:".encode() + encoded)
            else:
                for start in range(0, len(array), SHARD):
                    piece = array[start : start + SHARD]
                    digest.update(np.ascontiguousarray(piece, array.dtype.newbyteorder("<")).view(np.uint8).data)
                    release(array)
        return digest.hexdigest()


def release(array: NDArray[Any] | None) -> None:
    """Give the memory of a mapped file back; it is read again on its next use."""
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def user_ranges(indptr: NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges (first, end) of user rows with at most `SHARD` interactions, or a single user."""
    first, n = 0, len(indptr) - 1
    while first < n:
        end = max(first + 1, int(np.searchsorted(indptr, int(indptr[first]) + SHARD, side="right")) - 1)
        yield first, min(end, n)
        first = end


def _rank(values: Any, what: str) -> tuple[Ids, NDArray[np.int64]]:
    listed = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind == "O" else values
    if isinstance(listed, list | tuple) and any(isinstance(value, str) and "\0" in value for value in listed):
        raise DataError(f"{what} ids must not hold the character NUL")  # NumPy drops it at the end of a text
    texts = as_texts(values)
    array = np.asarray(values) if texts is None else texts
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1:
        raise DataError(f"{what} ids must be one sequence, got {array.ndim} dimensions")
    if texts is None and array.dtype.kind == "O" and (found := as_texts(array)) is not None:
        array = texts = found  # the text columns of pandas
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
            raise DataError(f"{what} id {array.max()} does not fit 63 bits; give such ids as text")
        array = array.astype(np.int64)
        if array.size and array.min() < 0:
            raise DataError(f"{what} id {array.min()} is negative; ids are integers from 0 up, or strings")
    elif array.dtype.kind == "U" or texts is not None:
        if (array == "").any():
            raise DataError(f"an empty {what} id")
    else:
        raise DataError(f"{what} ids must be integers or strings, got {array.dtype}")
    ids, rows = np.unique(array, return_inverse=True)
    if is_text(ids):
        if (missing := np.isin(ids, sorted(MISSING_IDS))).any():
            raise DataError(f"the {what} id {ids[missing][0]!s} stands for a missing value; leave such rows out")
        try:
            "".join(ids.tolist()).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{what} ids must be valid Unicode text: {error}") from error
    return ids, rows.astype(np.int64)


def _column(values: Any, n: int, what: str, dtype: type[np.generic]) -> NDArray[Any] | None:
    if values is None:
        return None
    given = np.asarray(values)
    if given.dtype.kind == "M":
        if np.isnat(given).any():
            raise DataError(f"{what} must be known: {int(np.isnat(given).argmax()) + 1} of {n} is missing")
        given = given.astype("datetime64[s]").astype(np.int64)
    if dtype is np.int64 and given.dtype.kind == "u" and given.size and given.max() > np.iinfo(np.int64).max:
        raise DataError(f"{what} must fit 63 bits, got {given.max()}")
    try:
        # Values that do not fit become infinite, or other integers, and are refused by their value.
        with np.errstate(over="ignore", invalid="ignore"):
            array = given.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{what} must be numbers: {error}") from error
    if dtype is np.int64 and given.dtype.kind == "f" and not np.array_equal(array, given):
        raise DataError(f"{what} must be whole numbers")
    if array.shape != (n,):
        raise DataError(f"{what} must have one value an interaction: {n} expected, got shape {array.shape}")
    return array


def _pointers(sorted_rows: NDArray[Any], n: int) -> NDArray[np.int64]:
    pointers = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(sorted_rows, minlength=n), out=pointers[1:])
    return pointers

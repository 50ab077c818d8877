"""Raw ids to bundle rows and back, by a binary search in each block of the mapped file, without a dictionary."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.inputs import shown
from edgerec.runtime.manifest import RowsEntry

RawId = int | str


class IdIndex(Protocol):
    """An index of raw ids, which ascend inside each block of rows."""

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        """Return the (len(raw),) bundle row of each raw id; -1 for unknown ids."""
        ...

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        """Return the raw id of each bundle row."""
        ...


class StringArray(Sequence[bytes]):
    """n byte strings, stored as one blob and n + 1 offsets."""

    def __init__(self, blob: NDArray[np.uint8], offsets: NDArray[Any]) -> None:
        self._blob = blob
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        return self._blob[int(self._offsets[index]) : int(self._offsets[index + 1])].tobytes()

    def text(self, index: int) -> str:
        """Return one of them as text. Raises BundleError if it is not UTF-8."""
        try:
            found: str = self[index].decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"text {index} of the bundle is damaged ({error}); get the bundle again") from error
        return found


class IntIds:
    """Integer ids, in the narrowest dtype."""

    def __init__(self, entry: RowsEntry, ids: NDArray[Any]) -> None:
        self._blocks = _bounds(entry)
        self._ids = ids

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        found = np.full(len(raw), -1, np.int64)
        limit = np.iinfo(self._ids.dtype)
        wanted, known = _whole_numbers(raw, int(limit.min), int(limit.max))
        wanted = wanted.astype(self._ids.dtype)
        # All ids at once, block by block: a search of each id took longer than the whole recommendation.
        for first, end in self._blocks:
            block = self._ids[first:end]
            at = np.minimum(block.searchsorted(wanted), end - first - 1)
            hit = known & (block[at] == wanted)
            found[hit] = at[hit] + first
        return found

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        ids: list[RawId] = self._ids[rows].tolist()
        return ids


class RowIds:
    """Row numbers as ids, for bundles without raw ids."""

    def __init__(self, entry: RowsEntry) -> None:
        self._rows = entry.rows

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        wanted, known = _whole_numbers(raw, 0, self._rows - 1)
        return np.where(known, wanted, -1)

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        ids: list[RawId] = rows.tolist()
        return ids


class StrIds:
    """Text ids, compared as UTF-8."""

    def __init__(self, entry: RowsEntry, ids: StringArray) -> None:
        self._blocks = _bounds(entry)
        self._ids = ids

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        return np.array([self._row(text) for text in raw], np.int64)

    def _row(self, text: RawId) -> int:
        if not isinstance(text, str):
            return -1
        wanted = text.encode(errors="surrogatepass")  # an unpaired surrogate is an unknown id
        for first, end in self._blocks:
            at = bisect_left(self._ids, wanted, first, end)
            if at < end and self._ids[at] == wanted:
                return at
        return -1

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        return [self._ids.text(row) for row in rows]


def listed(raw: Iterable[RawId]) -> Sequence[RawId]:
    """Return ids as a sequence: of sets and generators too. Raises RequestError for what is no list of ids."""
    if isinstance(raw, (list, tuple)) or (isinstance(raw, np.ndarray) and raw.ndim == 1):
        return cast(Sequence[RawId], raw)
    if isinstance(raw, np.ndarray) and raw.ndim:
        raise RequestError(f"expected a list of ids, got an array of the shape {raw.shape}")
    if isinstance(raw, (str, bytes, np.ndarray)) or not isinstance(raw, Iterable):
        raise RequestError(f"expected a list of ids, got {raw!r}: put it in brackets")
    return list(raw)


def rows_of_ids(index: IdIndex, raw: Iterable[RawId], side: str, count: int) -> NDArray[np.int64]:
    """Return the (number of ids,) bundle rows of raw ids. Raises RequestError for an unknown one.

    Args:
        side: 'item' or 'user', for messages.
        count: rows of that side, for messages.
    """
    ids = listed(raw)
    rows = index.rows(ids)
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        raise RequestError(f"{side} {shown(ids[int(unknown[0])])} is not among the bundle's {count} {side}s")
    return rows


def _whole_numbers(raw: Sequence[RawId], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (len(raw),) ids as int64, 0 for all but integers in low..high, and a mask of these integers."""
    try:
        wanted = np.asarray(raw) if len(raw) else np.empty(0, np.int64)
    except ValueError:  # numbers mixed with lists
        wanted = np.empty(len(raw), object)
    if wanted.dtype.kind in "iu" and wanted.ndim == 1:
        known = (wanted >= low) & (wanted <= high)
        return np.where(known, wanted, 0).astype(np.int64), known
    numbers = [i if isinstance(i, (int, np.integer)) and low <= i <= high else None for i in raw]
    numbers = [None if isinstance(i, (bool, np.bool_)) else i for i in numbers]
    return np.array([i or 0 for i in numbers], np.int64), np.array([i is not None for i in numbers])


def _bounds(entry: RowsEntry) -> list[tuple[int, int]]:
    """Return the first row and the end of each block."""
    ends = np.cumsum([rows for _, rows in entry.blocks]).tolist()
    return list(zip([0, *ends], ends, strict=False))

"""Raw ids to bundle rows and back, straight from the mapped file: a binary search a block, no dictionary."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.manifest import RowsEntry

RawId = int | str


class IdIndex(Protocol):
    """Both directions; ids ascend inside each block of rows."""

    def row(self, raw: RawId) -> int | None:
        """The bundle row of a raw id, or None where it is unknown."""
        ...

    def raw(self, row: int) -> RawId:
        """The raw id of a bundle row."""
        ...


class StringArray(Sequence[bytes]):
    """n byte strings: one blob and n + 1 offsets into it, both as they lie in the file."""

    def __init__(self, blob: NDArray[np.uint8], offsets: NDArray[Any]) -> None:
        self._blob = blob
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        return self._blob[int(self._offsets[index]) : int(self._offsets[index + 1])].tobytes()


class IntIds:
    """Ids that are whole numbers, in the narrowest type that holds them."""

    def __init__(self, entry: RowsEntry, ids: NDArray[Any]) -> None:
        self._blocks = entry.blocks
        self._ids = ids

    def row(self, raw: RawId) -> int | None:
        if isinstance(raw, bool) or not isinstance(raw, (int, np.integer)):
            return None
        limit = np.iinfo(self._ids.dtype)
        if not limit.min <= raw <= limit.max:
            return None
        wanted = self._ids.dtype.type(raw)
        return _find(self._blocks, lambda a, b: a + int(np.searchsorted(self._ids[a:b], wanted)), self._ids, wanted)

    def raw(self, row: int) -> int:
        return int(self._ids[row])


class StrIds:
    """Ids that are text, compared as UTF-8."""

    def __init__(self, entry: RowsEntry, ids: StringArray) -> None:
        self._blocks = entry.blocks
        self._ids = ids

    def row(self, raw: RawId) -> int | None:
        if not isinstance(raw, str):
            return None
        wanted = raw.encode()
        return _find(self._blocks, lambda a, b: bisect_left(self._ids, wanted, a, b), self._ids, wanted)

    def raw(self, row: int) -> str:
        text: str = self._ids[row].decode()
        return text


class RowIds:
    """No ids in the bundle: rows are ids."""

    def __init__(self, entry: RowsEntry) -> None:
        self._rows = entry.rows

    def row(self, raw: RawId) -> int | None:
        known = isinstance(raw, (int, np.integer)) and 0 <= raw < self._rows
        return int(raw) if known else None

    def raw(self, row: int) -> int:
        return int(row)


def _find(blocks: tuple[tuple[int, int], ...], search: Callable[[int, int], int], ids: Any, wanted: Any) -> int | None:
    first = 0
    for _, rows in blocks:
        at = search(first, first + rows)
        if at < first + rows and ids[at] == wanted:
            return at
        first += rows
    return None

"""Raw ids to bundle rows and back, by a binary search in each block of the mapped file, without a dictionary.

Bundles of version 1 store ids as they are; those of version 2 in buckets of neighbouring numbers (`BucketedIds`), or in
groups of texts with common beginnings (`GroupedTexts`): docs/reference/bundle.md, "Ids".
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.inputs import shown
from edgerec.runtime.manifest import RowsEntry

RawId = int | str
OnUnknown = Literal["error", "skip"]
"""Ways to treat ids of a list that the bundle does not know: refuse them, or leave them out."""


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
        return _decoded(self[index], index)

    def find(self, wanted: bytes, first: int, end: int) -> int:
        """Return the row of a text among the ascending rows first..end - 1; -1 if it is not there."""
        at = bisect_left(self, wanted, first, end)
        return at if at < end and self[at] == wanted else -1


class CodedTexts:
    """n texts, each different one stored once, with the number of each row's.

    Attributes:
        texts: the different texts.
    """

    def __init__(self, texts: StringArray, codes: NDArray[Any]) -> None:
        self.texts = texts
        self._codes = codes

    def of(self, rows: slice) -> list[str]:
        """Return the texts of rows. Raises BundleError if they are damaged."""
        codes = self._checked(rows)
        known = {code: self.texts.text(code) for code in np.unique(codes).tolist()}
        return [known[code] for code in codes.tolist()]

    def rows_with(self, value: str) -> NDArray[np.int64]:
        """Return the rows whose text is `value`, or has it as one of its parts separated by `|`. Raises BundleError."""
        wanted = value.encode(errors="surrogatepass")
        matches = np.array([text == wanted or wanted in text.split(b"|") for text in self.texts], bool)
        return np.flatnonzero(matches[self._checked(slice(None))])

    def _checked(self, rows: slice) -> NDArray[Any]:
        codes = self._codes[rows]
        if codes.max(initial=0) >= len(self.texts):
            raise BundleError("the attributes of the bundle are damaged; get the bundle again")
        return codes


def _decoded(text: bytes, index: int) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"text {index} of the bundle is damaged ({error}); get the bundle again") from error


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


BITMAP_IDS = 32
"""Smallest number of ids of a bucket that is a bitmap, if ids have one low byte."""
FEW_IDS = 32
"""Ids that are looked up one by one: numpy takes 20 us for each block of rows, however few ids there are."""
IDS_AT_ONCE = 1 << 12
"""Ids that are looked up together: each may need the 256 bits of its bucket."""


@dataclass(frozen=True)
class _Buckets:
    """The buckets of one block of rows.

    Attributes:
        first: the first id of the block.
        ends: (buckets,) rows of the block up to the end of each bucket.
        starts: (buckets,) offset of each bucket in the section.
        bitmaps: (buckets,) True for a bucket that is a bitmap.
    """

    first: int
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    bitmaps: NDArray[np.bool_]


class BucketedIds:
    """Whole numbers in buckets of 256^L neighbouring ones, stored as L bytes each, or as a bit each."""

    def __init__(self, entry: RowsEntry, section: NDArray[np.uint8]) -> None:
        """Read the counts of the buckets. Raises ValueError if the section is damaged."""
        self._section, self._bounds = section, _bounds(entry)
        self._low = int(section[0]) if section.size else 0
        if not 1 <= self._low <= 7:
            raise ValueError(f"ids of {self._low} low bytes")
        self._blocks, at = [], 1
        for begin, end in self._bounds:
            head = section[at : at + 12].tobytes()
            first, count = int.from_bytes(head[:8], "little", signed=True), int.from_bytes(head[8:], "little")
            at += 12
            if len(head) < 12 or 2 * count > section.size - at:
                raise ValueError("buckets that leave their section")
            counts = np.frombuffer(section[at : at + 2 * count].tobytes(), "<u2").astype(np.int64)
            at += 2 * count
            bitmaps = (counts >= BITMAP_IDS) & (self._low == 1)
            sizes = np.where(bitmaps, 256 // 8, counts * self._low)
            ends, starts = np.cumsum(counts), at + np.cumsum(sizes) - sizes
            at += int(sizes.sum())
            if int(counts.sum()) != end - begin or at > section.size:
                raise ValueError(f"{int(counts.sum())} ids where {end - begin} are promised")
            self._blocks.append(_Buckets(first, ends, starts, bitmaps))
            if not np.array_equal(self._bits(starts[bitmaps]).sum(1), counts[bitmaps]):
                raise ValueError("a bucket with other bits than ids")
        if at != section.size:
            raise ValueError("a section that is longer than its ids")

    def rows(self, raw: Sequence[RawId | None]) -> NDArray[np.int64]:
        wanted, known = _whole_numbers(raw, -(1 << 63), (1 << 63) - 1)
        if len(raw) <= FEW_IDS:
            found = [self._row(one) if is_number else -1 for one, is_number in zip(wanted.tolist(), known, strict=True)]
            return np.array(found, np.int64)
        parts = [slice(start, start + IDS_AT_ONCE) for start in range(0, max(len(wanted), 1), IDS_AT_ONCE)]
        return np.concatenate([self._found(wanted[part], known[part]) for part in parts])

    def _found(self, wanted: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
        found = np.full(len(wanted), -1, np.int64)
        for (begin, _), block in zip(self._bounds, self._blocks, strict=True):
            # A distance from the first id takes 64 bits without a sign; numbers before it become the largest.
            distance = wanted.view(np.uint64) - np.uint64(block.first % (1 << 64))
            bucket = distance >> np.uint64(8 * self._low)
            place = np.flatnonzero(known & (bucket < len(block.ends)) & (found < 0))
            at, low = bucket[place].astype(np.int64), distance[place] & np.uint64((1 << 8 * self._low) - 1)
            rank = self._ranks(block, at, low.astype(np.int64))
            before = np.where(at > 0, block.ends[at - 1], 0)
            found[place] = np.where(rank < 0, -1, begin + before + rank)
        return found

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        ids: list[RawId] = self.numbers(rows).tolist()
        return ids

    def numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the int64 id of each bundle row."""
        if len(rows) <= FEW_IDS:
            return np.array([self._number(row) for row in rows.tolist()], np.int64)
        parts = [slice(start, start + IDS_AT_ONCE) for start in range(0, max(len(rows), 1), IDS_AT_ONCE)]
        return np.concatenate([self._numbers(rows[part]) for part in parts])

    def _numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.zeros(len(rows), np.int64)
        for (begin, end), block in zip(self._bounds, self._blocks, strict=True):
            mine = np.flatnonzero((rows >= begin) & (rows < end))
            inside = rows[mine] - begin
            at = block.ends.searchsorted(inside, side="right")
            rank = inside - np.where(at > 0, block.ends[at - 1], 0)
            low = np.zeros(len(mine), np.uint64)
            dense = block.bitmaps[at]
            bits = np.cumsum(self._bits(block.starts[at[dense]]), 1, dtype=np.int64)
            low[dense] = (bits <= rank[dense, None]).sum(1).astype(np.uint64)
            low[~dense] = self._lows(block.starts[at[~dense]] + rank[~dense] * self._low)
            high = at.astype(np.uint64) << np.uint64(8 * self._low)
            found[mine] = (high + low + np.uint64(block.first % (1 << 64))).view(np.int64)
        return found

    def _row(self, wanted: int) -> int:
        """Return the row of one id; -1 if it is unknown."""
        for (begin, _), block in zip(self._bounds, self._blocks, strict=True):
            distance = (wanted - block.first) % (1 << 64)
            bucket, low = distance >> 8 * self._low, distance & ((1 << 8 * self._low) - 1)
            if bucket >= len(block.ends):
                continue
            before, count, start = self._bucket(block, bucket)
            if block.bitmaps[bucket]:
                bits = self._little(start, 256 // 8)
                if bits >> low & 1:
                    return begin + before + (bits & ((1 << low) - 1)).bit_count()
                continue
            places = range(start, start + count * self._low, self._low)
            place = bisect_left(places, low, key=self._low_at)
            if place < count and self._low_at(places[place]) == low:
                return begin + before + place
        return -1

    def _number(self, row: int) -> int:
        """Return the id of one row."""
        number = next(number for number, (_, end) in enumerate(self._bounds) if row < end)
        block, inside = self._blocks[number], row - self._bounds[number][0]
        bucket = int(block.ends.searchsorted(inside, side="right"))
        before, _, start = self._bucket(block, bucket)
        if block.bitmaps[bucket]:
            bits = self._little(start, 256 // 8)
            for _ in range(inside - before):
                bits &= bits - 1  # without its lowest bit
            low = (bits & -bits).bit_length() - 1
        else:
            low = self._low_at(start + (inside - before) * self._low)
        distance = (bucket << 8 * self._low) + low
        return _signed((block.first + distance) % (1 << 64))

    def _bucket(self, block: _Buckets, bucket: int) -> tuple[int, int, int]:
        """Return the number of ids before a bucket, its own number, and its offset in the section."""
        before = int(block.ends[bucket - 1]) if bucket else 0
        return before, int(block.ends[bucket]) - before, int(block.starts[bucket])

    def _little(self, start: int, size: int) -> int:
        return int.from_bytes(self._section[start : start + size].tobytes(), "little")

    def _low_at(self, start: int) -> int:
        return self._little(start, self._low)

    def _ranks(self, block: _Buckets, at: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each low part in its bucket; -1 if it is not there."""
        rank = np.full(len(at), -1, np.int64)
        dense = block.bitmaps[at]
        bits = self._bits(block.starts[at[dense]])
        own = np.arange(len(bits))
        rank[dense] = np.where(bits[own, low[dense]], np.cumsum(bits, 1, dtype=np.int64)[own, low[dense]] - 1, -1)
        # All binary searches at once: the ends of the ranges in which low parts may be.
        sparse = np.flatnonzero(~dense)
        first, wanted = block.starts[at[sparse]], low[sparse].astype(np.uint64)
        count = block.ends[at[sparse]] - np.where(at[sparse] > 0, block.ends[at[sparse] - 1], 0)
        left, right = np.zeros(len(sparse), np.int64), count.copy()
        while (open_ := np.flatnonzero(left < right)).size:
            middle = (left[open_] + right[open_]) // 2
            less = self._lows(first[open_] + middle * self._low) < wanted[open_]
            left[open_] = np.where(less, middle + 1, left[open_])
            right[open_] = np.where(less, right[open_], middle)
        there = np.flatnonzero(left < count)
        hit = there[self._lows(first[there] + left[there] * self._low) == wanted[there]]
        rank[sparse[hit]] = left[hit]
        return rank

    def _bits(self, starts: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (bitmaps, 256) bits, 0 or 1."""
        content = self._section[starts[:, None] + np.arange(32)]
        return np.unpackbits(content, axis=1, bitorder="little")

    def _lows(self, starts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the low part of an id from each offset."""
        content = np.zeros((len(starts), 8), np.uint8)
        content[:, : self._low] = self._section[starts[:, None] + np.arange(self._low)]
        return content.view("<u8")[:, 0]


HASH = re.compile("[0-9a-f]{16}")


class HashedIds:
    """Text ids that are known by their hashes alone; answers have a hash as 16 hexadecimal digits.

    Requests take these too, if no id has that text.
    """

    def __init__(self, hashes: BucketedIds) -> None:
        self._hashes = hashes

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        texts = [text if isinstance(text, str) and _is_utf8(text) else None for text in raw]
        found = self._hashes.rows([None if text is None else id_hash(text) for text in texts])
        for at in np.flatnonzero(found < 0).tolist():
            text = texts[at]
            if text is not None and HASH.fullmatch(text):
                found[at] = self._hashes.rows([_signed(int(text, 16))])[0]
        return found

    def raw(self, rows: NDArray[np.int64]) -> list[RawId]:
        return [f"{number % (1 << 64):016x}" for number in self._hashes.numbers(rows).tolist()]


def id_hash(text: str) -> int:
    """Return the 64-bit FNV-1a hash of a text id as a bundle of hashed ids stores it, a signed number.

    Answers name an item by `f"{id_hash(text) % 2**64:016x}"`.
    """
    number = 0xCBF29CE484222325
    for byte in text.encode(errors="surrogatepass"):
        number = (number ^ byte) * 0x100000001B3 % (1 << 64)
    return _signed(number)


def _signed(number: int) -> int:
    """Return a number of 64 bits without a sign as the one with a sign that has the same bits."""
    return number - (1 << 64) if number >> 63 else number


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


class GroupedTexts(Sequence[bytes]):
    """Texts in groups, in which each is stored as the length of its beginning in the text before, and its rest."""

    def __init__(self, entry: RowsEntry, section: NDArray[np.uint8]) -> None:
        """Read the sizes of the groups. Raises ValueError if the section is damaged."""
        self._section = memoryview(np.ascontiguousarray(section).data)
        firsts, starts, at = [], [], 0
        for begin, end in _bounds(entry):
            count = int.from_bytes(section[at : at + 4].tobytes(), "little")
            at += 4
            if 5 * count > section.size - at:
                raise ValueError("groups that leave their section")
            rows = section[at : at + count].astype(np.int64)
            sizes = np.frombuffer(section[at + count : at + 5 * count].tobytes(), "<u4").astype(np.int64)
            at += 5 * count
            if int(rows.sum()) != end - begin or not rows.all() or int(sizes.sum()) > section.size - at:
                raise ValueError(f"{int(rows.sum())} ids where {end - begin} are promised")
            firsts.append(begin + np.cumsum(rows) - rows)
            starts.append(at + np.cumsum(sizes) - sizes)
            at += int(sizes.sum())
        if at != section.size:
            raise ValueError("a section that is longer than its ids")
        self._firsts, self._starts = np.concatenate(firsts), np.concatenate(starts)
        self._rows = entry.rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Any) -> Any:
        group = int(self._firsts.searchsorted(index, side="right")) - 1
        return next(islice(self.group(group), int(index) - int(self._firsts[group]), None))

    def text(self, index: int) -> str:
        """Return one of them as text. Raises BundleError if it is not UTF-8."""
        return _decoded(self[index], index)

    def find(self, wanted: bytes, first: int, end: int) -> int:
        """Return the row of a text among the ascending rows first..end - 1; -1 if it is not there."""
        low, high = self._firsts.searchsorted([first, end])
        group = bisect_right(range(low, high), wanted, key=lambda one: next(self.group(one))) + low - 1
        if group < low:
            return -1
        stop = int(self._firsts[group + 1]) if group + 1 < len(self._firsts) else self._rows
        row = int(self._firsts[group])
        for text in islice(self.group(group), stop - row):
            if text == wanted:
                return row
            row += 1
        return -1

    def group(self, number: int) -> Iterator[bytes]:
        """Yield the texts of a group, and of those after it. Raises BundleError if they are damaged."""
        at, text = int(self._starts[number]), b""
        while True:
            shared, at = self._number(at)
            length, at = self._number(at)
            if shared > len(text) or length > len(self._section) - at:
                raise _damaged_text()
            text = text[:shared] + self._section[at : at + length].tobytes()
            at += length
            yield text

    def _number(self, at: int) -> tuple[int, int]:
        """Return the LEB128 number from an offset, and the offset behind it."""
        number = 0
        for place in range(5):
            if at + place >= len(self._section):
                break
            byte = self._section[at + place]
            number |= (byte & 127) << (7 * place)
            if byte < 128:
                return number, at + place + 1
        raise _damaged_text()


def _damaged_text() -> BundleError:
    return BundleError("the ids of the bundle are damaged; get the bundle again")


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

    def __init__(self, entry: RowsEntry, ids: StringArray | GroupedTexts) -> None:
        self._blocks = _bounds(entry)
        self._ids = ids

    def rows(self, raw: Sequence[RawId]) -> NDArray[np.int64]:
        return np.array([self._row(text) for text in raw], np.int64)

    def _row(self, text: RawId) -> int:
        if not isinstance(text, str):
            return -1
        wanted = text.encode(errors="surrogatepass")  # an unpaired surrogate is an unknown id
        for first, end in self._blocks:
            if (row := self._ids.find(wanted, first, end)) >= 0:
                return row
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


def rows_of_ids(
    index: IdIndex, raw: Iterable[RawId], side: str, count: int, on_unknown: OnUnknown | None = None
) -> NDArray[np.int64]:
    """Return the (number of ids,) bundle rows of raw ids. Raises RequestError for an unknown one.

    Args:
        side: 'item' or 'user', for messages.
        count: rows of that side, for messages.
        on_unknown: 'skip' returns the rows of the known ids alone; None is an error that offers no 'skip'.
    """
    if on_unknown is not None and on_unknown not in get_args(OnUnknown):
        raise RequestError(f"on_unknown is 'error' or 'skip', got {on_unknown!r}")
    ids = listed(raw)
    rows = index.rows(ids)
    unknown = np.flatnonzero(rows < 0)
    if unknown.size and on_unknown != "skip":
        said = f"{side} {shown(ids[int(unknown[0])])} is not among the bundle's {count} {side}s"
        if side == "user":
            raise RequestError(f"{said}; export again after training with them, or answer with popular()")
        if on_unknown is None:
            raise RequestError(f"{said}; known() says which ids are")
        raise RequestError(f"{said}; on_unknown='skip' leaves unknown ids of lists out")
    return rows[rows >= 0] if unknown.size else rows


def _whole_numbers(raw: Sequence[RawId | None], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
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

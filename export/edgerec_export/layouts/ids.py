"""Raw ids as a bundle stores them: whole numbers in buckets, texts in groups (docs/reference/bundle.md, "Ids")."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import ExportError, UnsupportedError
from edgerec.runtime.ids import BITMAP_IDS, id_hash
from edgerec.tables.texts import Texts, is_text

if TYPE_CHECKING:
    from edgerec_export.request import ExportRequest

MOST_IN_BUCKET = (1 << 16) - 1
"""Largest number of ids of a bucket: its count has two bytes."""
GROUP_BITS = 15
"""A group of texts begins where these bits of a CRC-32 are zero: at one text in 16, wherever others are added."""
MOST_IN_GROUP = 64


def id_order(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows in ascending order of their ids (text by code point, which is also the order of UTF-8 bytes)."""
    return np.argsort(ids, kind="stable")


def pack_ids(
    side: str, ids: NDArray[Any], blocks: Sequence[int], request: ExportRequest
) -> tuple[str, dict[str, NDArray[Any]]]:
    """Pack the ids of a side, given in the row order of the bundle.

    Args:
        blocks: rows of each block, in which ids ascend.

    Returns:
        The kind of ids for the manifest, and the arrays by section name.

    Raises ExportError for numbers beyond 64 bits, and texts of which two have one hash.
    """
    name = f"{side}_ids"
    if request.ids == "hash64":
        return "hash64", {name: bucketed(ids, blocks)}
    if is_text(ids):
        if not request.is_version_2:
            return "str", pack_strings(name, f"{side}_id_offsets", ids)
        return "str", {name: grouped(ids, blocks)}
    low, high = int(ids.min()), int(ids.max())
    if low < -(1 << 63) or high >= 1 << 63:
        raise ExportError(f"{side} ids from {low} to {high} do not fit 64 bits")
    if request.is_version_2:
        return "int", {name: bucketed(ids.astype(np.int64), blocks)}
    kinds = ("uint8", "uint16", "uint32", "int64")
    narrowest = next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return "int", {name: ids.astype(narrowest)}


def pack_strings(blob: str, offsets: str, texts: Texts) -> dict[str, NDArray[Any]]:
    """Pack n texts as UTF-8, one after the other, with n + 1 offsets."""
    encoded = [text.encode() for text in texts.tolist()]
    ends = np.concatenate([[0], np.cumsum([len(piece) for piece in encoded], dtype=np.int64)])
    kind = np.uint32 if ends[-1] < 2**32 else np.int64
    return {blob: np.frombuffer(b"".join(encoded), np.uint8), offsets: ends.astype(kind)}


def bucketed(ids: NDArray[np.int64], blocks: Sequence[int]) -> NDArray[np.uint8]:
    """Return the section of whole numbers, with the number of low bytes that takes the least.

    Args:
        ids: (n,) int64 in row order, ascending inside each block.
        blocks: rows of each block.
    """
    parts = np.split(ids, np.cumsum(blocks)[:-1])
    sizes = {low: sum(_bucketed_size(part, low) for part in parts) for low in range(1, 8)}
    low = min(sizes, key=lambda one: (sizes[one], one))
    content = bytes([low]) + b"".join(_buckets(part, low) for part in parts)
    return np.frombuffer(content, np.uint8)


def _distances(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    return ids.view(np.uint64) - ids[:1].view(np.uint64)


def _bucketed_size(ids: NDArray[np.int64], low: int) -> float:
    """Return the bytes of a block; infinity if a bucket has too many ids."""
    number = _distances(ids) >> np.uint64(8 * low)
    _, counts = np.unique(number, return_counts=True)
    if counts.max() > MOST_IN_BUCKET:
        return np.inf
    content = np.minimum(counts, 32).sum() if low == 1 else low * len(ids)
    return 12.0 + 2.0 * (int(number[-1]) + 1) + float(content)


def _buckets(ids: NDArray[np.int64], low: int) -> bytes:
    distances = _distances(ids)
    number = (distances >> np.uint64(8 * low)).astype(np.int64)
    counts = np.bincount(number)
    inside = distances.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :low]
    head = int(ids[0]).to_bytes(8, "little", signed=True) + len(counts).to_bytes(4, "little")
    head += counts.astype("<u2").tobytes()
    if low > 1 or counts.max() < BITMAP_IDS:
        return head + inside.tobytes()
    pieces = []
    for part in np.split(inside[:, 0], np.cumsum(counts)[:-1]):
        bits = np.zeros(256, np.uint8)
        bits[part] = 1
        pieces.append(part.tobytes() if len(part) < BITMAP_IDS else np.packbits(bits, bitorder="little").tobytes())
    return head + b"".join(pieces)


def grouped(texts: Texts, blocks: Sequence[int]) -> NDArray[np.uint8]:
    """Return the section of text ids.

    Args:
        texts: (n,) in row order, ascending inside each block.
        blocks: rows of each block.
    """
    encoded = [text.encode() for text in texts.tolist()]
    pieces, at = [], 0
    for rows in blocks:
        groups: list[list[bytes]] = []
        for text in encoded[at : at + rows]:
            if not groups or zlib.crc32(text) & GROUP_BITS == 0 or len(groups[-1]) == MOST_IN_GROUP:
                groups.append([])
            groups[-1].append(text)
        contents = [_group(group) for group in groups]
        pieces.append(len(groups).to_bytes(4, "little"))
        pieces.append(bytes(map(len, groups)))
        pieces.append(np.array([len(content) for content in contents], "<u4").tobytes())
        pieces += contents
        at += rows
    return np.frombuffer(b"".join(pieces), np.uint8)


def _group(texts: list[bytes]) -> bytes:
    content, before = bytearray(), b""
    for text in texts:
        shared, most = 0, min(len(before), len(text))
        while shared < most and before[shared] == text[shared]:
            shared += 1
        content += _leb128(shared) + _leb128(len(text) - shared) + text[shared:]
        before = text
    return bytes(content)


def _leb128(number: int) -> bytes:
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def hashes(side: str, texts: NDArray[Any]) -> NDArray[np.int64]:
    """Return the (n,) int64 hash of each text id.

    Raises ExportError if two have the same, UnsupportedError for ids that are whole numbers.
    """
    if not is_text(texts):
        raise UnsupportedError(f"{side} ids are whole numbers, which take fewer bytes than hashes; leave --ids out")
    found = np.array([id_hash(text) for text in texts.tolist()], np.int64)
    order = np.argsort(found, kind="stable")
    same = np.flatnonzero(np.diff(found[order]) == 0)
    if same.size:
        one, other = (str(texts[int(order[at])]) for at in (same[0], same[0] + 1))
        raise ExportError(f"the ids {one!r} and {other!r} have the same hash; export with --ids raw")
    return found

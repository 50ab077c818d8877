"""Arrays of texts, ids and titles, in memory proportional to their own lengths.

numpy's fixed-width text allocates the length of the longest text for every row: a million ids of which one has 2,000
characters take 8 GB. Such texts are arrays of Python strings (dtype object) in memory, and UTF-8 bytes and offsets on
disk. Others stay fixed-width, which is smaller and sorts faster. Both kinds compare, sort and index alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[Any]
"""Texts: fixed-width (dtype U), or Python strings (dtype object)."""

_SMALL = 1 << 20
"""Bytes up to which texts are fixed-width in any case."""
_WASTE = 4
"""Maximum ratio of the bytes of fixed-width texts to those of Python strings."""
_STRING_BYTES = 57
"""Bytes of a Python string without its characters, and of a pointer to it."""
_BYTES, _OFFSETS = ".utf8", ".offsets"
"""Name endings of the two arrays that represent one of dtype object on disk."""


def is_text(array: NDArray[Any]) -> bool:
    """Return True for arrays of texts, of either kind."""
    return array.dtype.kind in "UO"


def text_array(texts: Sequence[str]) -> Texts:
    """Return (n,) texts in the kind that takes less memory; fixed-width ones lose zero characters at their ends."""
    widest = max(map(len, texts), default=0)
    if _wastes(len(texts), widest, sum(map(len, texts))) or any(text.endswith("\0") for text in texts):
        return _objects(texts)
    return np.array(texts, dtype=np.str_)


def as_texts(values: Any) -> Texts | None:
    """Return a sequence of Python strings as (n,) texts; None for anything else."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind != "O" or values.ndim != 1:
            return None
        values = values.tolist()
    if not isinstance(values, (list, tuple)) or not values or not all(isinstance(value, str) for value in values):
        return None
    return text_array(values)


def join_texts(parts: Iterable[NDArray[Any]]) -> Texts:
    """Concatenate texts; whole numbers among them become texts."""
    listed = [part if is_text(part) else part.astype(np.str_) for part in parts]
    if all(part.dtype.kind == "U" for part in listed):
        n = sum(part.size for part in listed)
        widest = max((part.dtype.itemsize // 4 for part in listed), default=0)
        if not _wastes(n, widest, sum(part.nbytes // 4 for part in listed)):
            return np.concatenate(listed)
    return text_array([text for part in listed for text in part.tolist()])


def storable(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return arrays for an npz file without pickle; texts of dtype object become bytes and offsets.

    Raises ValueError if an array of dtype object holds anything but texts.
    """
    stored: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.dtype.kind != "O":
            stored[name] = array
            continue
        texts = array.tolist()
        if array.ndim != 1 or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the array {name} holds other objects than text")
        encoded = [text.encode() for text in texts]
        stored[name + _BYTES] = np.frombuffer(b"".join(encoded), np.uint8)
        stored[name + _OFFSETS] = np.concatenate([[0], np.cumsum([len(one) for one in encoded], dtype=np.int64)])
    return stored


def restored(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Read the arrays of `storable`. Raises ValueError if bytes and offsets do not fit together."""
    found = {name: array for name, array in arrays.items() if not name.endswith((_BYTES, _OFFSETS))}
    for name in arrays:
        if not name.endswith(_OFFSETS):
            continue
        own = name.removesuffix(_OFFSETS)
        blob, ends = arrays.get(own + _BYTES), arrays[name]
        if (
            blob is None
            or blob.dtype != np.uint8
            or ends.dtype.kind not in "iu"
            or ends.ndim != 1
            or not ends.size
            or ends[0] != 0
            or ends[-1] != blob.size
            or (np.diff(ends) < 0).any()
        ):
            raise ValueError(f"the texts {own} are damaged")
        content, places = blob.tobytes(), ends.tolist()
        pairs = pairwise(places)
        found[own] = _objects([content[begin:end].decode() for begin, end in pairs])
    return found


def _wastes(n: int, widest: int, characters: int) -> bool:
    fixed = 4 * n * widest
    return fixed > _SMALL and fixed > _WASTE * (characters + _STRING_BYTES * n)


def _objects(texts: Sequence[str]) -> Texts:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array

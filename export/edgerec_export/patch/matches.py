"""Copies between similar bytes, for graphs, manifests and arrays without rows."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.patch.patchfile import Copies

KEY = 8
"""Minimum number of equal bytes to copy: a copy takes about 4 bytes after deflating."""
SEARCHED = 1 << 22
"""Size above which no copies are searched for: retrained weights share no bytes with the old ones."""
_COMPARED = 64
"""Number of bytes compared at first; most copies are shorter."""


def byte_copies(old: bytes, new: bytes) -> tuple[Copies, bytes]:
    """Return the copies from `old` that give `new`, and the inserted bytes."""
    if old == new:
        return _copies([(0, len(new), 0)] if new else []), b""
    if max(len(old), len(new)) > SEARCHED:
        return _copies([(0, 0, len(new))]), new
    places, keys = _keys_of(old, new)
    runs: list[tuple[int, int, int]] = []
    literals: list[bytes] = []
    start, count, done = 0, 0, 0  # the last copy, and the number of bytes of `new` before it ends
    following = 0
    while (following := bisect_left(places, done, following)) < len(places):
        at, source = places[following], keys[following]
        expected = start + count + at - done  # most changes replace bytes in place
        if old[expected : expected + KEY] == new[at : at + KEY]:
            source = expected
        back = 0
        while back < min(at - done, source) and old[source - back - 1] == new[at - back - 1]:
            back += 1
        runs.append((start, count, at - back - done))
        literals.append(new[done : at - back])
        length = _agreeing(old, source, new, at)
        start, count, done = source - back, length + back, at + length
    runs.append((start, count, len(new) - done))
    literals.append(new[done:])
    return _copies([run for run in runs if run[1] or run[2]]), b"".join(literals)


def _keys_of(old: bytes, new: bytes) -> tuple[list[int], list[int]]:
    """Return the places in `new` where a key of `old` begins, ascending, and the first place of each key in `old`."""
    of_old, of_new = _windows(old), _windows(new)
    if not of_old.size:
        return [], []
    keys, firsts = np.unique(of_old, return_index=True)
    at = np.minimum(np.searchsorted(keys, of_new), keys.size - 1)
    places = np.flatnonzero(keys[at] == of_new)
    return places.tolist(), firsts[at[places]].tolist()


def _windows(content: bytes) -> NDArray[np.uint64]:
    """Return every KEY consecutive bytes as one number."""
    count = max(0, len(content) - KEY + 1)
    return np.ndarray((count,), np.uint64, content, strides=(1,)).copy()


def _agreeing(old: bytes, source: int, new: bytes, at: int) -> int:
    """Return the number of equal bytes from two places on."""
    most, step = min(len(old) - source, len(new) - at), _COMPARED
    agreed = 0
    while agreed < most:
        size = min(step, most - agreed)
        part, other = old[source + agreed : source + agreed + size], new[at + agreed : at + agreed + size]
        if part != other:
            different = np.frombuffer(part, np.uint8) != np.frombuffer(other, np.uint8)
            return agreed + int(different.argmax())
        agreed, step = agreed + size, 4 * step
    return most


def _copies(runs: list[tuple[int, int, int]]) -> Copies:
    return Copies(*np.array(runs, np.int64).reshape(-1, 3).T)

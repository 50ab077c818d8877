"""Bytes made of similar bytes: what graphs, manifests and arrays without rows change by."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.patch.patchfile import Copies

KEY = 8
"""Bytes that must agree before a run is copied: a copy costs about 4 after deflating."""
SEARCHED = 1 << 22
"""Bytes above which nothing is searched for: weights that were trained again share nothing with what they were."""
_COMPARED = 64
"""Bytes that are compared first; most runs are shorter."""


def byte_copies(old: bytes, new: bytes) -> tuple[Copies, bytes]:
    """How `new` is made of `old`, and the bytes that are inserted."""
    if old == new:
        return _copies([(0, len(new), 0)] if new else []), b""
    if max(len(old), len(new)) > SEARCHED:
        return _copies([(0, 0, len(new))]), new
    places, keys = _keys_of(old, new)
    runs: list[tuple[int, int, int]] = []
    literals: list[bytes] = []
    start, count, done = 0, 0, 0  # the last copy, and how much of `new` is made
    following = 0
    while (following := bisect_left(places, done, following)) < len(places):
        at, source = places[following], keys[following]
        expected = start + count + at - done  # changed bytes in their place are the rule
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
    """Where in `new` a key of `old` begins, ascending, and where it is first found in `old`."""
    of_old, of_new = _windows(old), _windows(new)
    if not of_old.size:
        return [], []
    keys, firsts = np.unique(of_old, return_index=True)
    at = np.minimum(np.searchsorted(keys, of_new), keys.size - 1)
    places = np.flatnonzero(keys[at] == of_new)
    return places.tolist(), firsts[at[places]].tolist()


def _windows(content: bytes) -> NDArray[np.uint64]:
    """Every KEY bytes that follow each other, as one number."""
    count = max(0, len(content) - KEY + 1)
    return np.ndarray((count,), np.uint64, content, strides=(1,)).copy()


def _agreeing(old: bytes, source: int, new: bytes, at: int) -> int:
    """How many bytes agree from there on."""
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

"""Bytes made of similar bytes: what graphs, manifests and arrays without rows change by."""

from __future__ import annotations

import numpy as np

from edgerec.runtime.patchfile import Copies

KEY = 8
"""Bytes that must agree before a run is copied: a copy costs about 4 after deflating."""
SEARCHED = 1 << 22
"""Bytes above which nothing is searched for: weights that were trained again share nothing with what they were."""


def byte_copies(old: bytes, new: bytes) -> tuple[Copies, bytes]:
    """How `new` is made of `old`, and the bytes that are inserted."""
    if old == new:
        return _copies([(0, len(new), 0)] if new else []), b""
    if max(len(old), len(new)) > SEARCHED:
        return _copies([(0, 0, len(new))]), new
    places: dict[bytes, int] = {}
    for at in range(len(old) - KEY, -1, -1):
        places[old[at : at + KEY]] = at
    runs: list[tuple[int, int, int]] = []
    literals = bytearray()
    start, count, pending, at = 0, 0, 0, 0  # the last copy, what was inserted since, and where in `new`
    while at < len(new):
        key = new[at : at + KEY]
        expected = start + count + pending  # changed bytes in their place are the rule
        source = expected if len(key) == KEY and old[expected : expected + KEY] == key else places.get(key)
        if source is None:
            literals.append(new[at])
            pending, at = pending + 1, at + 1
            continue
        back = 0
        while back < min(pending, source) and old[source - back - 1] == new[at - back - 1]:
            back += 1
        if back:
            del literals[-back:]
        runs.append((start, count, pending - back))
        length = _agreeing(old, source, new, at)
        start, count, pending = source - back, length + back, 0
        at += length
    runs.append((start, count, pending))
    return _copies([run for run in runs if run[1] or run[2]]), bytes(literals)


def _agreeing(old: bytes, source: int, new: bytes, at: int) -> int:
    """How many bytes agree from there on."""
    most = min(len(old) - source, len(new) - at)
    different = np.flatnonzero(np.frombuffer(old, np.uint8, most, source) != np.frombuffer(new, np.uint8, most, at))
    return int(different[0]) if different.size else most


def _copies(runs: list[tuple[int, int, int]]) -> Copies:
    return Copies(*np.array(runs, np.int64).reshape(-1, 3).T)

"""Cache of parsed data sets, by the paths and the content of their files: a large set is parsed once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data.interactions import Interactions
from edgerec.data.readers import Reading, ReadReport, read_parts
from edgerec.errors import EdgeRecError, StorageError
from edgerec.files import atomic_write, cache_folder, sha256, storage_failure
from edgerec.tables import load_arrays
from edgerec.tables.texts import storable

_logger = logging.getLogger(__name__)

VERSION = 3
"""Number of the form of entries; another one whenever the same files are read as other interactions."""
MIN_BYTES = 2 << 20
"""Size of the smallest files that are worth an entry."""
MAX_BYTES = 4 << 30
"""Size of all entries; the ones that were used longest ago are removed."""

_OPTIONAL = ("ratings", "timestamps", "titles", "categories", "parts")


def read_cached(
    paths: Sequence[Path], reading: Reading, *, name: str = "", parts: Sequence[int] | None = None
) -> tuple[Interactions, ReadReport]:
    """Read interactions as `read_parts` does, from the cache if these files were read with these options before."""
    try:
        size = sum(path.stat().st_size for path in paths)
    except (OSError, ValueError) as error:
        storage_failure(paths[0], error, "read")
    if size < MIN_BYTES:
        return read_parts(paths, reading, name=name, parts=parts)
    folder = cache_folder("parsed")
    entry = folder / f"{_key(paths, reading, parts)}.npz"
    with suppress(EdgeRecError, KeyError, ValueError, TypeError):  # a damaged entry is written again
        return _load(entry, reading, name)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        reading.tell(line)

    interactions, report = read_parts(paths, replace(reading, tell=tell), name=name, parts=parts)
    try:
        _store(entry, interactions, {"report": asdict(report), "lines": lines})
        _shrink(folder)
    except (StorageError, OSError) as error:
        _logger.info("the parsed data are not cached: %s", error)
    return interactions, report


def _key(paths: Sequence[Path], reading: Reading, parts: Sequence[int] | None) -> str:
    options = {
        "version": VERSION,
        # Messages name the files.
        "files": [[str(path), sha256(path)] for path in paths],
        "encoding": reading.encoding,
        "columns": dict(reading.columns),
        "where": reading.where,
        "min_rating": reading.min_rating,
        "parts": None if parts is None else list(parts),
    }
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _store(entry: Path, interactions: Interactions, about: dict[str, Any]) -> None:
    arrays = {name: getattr(interactions, name) for name in ("user_ids", "item_ids", "indptr", "indices", *_OPTIONAL)}
    present = {name: array for name, array in arrays.items() if array is not None}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with atomic_write(entry, private=True) as stream:
        np.savez(stream, **storable({**present, "about": text}))


def _load(entry: Path, reading: Reading, name: str) -> tuple[Interactions, ReadReport]:
    """Read an entry; its messages are repeated. Raises StorageError, TableError, KeyError, ValueError, TypeError."""
    arrays = load_arrays(entry)
    about = json.loads(arrays.pop("about").tobytes())
    found = Interactions(**arrays, name=name)
    report = ReadReport(**about["report"])
    with suppress(OSError):
        os.utime(entry)
    for line in about["lines"]:
        reading.tell(line)
    return found, report


def _shrink(folder: Path) -> None:
    entries = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.npz")), reverse=True)
    total = 0
    for _, size, path in entries:
        total += size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)

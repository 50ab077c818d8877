"""Files that are either whole or absent: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from edgerec.errors import StorageError


def storage_failure(path: Path, error: OSError, doing: str) -> NoReturn:
    """Turn an OSError into a StorageError of one line that says what to do."""
    reason = error.strerror or str(error)
    raise StorageError(
        f"cannot {doing} {path}: {reason}; free space there, mend its permissions or choose another place"
    ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` only when the block ends without an error.

    Raises StorageError where the file system refuses; what stood at `path` before is then untouched.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        storage_failure(path, error, "write")
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically. Raises StorageError."""
    with atomic_write(path) as stream:
        stream.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, stable to the byte for equal values. Raises StorageError."""
    write_bytes(path, to_json(value))


def to_json(value: Any, *, compact: bool = False) -> bytes:
    """JSON with a newline at its end, stable to the byte for equal values; indented for people unless compact."""
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, **layout) + "\n").encode()


def sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file, read in pieces. Raises StorageError."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        storage_failure(path, error, "read")

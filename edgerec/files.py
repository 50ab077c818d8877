"""Files that are either whole or absent: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from edgerec.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MENDS = {errno.ENOENT: "check the name", errno.EISDIR: "name a file, not a folder"}
"""What to do, by the reason; else to free space, and so on."""


def storage_failure(path: Path, error: OSError, doing: str) -> NoReturn:
    """Turn an OSError into a StorageError of one line that says what to do."""
    reason = error.strerror or str(error)
    usual = "free space there, mend its permissions or choose another place"
    raise StorageError(f"cannot {doing} {path}: {reason}; {_MENDS.get(error.errno or 0, usual)}") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` only when the block ends without an error.

    Raises StorageError where the file system refuses; what stood at `path` before is then untouched.
    """
    target = path.resolve()  # a link keeps pointing to what is written
    if target.exists() and not target.is_file():
        yield from _written_through(path)
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            sync(stream)
        temporary.replace(target)
    except OSError as error:
        storage_failure(path, error, "write")
    finally:
        with suppress(OSError):  # what kept it from being made keeps it from being removed, and has been told
            temporary.unlink(missing_ok=True)


def _written_through(path: Path) -> Iterator[IO[bytes]]:
    """A pipe or a device is written to, never replaced."""
    try:
        with path.open("wb") as stream:
            yield stream
    except OSError as error:
        storage_failure(path, error, "write")


def sync(stream: IO[bytes]) -> None:
    """Bring what was written to the disk itself."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system allows it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that take the same lock out of a folder meanwhile. A killed process leaves no lock behind.

    Where the system locks no folders (Windows), nobody is kept out.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file if it is there. Raises StorageError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        storage_failure(path, error, "delete")


def cache_folder(name: str) -> Path:
    """Where this platform keeps what a program can fetch or make again: edgerec/NAME in the user's cache folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgerec" / name


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

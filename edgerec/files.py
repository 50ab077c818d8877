"""Files that are either whole or absent: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NoReturn

from edgerec.errors import InUseError, StorageError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
"""Name of the lock file in a folder that is being written, on systems that lock no folders."""
_FIXES = {
    errno.ENOENT: "check the name",
    errno.EISDIR: "name a file, not a folder",
    errno.EINVAL: "choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the links that lead to themselves, or name the file itself",
}
"""Advice by error number; others get a general one."""


def storage_failure(path: Path, error: OSError | ValueError | RuntimeError, doing: str) -> NoReturn:
    """Raise a StorageError of one line that says what to do, for an error of the file system.

    Args:
        error: a ValueError for a name that no file can have, a RuntimeError for links that form a cycle.
    """
    number = error.errno or 0 if isinstance(error, OSError) else errno.EINVAL
    reason = (error.strerror if isinstance(error, OSError) else None) or reason_of(error)
    usual = "free space there, fix its permissions or choose another place"
    raise StorageError(f"cannot {doing} {path}: {reason}; {_FIXES.get(number, usual)}") from error


def open_plain(path: Path) -> BufferedReader:
    """Open a regular file for reading; refuse links, which may lead anywhere, and pipes, which may never answer.

    Raises OSError, of kind ELOOP if the name is not that of a regular file.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():  # Windows
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ELOOP, "it is no plain file", str(path))
    return open(handle, "rb")  # noqa: PTH123


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Write a binary file that takes the name `path` only if the block ends without an error.

    Args:
        private: restrict the file, and a folder created for it, to its owner.

    Raises StorageError if the file system refuses; an earlier file at `path` is then unchanged.
    """
    try:
        target = path.resolve()  # a link keeps pointing to what is written
        is_device = target.exists() and not target.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        storage_failure(path, error, "write")
    if is_device:
        yield from _written_through(path)
        return
    temporary: Path | None = None
    try:
        target.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
        remove_leftovers(target.parent, target.name)
        temporary, stream = new_part(target, 0o600 if private else 0o666)
        with stream:
            yield stream
            sync(stream)
            if fcntl is None:
                stream.close()  # Windows renames no open file
            temporary.replace(target)  # locked until renamed, so that no process takes it for a leftover
    except OSError as error:
        storage_failure(path, error, "write")
    finally:
        if temporary is not None:
            with suppress(OSError):  # the failure that prevented its creation was reported already
                temporary.unlink(missing_ok=True)


def new_part(target: Path, mode: int = 0o666) -> tuple[Path, IO[bytes]]:
    """Create a file next to `target`, open for writing and locked until closed: `remove_leftovers` skips it.

    Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = target.with_name(f".{shortened(target.name)}.{secrets.token_hex(4)}.part")
        stream = open(os.open(path, flags, mode), "wb")  # noqa: PTH123, SIM115
        if _lock_new(path, stream.fileno()):
            return path, stream
        stream.close()


@contextmanager
def new_part_folder(target: Path) -> Iterator[Path]:
    """Create a folder next to `target`, locked while the block runs and removed with its content afterwards.

    Raises OSError.
    """
    while True:
        folder = target.with_name(f".{shortened(target.name)}.{secrets.token_hex(4)}.part")
        folder.mkdir(0o700)
        handle = os.open(folder, os.O_RDONLY) if fcntl else os.open(folder / _LOCK, os.O_CREAT | os.O_WRONLY)
        if _lock_new(folder, handle):
            break
        os.close(handle)
    try:
        yield folder
    finally:
        if fcntl is None:
            os.close(handle)
        with suppress(OSError):
            _remove_tree(folder)
        if fcntl is not None:
            os.close(handle)


def _lock_new(path: Path, handle: int) -> bool:
    """Lock a new file or folder; return False if `remove_leftovers` of another process removed it first."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
    except OSError:
        return True  # some network file systems have no locks; `remove_leftovers` removes nothing there


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of ended processes, of one target or of all in a folder."""
    for path in _parts(folder, name):
        with suppress(OSError):
            _remove_leftover(path)


def _remove_tree(folder: Path) -> None:
    import shutil  # takes the runtime time to import, which makes no folders

    shutil.rmtree(folder)


def _parts(folder: Path, name: str | None) -> list[Path]:
    # Older versions named folders by `tempfile`.
    some = r".+\.[0-9a-f]{8}" if name is None else rf"{re.escape(shortened(name))}\.[a-z0-9_]{{8}}"
    named = re.compile(rf"\.{some}\.part", re.DOTALL)
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if named.fullmatch(entry.name) and not entry.is_symlink()]
    except OSError:
        return []


def _remove_leftover(path: Path) -> None:
    """Remove a temporary file or folder. Raises OSError if a process still writes it, or it cannot be removed."""
    if fcntl is None:  # Windows removes no file that is open
        if path.is_dir():
            (path / _LOCK).unlink(missing_ok=True)
            _remove_tree(path)
        else:
            path.unlink()
        return
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            _remove_tree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def shortened(name: str) -> str:
    """Return the first 200 bytes of a name, so that a temporary name based on it stays below 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:200])


def check_folder(folder: Path) -> None:
    """Create a folder if there is none and check that it is writable, before long work that writes into it.

    Raises StorageError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{secrets.token_hex(4)}.part"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        storage_failure(folder, error, "write")


def torn_files(folder: Path) -> list[Path]:
    """Return the temporary files in a folder, of running and of killed processes."""
    return [path for path in _parts(folder, None) if path.is_file()]


def _written_through(path: Path) -> Iterator[IO[bytes]]:
    """Write to a pipe or a device, which is never replaced."""
    try:
        with path.open("wb") as stream:
            yield stream
    except OSError as error:
        storage_failure(path, error, "write")


def sync(stream: IO[bytes]) -> None:
    """Flush a file to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names of a folder to the disk if the system allows it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the block runs. A killed process leaves no lock.

    Does nothing on systems that lock no folders (Windows).
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_bytes(path: Path) -> bytes:
    """Read a whole file. Raises StorageError."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        storage_failure(path, error, "read")


def read_if_there(path: Path) -> bytes | None:
    """Read a whole file; return None if there is none. Raises StorageError."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        storage_failure(path, error, "read")


@contextmanager
def filling(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Create a folder and lock it against other writers while the block runs.

    A killed process leaves no lock; systems that lock no folders (Windows) exclude nobody. Folders created here are
    removed if they are still empty at the end.

    Args:
        waiting: called if another process holds the lock, before this one waits for it; None to fail instead.

    Raises InUseError if another process holds the lock and `waiting` is None; StorageError.
    """
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        handle = _claimed(folder, waiting)
    except (OSError, ValueError) as error:
        storage_failure(folder, error, "write")
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: it was filled
            for path in created:
                path.rmdir()
        if handle is not None:
            os.close(handle)


def _claimed(folder: Path, waiting: Callable[[], None] | None) -> int | None:
    """Create and lock a folder; return the open handle, or None if the system locks no folders."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return None
        handle = os.open(folder, os.O_RDONLY)
        try:
            _lock(handle, folder, waiting)
            if folder.is_dir() and os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed it: try again with the folder that has the name now


def _lock(handle: int, path: Path, waiting: Callable[[], None] | None) -> None:
    """Lock an open file or folder. Raises InUseError as `filling` does."""
    with suppress(OSError):  # some network file systems have no locks
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise InUseError(
                    f"{path} is being written by another process; wait for it to end, or choose another place"
                ) from None
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Lock a file against other writers while the block runs, by a lock file `.NAME.lock` next to it.

    The lock file is removed at the end. On Windows nobody is excluded, as with `filling`.

    Raises InUseError if another process holds the lock; StorageError.
    """
    if fcntl is None:
        yield
        return
    try:
        lock = path.with_name(f".{shortened(path.name)}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, ValueError) as error:
        storage_failure(path, error, "write")
    try:
        _lock(handle, path, None)
        if not lock.exists() or not os.path.samestat(os.fstat(handle), lock.stat()):
            raise InUseError(f"{path} was being written by another process; try again")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file if it is there. Raises StorageError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        storage_failure(path, error, "delete")


def cache_folder(name: str) -> Path:
    """Return edgerec/NAME in the user's cache folder, for files that can be downloaded or built again.

    Raises StorageError for a user without a home.
    """
    return _user_folder("Caches", "XDG_CACHE_HOME", ".cache") / name


def state_folder(name: str) -> Path:
    """Return edgerec/NAME in the user's folder for the state of programs, or NAME in systemd's of a service.

    Raises StorageError for a user without a home.
    """
    of_service = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(of_service or _user_folder("Application Support", "XDG_STATE_HOME", ".local/state"), name)


def _user_folder(of_macos: str, variable: str, of_home: str) -> Path:
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / of_macos
        else:
            base = os.environ.get(variable) or Path.home() / of_home
    except RuntimeError:  # a container's user may have none
        raise StorageError(f"this user has no home folder; set HOME or {variable}") from None
    return Path(base) / "edgerec"


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a whole file atomically, as `atomic_write` does. Raises StorageError."""
    with atomic_write(path, private=private) as stream:
        stream.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, stable to the byte for equal values. Raises StorageError."""
    write_bytes(path, to_json(value))


def append_json(path: Path, value: Any) -> None:
    """Append a line of JSON; it is on the disk when this returns. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(to_json(value, compact=True))
            sync(stream)
    except OSError as error:
        storage_failure(path, error, "write")


def whole_lines(content: bytes) -> bytes:
    """Return the lines that end with a newline: a kill may have truncated the last one."""
    return content[: content.rfind(b"\n") + 1]


def drop_torn_line(path: Path) -> None:
    """Cut off a truncated last line. Raises StorageError."""
    content = read_bytes(path)
    try:
        if len(whole := whole_lines(content)) < len(content):
            os.truncate(path, len(whole))
    except OSError as error:
        storage_failure(path, error, "repair")


def to_json(value: Any, *, compact: bool = False, surrogates: str = "replace") -> bytes:
    """Return JSON with a final newline, stable to the byte for equal values; indented unless compact.

    Args:
        surrogates: handling of unpaired surrogates, which file names that are not UTF-8 contain and readers refuse:
            'replace' by a question mark, 'backslashreplace' to escape.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, **layout) + "\n"
    return text.encode(errors=surrogates)


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in blocks. Raises StorageError."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        storage_failure(path, error, "read")

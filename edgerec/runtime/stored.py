"""The files of a bundle where they are stored: in a folder, or in one file (docs/reference/bundle.md).

Bundles are not trusted: a file is regular and has the size that the manifest promises before it is read or mapped.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from edgerec.errors import BundleError, OutputError
from edgerec.files import atomic_write, new_part_folder, open_plain, storage_failure, sync, sync_folder
from edgerec.outputs import Output, check_outputs, text_of
from edgerec.runtime.manifest import FILE_NAME, LIMITS, FileEntry, Manifest, manifest_bytes, parse_manifest, unreadable

MAGIC = b"edgerecB"
MAJOR, MINOR = LIMITS["major"], 0
"""Version of the form of one file, which is that of the manifest."""
SUFFIX = ".edgerec"
"""Suffix of a bundle in one file, for commands that write one; readers look at the content."""
_HEADER = struct.Struct("<8sHHIII")
ALIGNMENT = 64
"""The tables file begins at a multiple of this in the file."""
LEVEL = 9
AT_ONCE = 1 << 20


class StoredFiles(Protocol):
    """The files of a bundle.

    Attributes:
        place: the folder or the file.
        document: bytes of the manifest.
    """

    place: Path
    document: bytes

    @property
    def nbytes(self) -> int | None:
        """Bytes of the one file; None for a folder."""
        ...

    def name_of(self, entry: FileEntry) -> str:
        """Return the name of a file, for messages."""
        ...

    def content(self, entry: FileEntry, manifest: Manifest) -> bytes:
        """Return the content of a graph or a card, which has the promised size. Raises BundleError, StorageError."""
        ...

    def mapped(self, entry: FileEntry, manifest: Manifest) -> tuple[mmap.mmap, int]:
        """Map the tables file; its first byte has the returned offset. Raises BundleError, StorageError."""
        ...

    def tables_sha256(self, entry: FileEntry) -> str:
        """Return the hexadecimal sha256 of the tables file. Raises BundleError, StorageError."""
        ...


class FolderFiles:
    """The files of a bundle in a folder."""

    def __init__(self, folder: Path) -> None:
        self.place, self.document = folder, manifest_bytes(folder)

    @property
    def nbytes(self) -> None:
        return None

    def name_of(self, entry: FileEntry) -> str:
        return str(self.place / entry.name)

    def content(self, entry: FileEntry, manifest: Manifest) -> bytes:
        with self._opened(entry) as stream:
            try:
                return stream.read(entry.bytes)
            except OSError as error:
                unreadable(self.place / entry.name, error)

    def mapped(self, entry: FileEntry, manifest: Manifest) -> tuple[mmap.mmap, int]:
        with self._opened(entry) as stream:
            return _mapped(self.place / entry.name, stream, entry.bytes), 0

    def tables_sha256(self, entry: FileEntry) -> str:
        with self._opened(entry) as stream:
            return _sha256(self.place / entry.name, stream)

    def _opened(self, entry: FileEntry) -> BufferedReader:
        path = self.place / entry.name
        try:
            stream = open_plain(path)
        except FileNotFoundError:
            raise BundleError(f"{path} is missing: the bundle is incomplete; export it or copy it again") from None
        except OSError as error:
            unreadable(path, error)
        size = os.fstat(stream.fileno()).st_size
        if size != entry.bytes:
            stream.close()
            raise BundleError(f"{path} has {size} bytes where {FILE_NAME} says {entry.bytes}; copy the bundle again")
        return stream


class OneFile:
    """The files of a bundle in one file, which stays open."""

    def __init__(self, path: Path) -> None:
        """Read the head of the file. Raises BundleError if it is damaged, StorageError."""
        self.place = path
        try:
            self._stream = open_plain(path)
            self._size = os.fstat(self._stream.fileno()).st_size
            header = self._stream.read(_HEADER.size)
        except OSError as error:
            unreadable(path, error)
        if len(header) < _HEADER.size:
            raise self._damaged("it is truncated")
        magic, major, _, stored, whole, manifest = _HEADER.unpack(header)
        if magic != MAGIC:
            raise BundleError(f"{path} is no bundle; make one with 'edgerec export RUN --out {path}'")
        if major > MAJOR:
            raise BundleError(
                f"{path} has version {major}.x, this runtime reads up to {MAJOR}; upgrade: pip install -U edgerec"
            )
        if major < MAJOR:
            raise self._damaged(f"its version is {major}")
        if not manifest <= whole <= LIMITS["head_bytes"] or stored > min(whole, self._size - _HEADER.size):
            raise self._damaged("its head is too long")
        self._head = _inflated(self._stream.read(stored), whole)
        if len(self._head) != whole:
            raise self._damaged("its head has another length than promised")
        self.document = self._head[:manifest]
        self._tables_at = _aligned(_HEADER.size + stored)
        self._filled = any(self._stream.read(self._tables_at - _HEADER.size - stored))

    @property
    def nbytes(self) -> int:
        return self._size

    def name_of(self, entry: FileEntry) -> str:
        return f"{self.place}, {entry.name},"

    def content(self, entry: FileEntry, manifest: Manifest) -> bytes:
        at = len(self.document)
        for one in in_head(manifest):
            if one == entry and at + one.bytes <= len(self._head):
                return self._head[at : at + one.bytes]
            at += one.bytes
        raise self._damaged("its head is shorter than its files")

    def mapped(self, entry: FileEntry, manifest: Manifest) -> tuple[mmap.mmap, int]:
        if len(self.document) + sum(one.bytes for one in in_head(manifest)) != len(self._head) or self._filled:
            raise self._damaged("it holds more than its files")
        if self._size != self._tables_at + entry.bytes:
            raise self._damaged(f"it has {self._size} bytes where {self._tables_at + entry.bytes} are promised")
        return _mapped(self.place, self._stream, self._size), self._tables_at

    def tables_sha256(self, entry: FileEntry) -> str:
        self._stream.seek(self._tables_at)
        return _sha256(self.place, self._stream)

    def _damaged(self, reason: str) -> BundleError:
        return BundleError(f"{self.place} is damaged ({reason}); get the bundle again")


def stored_files(place: Path) -> StoredFiles:
    """Open the bundle in a folder or a file. Raises BundleError, StorageError."""
    return OneFile(place) if place.is_file() else FolderFiles(place)


def in_head(manifest: Manifest) -> Sequence[FileEntry]:
    """Return the files that follow the manifest in the head of one file, in their order."""
    return sorted((entry for entry in manifest.files if entry != manifest.tables), key=lambda entry: entry.name)


def _inflated(stored: bytes, whole: int) -> bytes:
    """Return the head, never more than a byte above its length; b'' if it cannot be inflated."""
    if len(stored) == whole:
        return stored
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(stored, whole + 1)
    except zlib.error:
        return b""
    return content if stream.eof and not stream.unused_data else b""


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _mapped(path: Path, stream: BufferedReader, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: truncated after its size was compared
        unreadable(path, error if isinstance(error, OSError) else OSError(str(error)))


def head_of(document: bytes, contents: Sequence[bytes]) -> bytes:
    """Return the first bytes of a file, up to its tables.

    Args:
        document: the manifest.
        contents: the files of `in_head`, in their order.
    """
    head = document + b"".join(contents)
    smaller = zlib.compress(head, LEVEL)
    stored = smaller if len(smaller) < len(head) else head
    start = _HEADER.pack(MAGIC, MAJOR, MINOR, len(stored), len(head), len(document)) + stored
    return start.ljust(_aligned(len(start)), b"\0")


def pack(bundle: str | Path, out: str | Path, *, overwrite: bool = False) -> int:
    """Write a bundle in a folder as one file, and return its bytes.

    Args:
        overwrite: replace a file `out` that is not a bundle.

    Raises:
        OutputError: `out` lies in the bundle, or is a file that is not a bundle.
        BundleError: the bundle is missing or damaged, or its head is larger than readers accept.
        StorageError: the file system refuses.
    """
    check_outputs([one_file_output(out)], [bundle], overwrite=overwrite)
    return write_packed(Path(bundle), Path(out))


def write_packed(bundle: Path, out: Path) -> int:
    """Write a bundle as one file to any place, and return its bytes. Raises BundleError and StorageError as `pack`."""
    files = stored_files(bundle)
    manifest, contents = _checked(files)
    if len(files.document) + sum(map(len, contents)) > LIMITS["head_bytes"]:
        raise BundleError(f"{bundle} has graphs of more than {LIMITS['head_bytes']} bytes; ship it as a folder")
    head = head_of(files.document, contents)
    mapping, at = checked_tables(files, manifest)
    with atomic_write(out) as stream, memoryview(mapping) as tables:
        stream.write(head)
        for start in range(at, len(mapping), AT_ONCE):
            stream.write(tables[start : start + AT_ONCE])
    return len(head) + manifest.tables.bytes


def unpack(file: str | Path, out: str | Path) -> int:
    """Write a bundle in one file as a folder, which must be new or empty, and return its bytes.

    Raises:
        OutputError: `out` exists, and is not an empty folder.
        BundleError: the file is no bundle, or damaged.
        StorageError: the file system refuses.
    """
    folder = Path(out)
    files = stored_files(Path(file))
    manifest, contents = _checked(files)
    mapping, at = checked_tables(files, manifest)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} is there already, and would be overwritten; choose another --out")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_part_folder(folder) as scratch:
            for entry, content in zip(in_head(manifest), contents, strict=True):
                _write(scratch / entry.name, content)
            with memoryview(mapping) as tables:
                _write(scratch / manifest.tables.name, tables[at:])
            _write(scratch / FILE_NAME, files.document)
            scratch.chmod(0o755)
            sync_folder(scratch)
            scratch.rename(folder)  # onto an empty folder too; the scratch folder is then gone
            sync_folder(folder.parent)
    except OSError as error:
        storage_failure(folder, error, "write")
    return manifest.nbytes


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        sync(stream)


def _checked(files: StoredFiles) -> tuple[Manifest, list[bytes]]:
    """Return the manifest, and the files of the head. Raises BundleError for one whose sha256 differs."""
    manifest = parse_manifest(files.document, files.place)
    return manifest, [checked_content(files, entry, manifest) for entry in in_head(manifest)]


def checked_content(files: StoredFiles, entry: FileEntry, manifest: Manifest) -> bytes:
    """Return the content of a graph or a card. Raises BundleError if its sha256 differs, StorageError."""
    content = files.content(entry, manifest)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise _altered(files, entry)
    return content


def checked_tables(files: StoredFiles, manifest: Manifest) -> tuple[mmap.mmap, int]:
    """Map the tables file after a comparison of its sha256. Raises BundleError, StorageError.

    The file is read each time. Its modification time does not prove that it is unchanged: on tmpfs, writing to a mapped
    file does not update the time.
    """
    entry = manifest.tables
    mapped = files.mapped(entry, manifest)  # first, which compares its size
    if files.tables_sha256(entry) != entry.sha256:
        raise _altered(files, entry)
    return mapped


def _sha256(path: Path, stream: BufferedReader) -> str:
    try:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        unreadable(path, error)


def _altered(files: StoredFiles, entry: FileEntry) -> BundleError:
    """Return the error for a file whose sha256 differs."""
    return BundleError(
        f"{files.name_of(entry)} is not the file that {FILE_NAME} describes (sha256 differs); copy the bundle again"
    )


def one_file_output(out: str | Path) -> Output:
    """Return a bundle in one file as an output, which may replace another one."""
    return Output(Path(out), ours=text_of(MAGIC))

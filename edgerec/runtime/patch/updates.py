"""Applying and undoing patches; the folder holds either the old or the new bundle, whole, at every moment.

New files are written under names with the hash of their content, and synced to disk. The old manifest is saved as
manifest.previous.json, and renaming the new manifest installs the bundle. Files of neither manifest are removed
afterwards, and those of a killed process by the next one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgerec.errors import BundleError, PatchError, reason_of
from edgerec.files import atomic_write, locked, open_plain, storage_failure, sync_folder, write_bytes
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import (
    FILE_NAME,
    MOST_BYTES,
    OURS,
    PREVIOUS_NAME,
    FileEntry,
    Manifest,
    manifest_bytes,
    parse_manifest,
    read_manifest,
    unreadable,
)
from edgerec.runtime.patch.patchfile import BYTES_A_RUN, PatchFile, PatchStream, most_inflated, most_result_bytes
from edgerec.runtime.patch.rebuild import RowSources, TablesBuilder, write_tables
from edgerec.signatures import PublicKey, read_public_keys

_UNFINISHED = re.compile(rf"\.({OURS.pattern})\.[0-9a-f]+\.part")
_HASHED = re.compile(r".+-([0-9a-f]{12})\.[a-z]+")


def apply_patch(
    folder: str | Path, patch: str | Path | bytes, *, trusted: PublicKey | Iterable[PublicKey] | None = None
) -> bool:
    """Apply a patch to the bundle in `folder`. Applying the same patch twice is a no-op.

    Args:
        patch: a file that `edgerec diff` wrote, or its bytes.
        trusted: public keys, one of which must have signed the old and the new bundle.

    Returns:
        False if the patch was applied before.

    Raises:
        PatchError: the patch is damaged, too new, or for another bundle; nothing was changed.
        SignatureError: none of the trusted keys signed the old or the new bundle.
        BundleError: the bundle is missing or damaged.
        StorageError: the file system refuses.
    """
    folder = _folder(folder)
    keys = None if trusted is None else read_public_keys(trusted)
    whole = read_manifest(folder, keys).nbytes  # reports errors before the folder is locked
    file = PatchFile(patch) if isinstance(patch, bytes) else PatchFile.read(Path(patch), whole)
    with locked(folder):
        before = manifest_bytes(folder)
        base = parse_manifest(before, folder / FILE_NAME, keys)
        try:
            return _Application(folder, file, before, base, keys).apply()
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else reason_of(error)
            raise file.damaged(reason) from error
        finally:
            clean(folder)


def undo_patch(folder: str | Path, *, trusted: PublicKey | Iterable[PublicKey] | None = None) -> None:
    """Restore the bundle in `folder` to the version before the last patch.

    Raises:
        PatchError: there is nothing to undo.
        SignatureError: none of the trusted keys signed the old version.
        BundleError: the current or the old version is missing or damaged.
        StorageError: the file system refuses.
    """
    folder = _folder(folder)
    keys = None if trusted is None else read_public_keys(trusted)
    now = read_manifest(folder)
    with locked(folder):
        path = folder / PREVIOUS_NAME
        document = manifest_bytes(folder, PREVIOUS_NAME) if path.is_file() else None
        if document in (None, manifest_bytes(folder)):
            raise PatchError(f"{folder} holds no bundle before this one: no patch was applied, or it was undone")
        previous = parse_manifest(document, path, keys)
        _check_rollback(now, previous)
        for entry in previous.files:
            if _sha256_of(folder / entry.name, entry) != entry.sha256:
                raise BundleError(f"{folder / entry.name} is not the file that {PREVIOUS_NAME} describes")
        try:
            path.replace(folder / FILE_NAME)
            sync_folder(folder)
        except OSError as error:
            storage_failure(path, error, "rename")
        clean(folder)


def restore(folder: Path, manifest: bytes) -> bool:
    """Install the version of this manifest again, since the one that replaced it does not answer.

    Returns False if it is installed.
    """
    with locked(folder):
        if manifest_bytes(folder) == manifest:
            return False
        write_bytes(folder / FILE_NAME, manifest)
        clean(folder)
        return True


def _folder(place: str | Path) -> Path:
    """Return the folder of a bundle. Raises PatchError for a bundle in one file."""
    if Path(place).is_file():
        raise PatchError(
            f"{place} is a bundle in one file, which patches cannot change; write its folder: edgerec unpack"
        )
    return Path(place)


def _check_rollback(base: Manifest, result: Manifest) -> None:
    """Raise PatchError if the result has a smaller rollback index."""
    if result.rollback_index < base.rollback_index:
        raise PatchError(
            f"the other bundle has the rollback index {result.rollback_index}, and this one {base.rollback_index}, so "
            "that it must not come back; export a newer one"
        )


def clean(folder: Path) -> None:
    """Remove files that belong to no version of the bundle. The caller holds the lock."""
    needed = {FILE_NAME, PREVIOUS_NAME}
    try:
        needed |= {entry.name for entry in read_manifest(folder).files}
        if (folder / PREVIOUS_NAME).is_file():
            needed |= {entry.name for entry in parse_manifest(manifest_bytes(folder, PREVIOUS_NAME), folder).files}
    except BundleError:
        return
    for path in folder.iterdir():
        if path.name not in needed and (OURS.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)):
            with suppress(OSError):  # Windows does not delete mapped files; the next call will
                path.unlink(missing_ok=True)


class _Application:
    """The application of one patch to one bundle."""

    def __init__(
        self, folder: Path, file: PatchFile, before: bytes, base: Manifest, keys: dict[str, Any] | None
    ) -> None:
        self.folder, self.file, self.before, self.base, self.keys = folder, file, before, base, keys

    def apply(self) -> bool:
        parts = self.file.open(most_inflated(self.base.nbytes))
        header = parts.header
        digest = hashlib.sha256(self.before).hexdigest()
        if digest == header["manifest"]["sha256"]:
            return False
        if digest != header["base"]["manifest"]:
            raise PatchError(
                f"{self.file.name} was made for another bundle than the one in {self.folder}; apply the patches in "
                "their order, or get the whole bundle"
            )
        most = most_result_bytes(self.base.nbytes, self.file.inflated_bytes)
        fields = header["manifest"]
        manifest = self._joined(fields, self.before, int(fields["bytes"]), min(most, MOST_BYTES), parts)
        self._compare(FILE_NAME, manifest, str(fields["sha256"]))
        result = parse_manifest(manifest, self.folder / FILE_NAME, self.keys)
        _check_rollback(self.base, result)
        if result.nbytes > most:
            raise self.file.damaged(f"it makes {result.nbytes} bytes where {most} are the most for this bundle")
        # The rest of the stream is inflated only after the signature of the new manifest was checked.
        opened = Bundle(self.folder, trusted=None)  # compares every sha256 that the patch relies on
        for fields, entry in self._new_files(result, header):
            source = fields["from"]
            base = b"" if source is None else _read(self.folder / self._entry(self.base, source).name)
            content = self._joined(fields, base, entry.bytes, most, parts)
            self._compare(entry.name, content, entry.sha256)
            write_bytes(self.folder / entry.name, content)
        if self._is_new(result.tables):
            self._write_tables(opened, header, result, parts)
        parts.end()
        self._replace(manifest)
        return True

    def _joined(self, fields: Mapping[str, Any], base: bytes, size: int, most: int, parts: PatchStream) -> bytes:
        """Return the content of a new file, from copies of another file and inserted bytes."""
        if not 0 <= size <= most:
            raise self.file.damaged(f"a file of {size} bytes")
        copies = parts.copies(int(fields["copies"]), len(base), size, BYTES_A_RUN)
        return bytes(copies.joined(memoryview(base), parts.take(int(copies.inserted.sum()))))

    def _compare(self, name: str, content: bytes, sha256: str) -> None:
        if hashlib.sha256(content).hexdigest() != sha256:
            raise self.file.damaged(f"it makes another {name} than it promises")

    def _is_new(self, entry: FileEntry) -> bool:
        """Return True if a file is new. Raises PatchError for a name without the hash of its content."""
        hashed = _HASHED.fullmatch(entry.name)
        if not OURS.fullmatch(entry.name) or hashed is None or not entry.sha256.startswith(hashed[1]):
            raise self.file.damaged(f"a file named {entry.name!r}")
        return entry not in self.base.files

    def _new_files(self, result: Manifest, header: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], FileEntry]]:
        """Return the new graphs and other files, with their entries in the header."""
        wanted = {entry.name: entry for entry in result.files if entry != result.tables and self._is_new(entry)}
        entries = [(fields, str(fields["file"])) for fields in header["files"]]
        if sorted(name for _, name in entries) != sorted(wanted):
            raise self.file.damaged("it brings other files than its manifest names")
        return [(fields, wanted[name]) for fields, name in entries]

    @staticmethod
    def _entry(manifest: Manifest, name: str) -> FileEntry:
        return {entry.name: entry for entry in manifest.files}[name]

    def _write_tables(self, opened: Bundle, header: Mapping[str, Any], result: Manifest, parts: PatchStream) -> None:
        rows = {
            name: (0 if old is None else old.rows, 0 if new is None else new.rows)
            for name, old, new in (
                ("item", self.base.items, result.items),
                ("user", self.base.users, result.users),
            )
        }
        most = 2 * result.tables.bytes  # a row takes at least half a byte
        sides = {name: RowSources.read(fields, parts, *rows[name], most) for name, fields in header["sides"].items()}
        builder = TablesBuilder(opened.section, self.base, result, sides)
        name = result.tables.name
        with atomic_write(self.folder / name) as stream:
            if write_tables(stream, header, parts, builder, result) != result.tables.sha256:
                raise self.file.damaged(f"it makes another {name} than it promises")

    def _replace(self, manifest: bytes) -> None:
        try:
            sync_folder(self.folder)
            write_bytes(self.folder / PREVIOUS_NAME, self.before)
            write_bytes(self.folder / FILE_NAME, manifest)
            sync_folder(self.folder)
        except OSError as error:
            storage_failure(self.folder, error, "write")


def _read(path: Path) -> bytes:
    try:
        with open_plain(path) as stream:
            return stream.read()
    except OSError as error:
        unreadable(path, error)


def _sha256_of(path: Path, entry: FileEntry) -> str | None:
    """Return the sha256 of a file; None if it is missing or has another size."""
    try:
        with open_plain(path) as stream:
            if os.fstat(stream.fileno()).st_size != entry.bytes:
                return None
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        unreadable(path, error)

"""Patches from one bundle to another, computed row by row, by raw id."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import PatchError
from edgerec.files import write_bytes
from edgerec.outputs import Output, check_outputs, text_of
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FileEntry, RowsEntry
from edgerec.runtime.patch import apply_patch
from edgerec.runtime.patch.patchfile import (
    FORMAT,
    MAGIC,
    MAJOR,
    MINOR,
    Copies,
    most_inflated,
    most_result_bytes,
    patch_bytes,
    planes,
)
from edgerec.runtime.patch.rebuild import RowSources
from edgerec.runtime.patch.rows import SectionRows, packed, unpacked
from edgerec.runtime.stored import unpack
from edgerec_export.patch.matches import byte_copies
from edgerec_export.patch.previous import SectionForm, forms_of
from edgerec_export.patch.rows import ids_of, matched


@dataclass(frozen=True)
class Changes:
    """Numbers of rows of one side that are inserted, deleted, moved to another width, and changed in place."""

    inserted: int
    deleted: int
    moved: int
    changed: int


@dataclass(frozen=True)
class Patch:
    """A patch that was written.

    Attributes:
        path: path of the file.
        nbytes: bytes of the file.
        full_bytes: bytes of the new bundle.
        changes: changed rows, by side ('item' and 'user').
        parts: uncompressed bytes, by part of the bundle.
    """

    path: Path
    nbytes: int
    full_bytes: int
    changes: dict[str, Changes]
    parts: dict[str, int]


@dataclass(frozen=True)
class _Version:
    """An opened bundle, with the forms of its sections."""

    bundle: Bundle
    document: bytes
    forms: dict[str, SectionForm]

    @classmethod
    def open(cls, folder: Path) -> _Version:
        bundle = Bundle(folder)
        return cls(bundle, bundle.document, forms_of(bundle, json.loads(bundle.document)))

    def flat(self, name: str) -> NDArray[Any]:
        return self.bundle.section(name).reshape(-1)

    def rows(self, name: str) -> SectionRows:
        return unpacked(self.flat(name), self.forms[name].form, self.lengths(name))

    def lengths(self, name: str) -> NDArray[np.int64] | None:
        lengths = self.forms[name].form.lengths
        return None if lengths is None else np.diff(self.flat(lengths)).astype(np.int64)

    def content(self, entry: FileEntry) -> bytes:
        return self.bundle.content(entry)


def patch_output(out: str | Path) -> Output:
    """Return a patch as an output, which may replace another patch."""
    return Output(Path(out), ours=text_of(MAGIC))


def diff(old: str | Path, new: str | Path, out: str | Path, *, verify: bool = True, overwrite: bool = False) -> Patch:
    """Write the patch that updates the bundle `old` to the bundle `new`.

    Args:
        verify: apply the patch to a copy of `old`, and compare.
        overwrite: replace a file `out` that is not a patch.

    Raises:
        OutputError: `out` lies in one of the bundles, or is a file that is not a patch.
        PatchError: the bundles are equal, or `new` is too large for a patch of `old`.
        BundleError: a bundle is missing or damaged.
        StorageError: the file system refuses.
    """
    check_outputs([patch_output(out)], [old, new], overwrite=overwrite)
    before, after = _Version.open(Path(old)), _Version.open(Path(new))
    if before.document == after.document:
        raise PatchError(f"{new} is the same bundle as {old}: there is nothing to patch")
    writer = _Writer(before, after)
    content = writer.write()
    base, inflated = before.bundle.manifest.nbytes, writer.inflated
    if inflated > most_inflated(base) or after.bundle.manifest.nbytes > most_result_bytes(base, inflated):
        raise PatchError(f"{new} is so much larger than {old} that readers would refuse the patch; ship it whole")
    if verify:
        _check(Path(old), content)
    write_bytes(Path(out), content)
    return Patch(Path(out), len(content), after.bundle.manifest.nbytes, writer.changes, writer.sizes)


def _check(old: Path, content: bytes) -> None:
    """Apply a patch to a copy of the old bundle; this compares the sha256 of all new files."""
    with tempfile.TemporaryDirectory(prefix="edgerec-diff-") as scratch:
        if old.is_file():
            unpack(old, scratch)
            apply_patch(scratch, content)
            return
        for path in old.iterdir():
            if path.is_file():
                _link(path, Path(scratch) / path.name)
        apply_patch(scratch, content)


def _link(path: Path, to: Path) -> None:
    with suppress(OSError):  # another file system, or one without links
        os.link(path, to)
        return
    shutil.copyfile(path, to)


class _Writer:
    """A writer of a patch, which collects its parts in the order in which `apply_patch` reads them."""

    def __init__(self, before: _Version, after: _Version) -> None:
        self.before, self.after = before, after
        self.parts: list[bytes] = []
        self.sizes: dict[str, int] = {}
        self.changes: dict[str, Changes] = {}
        self.inflated = 0

    def write(self) -> bytes:
        before, after = self.before, self.after
        manifest = {
            "bytes": len(after.document),
            "sha256": hashlib.sha256(after.document).hexdigest(),
            "copies": self._bytes("manifest", before.document, after.document),
        }
        header = {
            "format": FORMAT,
            "version": f"{MAJOR}.{MINOR}",
            "base": {"manifest": hashlib.sha256(before.document).hexdigest()},
            "manifest": manifest,
            "files": self._files(),
            "sides": {},
            "sections": [],
        }
        if after.bundle.manifest.tables not in before.bundle.manifest.files:
            header |= self._tables()
        content = patch_bytes(header, self.parts)
        self.inflated = int.from_bytes(content[44:52], "little")
        return content

    def _add(self, what: str, part: bytes) -> None:
        self.parts.append(part)
        self.sizes[what] = self.sizes.get(what, 0) + len(part)

    def _bytes(self, what: str, old: bytes, new: bytes) -> int:
        copies, literals = byte_copies(old, new)
        self._add(what, copies.stored() + literals)
        return len(copies)

    def _files(self) -> list[dict[str, Any]]:
        """Add graphs and other new files, each as copies from the old file of its kind."""
        old, new = self.before.bundle.manifest, self.after.bundle.manifest
        alike = {entry.name.partition("-")[0]: entry for entry in old.files if entry != old.tables}
        found = []
        for entry in new.files:
            if entry == new.tables or entry in old.files:
                continue
            stem = entry.name.partition("-")[0]
            source = alike.get(stem)
            base = b"" if source is None else self.before.content(source)
            copies = self._bytes(stem, base, self.after.content(entry))
            found.append({"file": entry.name, "from": None if source is None else source.name, "copies": copies})
        return found

    def _tables(self) -> dict[str, Any]:
        old, new = self.before.bundle.manifest, self.after.bundle.manifest
        names = [name for name in new.sections if self._has_rows(name)]
        sides, described = {}, {}
        for name, entry in (("item", new.items), ("user", new.users)):
            base = old.items if name == "item" else old.users
            if entry is None or base is None:
                continue
            side = self._side(name, base, entry, [one for one in names if self.after.forms[one].side == name])
            sides[name] = side
            copies, changed = copies_of(side.sources), np.flatnonzero(side.touched & (side.sources >= 0))
            self._add(f"{name} rows", copies.stored() + planes(np.diff(changed, prepend=0).astype(np.uint32)))
            described[name] = {"copies": len(copies), "changed": len(changed)}
        sections = sorted(new.sections, key=lambda name: new.sections[name].offset)
        pointers = [name for name in sections if name in names and self.after.forms[name].form.pointers]
        order = [*pointers, *(name for name in sections if name not in pointers)]
        return {"sides": described, "sections": [self._section(name, name in names, sides) for name in order]}

    def _has_rows(self, name: str) -> bool:
        """Return True if a section is patched by row: both bundles have it, and packing its rows gives equal bytes."""
        old, new = self.before.forms.get(name), self.after.forms.get(name)
        if old is None or new is None:
            return False
        if (old.form.pointers, old.form.lengths) != (new.form.pointers, new.form.lengths):
            return False
        section = self.after.flat(name)
        again = packed(self.after.rows(name), new.form, section.dtype.name, len(section), self.after.lengths(name))
        return np.array_equal(again.view(np.uint8), section.view(np.uint8))

    def _side(self, name: str, old: RowsEntry, new: RowsEntry, sections: list[str]) -> RowSources:
        sources = matched(ids_of(self.before.bundle, name, old), ids_of(self.after.bundle, name, new))
        touched, moved = sources < 0, np.zeros(new.rows, bool)
        for section in sections:
            before, after = self.before.rows(section), self.after.rows(section)
            for part in after.parts():
                differ = after.units[after.places(part)] != before.like(after, part, sources[part])
                width = after.width[part]
                row = np.repeat(np.arange(part.start, part.stop), width)
                touched[row[differ]] = True
                if section in ("i", "u"):
                    there = np.maximum(sources[part], 0)
                    moved[part] |= (sources[part] >= 0) & (before.width[there] != width)
        from_old = sources >= 0
        self.changes[name] = Changes(
            inserted=int((~from_old).sum()),
            deleted=int(old.rows - from_old.sum()),
            moved=int(moved.sum()),
            changed=int((touched & from_old & ~moved).sum()),
        )
        return RowSources(sources, touched)

    def _section(self, name: str, has_rows: bool, sides: dict[str, RowSources]) -> dict[str, Any]:
        source = name if name in self.before.bundle.manifest.sections else None
        if not has_rows:
            old = b"" if source is None else self.before.flat(name).tobytes()
            return {"name": name, "from": source, "copies": self._bytes(name, old, self.after.flat(name).tobytes())}
        old_form, new_form = self.before.forms[name], self.after.forms[name]
        side = sides[new_form.side]
        self._add(name, planes(_differences(self.before.rows(name), self.after.rows(name), side)))
        forms = {"old": old_form.form.describe(), "new": new_form.form.describe()}
        return {"name": name, "from": source, "side": new_form.side, **forms}


def _differences(before: SectionRows, after: SectionRows, side: RowSources) -> NDArray[Any]:
    """Return the (units of touched rows,) differences of units from copied ones."""
    found = [after.units[:0]]
    for part in after.parts():
        touched = np.repeat(side.touched[part], after.width[part])
        units = after.units[after.places(part)] - before.like(after, part, side.sources[part])
        found.append(units[touched])
    return np.concatenate(found)


def copies_of(sources: NDArray[np.int64]) -> Copies:
    """Return the ranges of rows that are neighbours in both bundles."""
    new = sources < 0
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(sources) != 1) | new[1:] | new[:-1]]))
    starts = starts[
        np.concatenate([[True], ~(new[starts[1:]] & new[starts[1:] - 1])])
    ]  # neighbouring new rows are one range
    lengths = np.diff(np.append(starts, len(sources)))
    copied = ~new[starts]
    runs: list[tuple[int, int, int]] = []
    for source, length, is_copy in zip(sources[starts].tolist(), lengths.tolist(), copied.tolist(), strict=True):
        if is_copy:
            runs.append((source, length, 0))
        elif runs:
            runs[-1] = (*runs[-1][:2], length)
        else:
            runs.append((0, 0, length))
    return Copies(*np.array(runs, np.int64).reshape(-1, 3).T)

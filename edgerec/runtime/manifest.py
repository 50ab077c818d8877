"""The manifest of a bundle, with the parts of the bundle and their places; it is checked before other files are opened.

`bundle-spec.json` holds the limits and names that readers in all languages share. TypeScript imports it at build time;
`python -m tests.spec_sources` writes sources of it for Java and C. docs/reference/bundle.md explains each limit.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Sized
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from pkgutil import get_data
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args

import numpy as np

from edgerec.errors import BundleError
from edgerec.files import open_plain, storage_failure
from edgerec.signatures import check_signature, claimed_signer

SPEC_NAME = "bundle-spec.json"


def _specification() -> dict[str, Any]:
    """Return the specification, also from a zip file such as the agent of a device."""
    content = get_data("edgerec.runtime", SPEC_NAME)
    if content is None:  # a loader without data
        raise ImportError(f"edgerec/runtime/{SPEC_NAME} is missing; install EdgeRec whole")
    found: dict[str, Any] = json.loads(content)
    return found


SPEC = _specification()
LIMITS: dict[str, int] = SPEC["limits"]
OPERATORS = frozenset(SPEC["operators"])
"""Operators of bundles of versions 1 and 2, in every minor version."""

FORMAT = "edgerec.bundle"
MAJOR, MINOR = LIMITS["major"], 0
"""A newer minor version is readable, a newer major one is refused."""
FEATURES: frozenset[str] = frozenset()
"""Features that a bundle may require of this reader, besides those that every reader of its version has."""
LARGEST_INDEX = (1 << 53) - 1
"""Largest rollback index: every language can represent it."""
_LAYERS = 16
"""Number of layers of a scorer with section names."""
FILE_NAME = "manifest.json"
MOST_BYTES = LIMITS["manifest_bytes"]
"""Largest size of a manifest; a typical one has a few thousand bytes."""
MOST_GRAPH_BYTES = LIMITS["graph_bytes"]
"""Largest size of a graph; a typical one has a few thousand bytes."""
_DTYPES = frozenset(SPEC["dtypes"])
PREVIOUS_NAME = "manifest.previous.json"
"""The manifest before the last patch, which undoing the patch restores."""
OURS = re.compile(
    r"(tables|recommend|score|similar|encode|README)-[0-9a-f]{12}\.(bin|onnx|md)|manifest(\.previous)?\.json"
)
"""Names of the files of bundles, which may be replaced."""
_NAME = re.compile(r"[\w.-]{1,255}", re.ASCII)
"""File names, without a path."""
_ABOUT: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("metrics", "split"), dict),
    **dict.fromkeys(("data", "backbone", "method", "budget", "data_fingerprint"), (str, NoneType)),
}
"""Types of the optional entries of `about` that readers use."""

POPULAR = "popular_items"
"""The section with the rows of the most popular items."""

IdKind = Literal["int", "str", "none", "hash64"]


@dataclass(frozen=True)
class FileEntry:
    """A file in the folder of the manifest."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Section:
    """An array in the tables file: offset in bytes, numpy dtype, row-major shape."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class RowsEntry:
    """One side of the bundle, users or items.

    Attributes:
        rows: number of rows.
        blocks: (width, rows) of each block, in row order; ids ascend inside a block.
        ids: type of the stored raw ids; 'none' if row numbers are the ids.
    """

    rows: int
    blocks: tuple[tuple[int, int], ...]
    ids: IdKind


@dataclass(frozen=True)
class GraphEntry:
    """An ONNX file, and the parts of the tables file that it reads, by tensor name."""

    file: FileEntry
    tensors: dict[str, Section]


@dataclass(frozen=True)
class Manifest:
    """The parsed manifest of a bundle.

    Attributes:
        session: onnxruntime's session options of the layout.
        own_bytes: bytes of the manifest's file.
        file_bytes: bytes of the one file that the bundle is; None for a folder.
        empty_history: the section with the rows that answer an empty history, best first; None with users, and if
            there is no answer.
        rollback_index: number below which readers that have seen this bundle do not go back.
        item_attributes: names of the items' attributes besides titles.
        signed_by: fingerprint of the signing key in the manifest, which is checked only against trusted keys.
        about: information such as backbone, method, metrics, budget, fingerprints.
    """

    version: tuple[int, int]
    d: int
    layout: str
    precision: str
    items: RowsEntry
    users: RowsEntry | None
    tables: FileEntry
    graphs: dict[str, GraphEntry]
    sections: dict[str, Section]
    session: dict[str, str]
    own_bytes: int
    empty_history: str | None = None
    rollback_index: int = 0
    file_bytes: int | None = None
    signed_by: str | None = None
    other_files: tuple[FileEntry, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    item_attributes: tuple[str, ...] = ()

    @property
    def popular(self) -> str | None:
        """The section with the rows of the most popular items, best first; None without one."""
        if self.users is None:
            return self.empty_history
        return POPULAR if POPULAR in self.sections else None

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file except the manifest."""
        return (self.tables, *(graph.file for graph in self.graphs.values()), *self.other_files)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole bundle, all files included."""
        if self.file_bytes is not None:
            return self.file_bytes
        return self.own_bytes + sum(entry.bytes for entry in self.files)


def section_name(name: str) -> str:
    """Return the description of a section."""
    return _section_names().get(name, name.replace("_", " "))


@cache
def _section_names() -> dict[str, str]:
    known = SPEC["sections"]
    columns = {
        side + part: f"{of} {what}" for side, of in known["sides"].items() for part, what in known["parts"].items()
    }
    layers = {
        f"h{layer}{part}": f"scorer layer {layer + 1} {what}"
        for layer in range(_LAYERS)
        for part, what in known["layers"].items()
    }
    return {**columns, **known["others"], **layers}


def json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object from an untrusted source.

    A value of two bytes takes 70 when it is parsed, so values are counted before, by their commas and brackets.

    Raises ValueError: not a JSON object, or one with more values, levels or members than the specification allows.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > LIMITS["json_values"]:
        raise ValueError(f"more than {LIMITS['json_values']} values")
    try:
        fields = json.loads(content)
    except RecursionError:
        raise ValueError("too many levels") from None
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    level: list[Any] = [fields]
    for _ in range(LIMITS["json_levels"]):
        if any(isinstance(value, dict) and len(value) > LIMITS["json_members"] for value in level):
            raise ValueError(f"an object of more than {LIMITS['json_members']} members")
        level = [one for value in level for one in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, (dict, list))]
    if level:
        raise ValueError(f"more than {LIMITS['json_levels']} levels")
    return fields


def read_manifest(folder: Path, trusted: dict[str, Any] | None = None) -> Manifest:
    """Read and check the manifest of the bundle in `folder`.

    Args:
        trusted: public keys by fingerprint, one of which must have signed it; None for any manifest.

    Raises:
        SignatureError: none of the trusted keys signed it, or it was changed afterwards.
        BundleError: not a bundle, a damaged manifest, or a newer major version.
        StorageError: the file system refuses.
    """
    return parse_manifest(manifest_bytes(folder), folder / FILE_NAME, trusted)


def manifest_bytes(folder: Path, name: str = FILE_NAME) -> bytes:
    """Return the unchecked bytes of the manifest in `folder`. Raises BundleError, StorageError."""
    path = folder / name
    try:
        with open_plain(path) as stream:
            content = stream.read(MOST_BYTES + 1)
    except NotADirectoryError:
        raise BundleError(
            f"{folder} is a file, and this takes a bundle's folder; write that of a bundle in one file: edgerec unpack"
        ) from None
    except FileNotFoundError:
        missing = f"there is no {name} in it" if folder.exists() else "it does not exist"
        raise BundleError(
            f"{folder} is no bundle: {missing}; make one with 'edgerec export RUN --out {folder}'"
        ) from None
    except OSError as error:
        unreadable(path, error)
    if len(content) > MOST_BYTES:
        raise BundleError(f"{path} has more than {MOST_BYTES} bytes, which no manifest has; get the bundle again")
    return content


def unreadable(path: Path, error: OSError) -> NoReturn:
    """Raise BundleError for a link or a pipe instead of a bundle's file, StorageError for all else."""
    if error.errno == errno.ELOOP:
        raise BundleError(
            f"{path} is a link, or no plain file, and might lead out of the bundle; copy it with its files: cp -rL"
        ) from None
    storage_failure(path, error, "read")


def parse_manifest(content: bytes, path: Path, trusted: dict[str, Any] | None = None) -> Manifest:
    """Parse and check the bytes of a manifest, which messages call `path`. Raises as `read_manifest` does."""
    if trusted is not None:
        check_signature(content, trusted, path)
    try:
        fields = json_object(content)
        if fields["format"] != FORMAT:
            raise BundleError(f"{path} is not the manifest of an EdgeRec bundle")
        if not re.fullmatch(r"\d{1,9}\.\d{1,9}", str(fields["version"]), re.ASCII):
            raise ValueError(f"version {fields['version']!r}")
        major, minor = (int(part) for part in fields["version"].split("."))
        if major > MAJOR:
            raise BundleError(
                f"{path} has version {major}.{minor}, this runtime reads up to {MAJOR}; upgrade: pip install -U edgerec"
            )
        missing = sorted({str(name) for name in fields.get("requires", [])} - FEATURES)
        if missing:
            raise BundleError(
                f"{path} requires {', '.join(missing)}, which this runtime does not know; upgrade: pip install -U "
                "edgerec"
            )
        return replace(_parse(fields, (major, minor), len(content)), signed_by=claimed_signer(content))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{path} is damaged ({reason}); export the bundle again") from error


def _parse(fields: dict[str, Any], version: tuple[int, int], own_bytes: int) -> Manifest:
    tables = _file(fields["tables"])
    sections = _sections(_few(fields["sections"], "sections"), tables)
    graphs = {
        str(name): GraphEntry(_file(entry), _sections(_few(entry["tensors"], "tensors"), tables))
        for name, entry in _few(fields["graphs"], "graphs").items()
    }
    manifest = Manifest(
        version=version,
        d=int(fields["d"]),
        layout=str(fields["layout"]),
        precision=str(fields["precision"]),
        items=_rows(fields["items"], version[0]),
        users=None if fields["users"] is None else _rows(fields["users"], version[0]),
        tables=tables,
        graphs=graphs,
        sections=sections,
        session={_utf8(key): _utf8(value) for key, value in fields["session"].items()},
        own_bytes=own_bytes,
        rollback_index=_rollback_index(fields),
        empty_history=None if fields["encoder"] is None else fields["encoder"]["empty_history"],
        other_files=tuple(_file(entry) for entry in _few(fields["other_files"], "files")),
        about=dict(fields["about"]),
        item_attributes=_names(fields["item_attributes"]) if "item_attributes" in fields else (),
    )
    if len({FILE_NAME, *(entry.name for entry in _few(manifest.files, "files"))}) != len(manifest.files) + 1:
        raise ValueError("a file that is named twice")
    for side, rows in (("item", manifest.items), ("user", manifest.users)):
        if rows is not None and rows.ids != "none" and version[0] > 1:
            _demand_bytes(sections, f"{side}_ids")
        elif rows is not None and rows.ids == "int":
            _demand(sections, f"{side}_ids", rows.rows)
        elif rows is not None and rows.ids == "str":
            _demand(sections, f"{side}_ids")
            _demand(sections, f"{side}_id_offsets", rows.rows + 1)
    if "item_titles" in sections:
        _demand(sections, "item_titles")
        _demand(sections, "item_title_offsets", manifest.items.rows + 1)
    for number in range(len(manifest.item_attributes)):
        stem = f"attribute_{number}"
        _demand(sections, stem, manifest.items.rows)
        _demand_bytes(sections, f"{stem}_texts")
        _demand(sections, f"{stem}_text_offsets")
        if sections[stem].dtype not in ("uint8", "uint16", "uint32") or not sections[f"{stem}_text_offsets"].shape[0]:
            raise ValueError(f"sections of attribute {number} that are not numbers of texts, and their offsets")
    if manifest.popular is not None:
        _demand(sections, manifest.popular)
    for name, kind in _ABOUT.items():
        if name in manifest.about and not isinstance(manifest.about[name], kind):
            raise ValueError(f"{name!r} in 'about' is {manifest.about[name]!r}")
    graphs["recommend"]
    if manifest.d < 1:
        raise ValueError(f"rows of {manifest.d} values")
    for rows in (manifest.items, manifest.users):
        if rows is not None and rows.rows > 4 * tables.bytes:  # a row takes at least a quarter of a byte
            raise ValueError(f"{rows.rows} rows in tables of {tables.bytes} bytes")
    if max(graph.file.bytes for graph in graphs.values()) > MOST_GRAPH_BYTES:
        raise ValueError(f"a graph of more than {MOST_GRAPH_BYTES} bytes")
    return manifest


def _utf8(value: Any) -> str:
    """Return a session option as text. Raises ValueError for unpaired surrogates, which onnxruntime cannot take."""
    text = str(value)
    text.encode()
    return text


Entries = TypeVar("Entries", bound=Sized)


def _few(entries: Entries, what: str) -> Entries:
    """Return entries of a manifest. Raises ValueError for more than the specification allows."""
    if len(entries) > LIMITS[what]:
        raise ValueError(f"{len(entries)} {what} where {LIMITS[what]} are the most")
    return entries


def _sections(entries: dict[str, Any], tables: FileEntry) -> dict[str, Section]:
    return {str(name): _section(place, tables) for name, place in entries.items()}


def _names(names: Any) -> tuple[str, ...]:
    """Check the names of attributes. Raises ValueError."""
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= LIMITS["attributes"]
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(f"'item_attributes' is no list of 1 to {LIMITS['attributes']} different names")
    return tuple(map(_utf8, names))


def _demand(sections: dict[str, Section], name: str, length: int | None = None) -> None:
    """Raise ValueError or KeyError for a section that is missing, or not a vector of integers of this length."""
    section = sections[name]
    if len(section.shape) != 1 or length not in (None, *section.shape) or np.dtype(section.dtype).kind not in "iu":
        wanted = "n" if length is None else length
        raise ValueError(
            f"section {name!r} is {section.dtype} {section.shape} where whole numbers ({wanted},) are promised"
        )


def _demand_bytes(sections: dict[str, Section], name: str) -> None:
    """Raise ValueError or KeyError for a section that is missing, or not a vector of bytes."""
    section = sections[name]
    if len(section.shape) != 1 or section.dtype != "uint8":
        raise ValueError(f"section {name!r} is {section.dtype} {section.shape} where bytes (n,) are promised")


def _rollback_index(fields: dict[str, Any]) -> int:
    index = fields.get("rollback_index", 0)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= LARGEST_INDEX:
        raise ValueError(f"a rollback index of {index!r}")
    return index


def _file(entry: dict[str, Any]) -> FileEntry:
    name = str(entry["file"])
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(f"file name {name!r} leaves the bundle")
    size = int(entry["bytes"])
    if size < 1:
        raise ValueError(f"a file of {size} bytes")
    return FileEntry(name, size, str(entry["sha256"]))


def _section(entry: list[Any], tables: FileEntry) -> Section:
    offset, dtype, shape = entry
    if dtype not in _DTYPES:
        raise ValueError(f"a section of type {dtype!r}")
    section = Section(int(offset), dtype, tuple(int(n) for n in shape))
    if len(section.shape) > LIMITS["axes"] or section.offset % np.dtype(dtype).itemsize:
        raise ValueError(f"a section at {section.offset} of shape {section.shape}")
    if section.offset < 0 or min(section.shape, default=0) < 0 or section.offset + section.nbytes > tables.bytes:
        raise ValueError(f"a section at {section.offset} of {section.nbytes} bytes leaves {tables.name}")
    return section


def _rows(entry: dict[str, Any], major: int) -> RowsEntry:
    kinds = [kind for kind in get_args(IdKind) if kind != "hash64" or major > 1]
    blocks = tuple((int(width), int(rows)) for width, rows in entry["blocks"])
    rows, ids = int(entry["rows"]), entry["ids"]
    if ids not in kinds:
        raise ValueError(f"ids of kind {ids!r}")
    if rows < 1 or any(width < 1 or count < 1 for width, count in blocks):
        raise ValueError("a block without rows or values")
    if sum(count for _, count in blocks) != rows:
        raise ValueError(f"blocks of {sum(count for _, count in blocks)} rows where {rows} are promised")
    return RowsEntry(rows, blocks, ids)

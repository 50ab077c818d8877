"""An open bundle: checked files, tables mapped once, graphs opened on first use over that mapping.

Bundles are not trusted. Files must be regular files inside the folder; sizes are compared before a file is mapped, and
sha256 before it is read. Graphs may contain known operators and no paths (`graph_check`), must have the expected inputs
and outputs, and may use a part of the machine's memory only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, SignatureError
from edgerec.runtime.graph_check import graph_fault
from edgerec.runtime.ids import (
    BucketedIds,
    CodedTexts,
    GroupedTexts,
    HashedIds,
    IdIndex,
    IntIds,
    RowIds,
    StrIds,
    StringArray,
)
from edgerec.runtime.manifest import FILE_NAME, SPEC, FileEntry, Manifest, RowsEntry, Section, parse_manifest
from edgerec.runtime.stored import FolderFiles, StoredFiles, checked_content, checked_tables, stored_files
from edgerec.signatures import PublicKey, read_public_keys

SESSION_OPTIONS = frozenset(SPEC["session_options"])
"""Session options that a manifest may set. Others could name files to write, or another format of graphs."""
READER_OPTIONS: dict[str, str] = SPEC["reader_options"]
"""Options of every session. Constants are not folded: a graph of a few KB could fill gigabytes at load, when the limit
of the arena does not hold. Exported graphs have no constants whose folding would save time."""
MEMORY_SHARE = 2
"""All graphs together get half of the machine's memory; a graph that needs more fails, and the process continues."""


def onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off, which an environment variable at import decides."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


@cache
def _share_arena() -> None:
    """Register one arena for all sessions.

    Otherwise each session would hold the memory of its largest answer: 19 MB a graph at 1M items instead of 11 MB.
    """
    ort = onnxruntime()
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    with suppress(RuntimeError):  # the app has registered one already, which is used then
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(_most_memory(), -1, -1, -1))


def _most_memory() -> int:
    """Return the bytes that graphs may allocate; 0 for no limit if the machine's memory is unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_SHARE
    except (AttributeError, ValueError, OSError):
        return 0


Interface = dict[str, tuple[str, int]]
"""Element type and number of axes of a graph's inputs and outputs, by name."""


class Bundle:
    """A bundle on disk, opened for reading.

    Attributes:
        folder: folder of the bundle.
        manifest: its parsed manifest.
        trusted: public keys, one of which signed the bundle; None if signatures are not checked.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        verify: bool = True,
        threads: int = 1,
        trusted: PublicKey | Iterable[PublicKey] | None = None,
        min_rollback_index: int = 0,
    ) -> None:
        """Open the bundle in `folder`, or in one file.

        Args:
            verify: compare the sha256 of the tables file; sizes and the sha256 of graphs are always compared.
            threads: number of onnxruntime's threads for one operator.
            trusted: public keys, one of which must have signed the bundle; the sha256 of every file is compared then.
            min_rollback_index: smallest rollback index that is accepted.

        Raises:
            SignatureError: none of the trusted keys signed the bundle, its manifest was changed afterwards, or its
                rollback index is too small.
            SigningKeyError: one of `trusted` is not an ed25519 public key.
            BundleError: not a bundle, a missing, truncated or changed file (named), or a newer major version.
            StorageError: the file system refuses.
        """
        self.folder = Path(folder)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        if trusted is not None and not isinstance(trusted, PublicKey):
            trusted = tuple(trusted)
        self.trusted, self._min_rollback_index = trusted, min_rollback_index
        keys = None if trusted is None else read_public_keys(trusted)
        self._files: StoredFiles = stored_files(self.folder)
        self.manifest: Manifest = self._parsed(keys)
        try:
            self._open_files(verify, signed=keys is not None)
        except BundleError:
            before, self._files = self.manifest, stored_files(self.folder)
            self.manifest = self._parsed(keys)
            if self.manifest == before:
                raise
            # Another bundle was installed after the manifest was read.
            self._open_files(verify, signed=keys is not None)

    def again(self) -> Bundle:
        """Open the current bundle of the folder with the same settings, without reading all files again."""
        least = max(self._min_rollback_index, self.manifest.rollback_index)
        return Bundle(self.folder, verify=False, threads=self._threads, trusted=self.trusted, min_rollback_index=least)

    def _open_files(self, verify: bool, *, signed: bool) -> None:
        """Map the tables and read the graphs, so that this bundle continues to answer if its files are replaced."""
        checked = verify or signed
        tables, found = self.manifest.tables, self.manifest
        self._tables, self._tables_at = (
            checked_tables(self._files, found) if checked else self._files.mapped(tables, found)
        )
        self._check_texts()
        self._graphs = {name: self._graph(name) for name in self.manifest.graphs}
        if signed:
            for entry in self.manifest.other_files:
                self.content(entry)

    def _parsed(self, keys: dict[str, Any] | None) -> Manifest:
        found = parse_manifest(self.document, self.folder / FILE_NAME, keys)
        if found.rollback_index < self._min_rollback_index:
            raise SignatureError(
                f"{self.folder} has the rollback index {found.rollback_index}, where {self._min_rollback_index} is the "
                "least that this app accepts; get a newer bundle"
            )
        return replace(found, file_bytes=self._files.nbytes)

    @property
    def document(self) -> bytes:
        """Bytes of the manifest."""
        return self._files.document

    def content(self, entry: FileEntry) -> bytes:
        """Return the content of a graph or a card. Raises BundleError if its sha256 differs, StorageError."""
        return checked_content(self._files, entry, self.manifest)

    def _graph(self, name: str) -> bytes:
        """Return the content of a graph's file. Raises BundleError if it is not a graph of a bundle."""
        graph, manifest = self.manifest.graphs[name], self.manifest
        content = self.content(graph.file)
        if fault := graph_fault(content, manifest.tables.name, graph.tensors, manifest.items.rows):
            raise BundleError(
                f"{self._files.name_of(graph.file)} is no graph of a bundle: {fault}; get the bundle again"
            )
        return content

    def _check_texts(self) -> None:
        """Raise BundleError for texts that overlap or leave their section, which could be long without limit."""
        sides = {"item_id": self.manifest.items, "user_id": self.manifest.users}
        plain = self.manifest.version[0] == 1
        stems = [stem for stem, side in sides.items() if side is not None and side.ids == "str" and plain]
        if "item_titles" in self.manifest.sections:
            stems.append("item_title")
        stems += [f"attribute_{number}_text" for number in range(len(self.manifest.item_attributes))]
        for stem in stems:
            blob, offsets = self.section(f"{stem}s"), self.section(f"{stem}_offsets")
            if not (offsets[0] == 0 and offsets[-1] == len(blob) and (offsets[1:] >= offsets[:-1]).all()):
                raise BundleError(
                    f"{self.folder / self.manifest.tables.name} is damaged (the section '{stem}_offsets' does not "
                    "ascend); get the bundle again"
                )

    def section(self, name: str) -> NDArray[Any]:
        """Return a read-only view of a named array in the tables file. Raises BundleError if there is none."""
        if name not in self.manifest.sections:
            raise BundleError(f"{self.folder / FILE_NAME} names no section {name!r}")
        return self._view(self.manifest.sections[name])

    @property
    def tables(self) -> NDArray[np.uint8]:
        """The mapped bytes of the tables file, read-only."""
        return self._view(Section(0, "uint8", (self.manifest.tables.bytes,)))

    def _view(self, section: Section) -> NDArray[Any]:
        at = self._tables_at + section.offset
        values = np.frombuffer(self._tables, section.dtype, math.prod(section.shape), at)
        return values.reshape(section.shape)

    def strings(self, name: str, offsets: str) -> StringArray:
        """Return texts that are stored as one blob and offsets."""
        return StringArray(self.section(name), self.section(offsets))

    def attributes(self) -> dict[str, CodedTexts]:
        """Return the texts of items by the name of each attribute besides titles."""
        stems = {name: f"attribute_{number}" for number, name in enumerate(self.manifest.item_attributes)}
        return {
            name: CodedTexts(self.strings(f"{stem}_texts", f"{stem}_text_offsets"), self.section(stem))
            for name, stem in stems.items()
        }

    def ids(self, side: str, entry: RowsEntry) -> IdIndex:
        """Return the index of raw ids of 'item' or 'user' rows; row numbers if the bundle has no ids."""
        if entry.ids == "none":
            return RowIds(entry)
        if self.manifest.version[0] > 1:
            return self._coded_ids(side, entry)
        if entry.ids == "int":
            return IntIds(entry, self.section(f"{side}_ids"))
        return StrIds(entry, self.strings(f"{side}_ids", f"{side}_id_offsets"))

    def _coded_ids(self, side: str, entry: RowsEntry) -> IdIndex:
        """Return the index of the ids of a bundle of version 2."""
        section = self.section(f"{side}_ids")
        try:
            if entry.ids == "str":
                return StrIds(entry, GroupedTexts(entry, section))
            numbers = BucketedIds(entry, section)
        except ValueError as error:
            raise BundleError(
                f"{self.folder / self.manifest.tables.name} is damaged (the section '{side}_ids': {error}); get the "
                "bundle again"
            ) from None
        return HashedIds(numbers) if entry.ids == "hash64" else numbers

    def has_graph(self, name: str) -> bool:
        return name in self.manifest.graphs

    def session(self, name: str) -> Any:
        """Return the onnxruntime session of a graph, opened on first use. Raises BundleError if there is none."""
        if name not in self._sessions:
            if not self.has_graph(name):
                raise BundleError(f"the bundle {self.folder} has no '{name}' graph")
            self._sessions[name] = self._open(name)
        return self._sessions[name]

    def run(self, name: str, outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run a graph, and return its outputs. Raises BundleError if it fails because its parts do not fit together."""
        session = self.session(name)
        try:
            answers: list[NDArray[Any]] = session.run(outputs, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = _first_line(error)
            raise BundleError(f"the '{name}' graph of {self.folder} failed: {reason}; export it again") from error
        return answers

    def _open(self, name: str) -> Any:
        ort = onnxruntime()
        graph = self.manifest.graphs[name]
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised as well
        # Memory patterns add a block outside of the arena for each set of input shapes: 4 MB at 1M items, and no speed
        # (onnxruntime 1.32).
        options.enable_mem_pattern = False
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        for key, value in {**self.manifest.session, **READER_OPTIONS}.items():
            if key in SESSION_OPTIONS | READER_OPTIONS.keys():
                options.add_session_config_entry(key, value)
        # Every tensor is passed as a view of the one mapping: sessions that map the file themselves would each count
        # its pages.
        shared = [(tensor, self._view(section)) for tensor, section in graph.tensors.items()]
        values = [(tensor, ort.OrtValue.ortvalue_from_numpy(view)) for tensor, view in shared]
        for tensor, value in values:
            options.add_initializer(tensor, value)
        if self.folder.is_dir():
            folder = str(self.folder.resolve())
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        elif hasattr(options, "add_external_initializers_from_files_in_memory"):
            # The initializers above are used. onnxruntime 1.24 and later also checks that the file exists, and believes
            # it of one in memory; earlier ones do not check.
            tables = self.manifest.tables
            whole = self.tables
            options.add_external_initializers_from_files_in_memory([tables.name], [whole], [tables.bytes])
            shared.append(("", whole))
        try:
            # The fallback prints to standard output, and only repeats the attempt.
            session = ort.InferenceSession(
                self._graphs[name], options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = _first_line(error)
            path = self._files.name_of(graph.file)
            is_folder = isinstance(self._files, FolderFiles)
            if (
                is_folder and not (self.folder / self.manifest.tables.name).exists()
            ):  # onnxruntime checks that it exists
                raise BundleError(
                    f"the bundle in {self.folder} was replaced since it was opened; load it again"
                ) from None
            raise BundleError(f"onnxruntime {ort.__version__} cannot open {path}: {reason}") from error
        promised, found = _promised(name, self.manifest), _interface(session)
        if found != promised:
            raise BundleError(
                f"the '{name}' graph of {self.folder} takes and gives {found} where {promised} is promised; get the "
                "bundle again"
            )
        # The session may outlive the bundle, and reads them as long as it lives.
        session.edgerec_tables = [shared, values]
        return session


def _first_line(error: Exception) -> str:
    """Return the first line of an error message, or the exception's name without one."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _promised(name: str, manifest: Manifest) -> Interface:
    """Return the expected inputs and outputs of a graph, as docs/reference/bundle.md specifies them."""
    subject: Interface = (
        {"user": ("int64", 1)}
        if manifest.users is not None
        else {"vector": ("float", 2)}
        if "encode" in manifest.graphs
        else {"history": ("int64", 2)}
    )
    ranked: Interface = {"items": ("int64", 2), "scores": ("float", 2)}
    return {
        "recommend": {**subject, "exclude": ("int64", 2), "k": ("int64", 0), **ranked},
        "score": {**subject, "candidates": ("int64", 2), "scores": ("float", 2)},
        "similar": {"item": ("int64", 1), "k": ("int64", 0), **ranked},
        "encode": {"history": ("int64", 2), "vector": ("float", 2)},
    }.get(name, {})


def _interface(session: Any) -> Interface:
    """Return the inputs of a session, then its outputs."""
    places = [*session.get_inputs(), *session.get_outputs()]
    return {place.name: (place.type.removeprefix("tensor(").removesuffix(")"), len(place.shape)) for place in places}


@dataclass(frozen=True)
class Metadata:
    """Facts of a bundle.

    Attributes:
        version: version of the format, such as "1.0".
        layout, precision: those of the items.
        d: dimensions of a row.
        items, users: numbers of rows; 0 users if vectors are computed from histories.
        bytes: bytes of all files.
        graphs: "recommend" and "score", and optionally "similar" and "encode".
        titles: True if items have titles.
        attributes: names of the items' other attributes.
        about: data, backbone, method, budget, metrics; all optional.
    """

    version: str
    layout: str
    precision: str
    d: int
    items: int
    users: int
    bytes: int
    graphs: tuple[str, ...]
    titles: bool
    attributes: tuple[str, ...]
    about: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest) -> Metadata:
        return cls(
            version=".".join(map(str, manifest.version)),
            layout=manifest.layout,
            precision=manifest.precision,
            d=manifest.d,
            items=manifest.items.rows,
            users=0 if manifest.users is None else manifest.users.rows,
            bytes=manifest.nbytes,
            graphs=tuple(manifest.graphs),
            titles="item_titles" in manifest.sections,
            attributes=manifest.item_attributes,
            about=manifest.about,
        )


def metadata(path: str | Path, *, trusted: PublicKey | Iterable[PublicKey] | None = None) -> Metadata:
    """Read the facts of the bundle in folder `path` from its manifest alone.

    Raises:
        SignatureError: none of the trusted keys signed the bundle.
        BundleError: not a bundle, a damaged manifest, or a newer major version.
        StorageError: the file system refuses.
    """
    keys, files = None if trusted is None else read_public_keys(trusted), stored_files(Path(path))
    return Metadata.of(replace(parse_manifest(files.document, files.place, keys), file_bytes=files.nbytes))

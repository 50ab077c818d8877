"""An open bundle: files checked, tables mapped once, graphs opened on first use over that one mapping."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError
from edgerec.files import storage_failure
from edgerec.runtime.ids import IdIndex, IntIds, RowIds, StrIds, StringArray
from edgerec.runtime.manifest import FILE_NAME, FileEntry, Manifest, RowsEntry, Section, read_manifest
from edgerec.signatures import PublicKey, read_public_keys


def onnxruntime() -> Any:
    """onnxruntime with its telemetry off; the switch is read when it is imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


@cache
def _share_arena() -> None:
    """Give all sessions that ask for it one arena: each would keep the memory of its largest answer for itself (at 1M
    items 19 MB a graph, and 11 with one for all)."""
    ort = onnxruntime()
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    with suppress(RuntimeError):  # the app has registered one already, which then serves
        ort.create_and_register_allocator(memory, None)


class Bundle:
    """A bundle on disk, opened for reading.

    Attributes:
        folder: where it lies.
        manifest: what is in it.
        trusted: the public keys, one of which signed it; None where any bundle is taken.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        verify: bool = True,
        threads: int = 1,
        trusted: PublicKey | Iterable[PublicKey] | None = None,
    ) -> None:
        """Open the bundle in `folder`.

        Args:
            verify: compare the sha256 of the tables file too; sizes, and the graphs' sha256, always are.
            threads: of onnxruntime's, for one operator.
            trusted: public keys, one of which must have signed the bundle; every file's sha256 is compared then.

        Raises:
            SignatureError: none of the trusted keys signed it, or its manifest was altered since.
            SigningKeyError: one of `trusted` is no ed25519 public key.
            BundleError: no bundle, a missing, cut or altered file (named), or a newer major version.
            StorageError: the file system refuses.
        """
        self.folder = Path(folder)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        if trusted is not None and not isinstance(trusted, PublicKey):
            trusted = tuple(trusted)
        self.trusted = trusted
        keys = None if trusted is None else read_public_keys(trusted)
        self.manifest: Manifest = read_manifest(self.folder, keys)
        try:
            self._open_files(verify, signed=keys is not None)
        except BundleError:
            replaced = read_manifest(self.folder, keys)
            if replaced == self.manifest:
                raise
            # Another bundle took this one's place between its manifest and its files.
            self.manifest = replaced
            self._open_files(verify, signed=keys is not None)

    def again(self) -> Bundle:
        """What lies in the folder now, opened as this was; its files are not read through again."""
        return Bundle(self.folder, verify=False, threads=self._threads, trusted=self.trusted)

    def _open_files(self, verify: bool, *, signed: bool) -> None:
        """Map the tables and read the graphs, a few KB: what is open goes on answering if the bundle is replaced."""
        tables = self.manifest.tables
        self._check_size(tables)
        self._tables = self._map(tables, verify=verify or signed)
        self._graphs = {name: self._read(graph.file) for name, graph in self.manifest.graphs.items()}
        if signed:
            for entry in self.manifest.other_files:
                self._read(entry)

    def _check_size(self, entry: FileEntry) -> None:
        path = self.folder / entry.name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise BundleError(f"{path} is missing: the bundle is incomplete; export it or copy it again") from None
        except OSError as error:
            storage_failure(path, error, "read")
        if size != entry.bytes:
            raise BundleError(f"{path} has {size} bytes where {FILE_NAME} says {entry.bytes}; copy the bundle again")

    def _altered(self, entry: FileEntry) -> BundleError:
        path = self.folder / entry.name
        return BundleError(f"{path} is not the file that {FILE_NAME} describes (sha256 differs); copy the bundle again")

    def _read(self, entry: FileEntry) -> bytes:
        self._check_size(entry)
        path = self.folder / entry.name
        try:
            content = path.read_bytes()
        except OSError as error:
            storage_failure(path, error, "read")
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise self._altered(entry)
        return content

    def _map(self, entry: FileEntry, *, verify: bool) -> mmap.mmap:
        path = self.folder / entry.name
        try:
            with path.open("rb") as stream:
                # Of the very file that is mapped, whatever takes its name meanwhile.
                if verify and hashlib.file_digest(stream, "sha256").hexdigest() != entry.sha256:
                    raise self._altered(entry)
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            storage_failure(path, error, "read")

    def section(self, name: str) -> NDArray[Any]:
        """A read-only view of a named array in the tables file. Raises BundleError where there is none."""
        if name not in self.manifest.sections:
            raise BundleError(f"{self.folder / FILE_NAME} names no section {name!r}")
        return self._view(self.manifest.sections[name])

    def _view(self, section: Section) -> NDArray[Any]:
        values = np.frombuffer(self._tables, section.dtype, math.prod(section.shape), section.offset)
        return values.reshape(section.shape)

    def strings(self, name: str, offsets: str) -> StringArray:
        """Text stored as one blob and offsets."""
        return StringArray(self.section(name), self.section(offsets))

    def ids(self, side: str, entry: RowsEntry) -> IdIndex:
        """Raw ids of 'item' or 'user' rows; the rows themselves where the bundle ships none."""
        if entry.ids == "none":
            return RowIds(entry)
        if entry.ids == "int":
            return IntIds(entry, self.section(f"{side}_ids"))
        return StrIds(entry, self.strings(f"{side}_ids", f"{side}_id_offsets"))

    def has_graph(self, name: str) -> bool:
        return name in self.manifest.graphs

    def session(self, name: str) -> Any:
        """The onnxruntime session of a graph, opened on first use. Raises BundleError where there is no such graph."""
        if name not in self._sessions:
            if not self.has_graph(name):
                raise BundleError(f"the bundle {self.folder} has no '{name}' graph")
            self._sessions[name] = self._open(name)
        return self._sessions[name]

    def run(self, name: str, outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """What a graph answers. Raises BundleError where it cannot: its parts do not fit together."""
        session = self.session(name)
        try:
            answers: list[NDArray[Any]] = session.run(outputs, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = str(error).splitlines()[0]
            raise BundleError(f"the '{name}' graph of {self.folder} failed: {reason}; export it again") from error
        return answers

    def _open(self, name: str) -> Any:
        ort = onnxruntime()
        graph = self.manifest.graphs[name]
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A pattern is one block a set of input shapes, kept beside the arena: 4 MB more at 1M items, and no faster
        # (onnxruntime 1.32).
        options.enable_mem_pattern = False
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        for key, value in self.manifest.session.items():
            options.add_session_config_entry(key, value)
        # Every tensor is handed over as a view of the one mapping: sessions that map the file themselves would
        # each count its pages again.
        shared = [(tensor, self._view(section)) for tensor, section in graph.tensors.items()]
        values = [(tensor, ort.OrtValue.ortvalue_from_numpy(view)) for tensor, view in shared]
        for tensor, value in values:
            options.add_initializer(tensor, value)
        folder = str(self.folder.resolve())
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        try:
            session = ort.InferenceSession(self._graphs[name], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = str(error).splitlines()[0]
            path = self.folder / graph.file.name
            if not (self.folder / self.manifest.tables.name).exists():  # onnxruntime looks for it, mapped or not
                raise BundleError(
                    f"the bundle in {self.folder} was replaced since it was opened; load it again"
                ) from None
            raise BundleError(f"onnxruntime {ort.__version__} cannot open {path}: {reason}") from error
        # onnxruntime reads them as long as the session lives, which may be longer than the bundle.
        session.edgerec_tables = [shared, values]
        return session

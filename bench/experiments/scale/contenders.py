"""Contenders at scale: plain ONNX models, EdgeRec bundles and other libraries, built from the same tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.experiments.scale.plain import plain_dense
from bench.experiments.scale.tables import TablePair, mixed_items, unstructured_items
from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec_bench.calibrate import dense_users, sparse_users
from edgerec_devices import Device
from edgerec_export import ExportRequest, Source, export_request

K = 20
MIXED, ANY, FEW = "mixed", "any positions", "any positions, few active in users"
EXCLUDED_SECTIONS = ("item_ids", "user_ids", "n")
"""Sections that are not compared with the dense tables: raw ids, and the norms of the 'similar' graph."""
MILLION = 1_000_000

CALLS, COMPARED = 50, 32
SLOW_CALLS, SLOW_COMPARED = 5, 4


@dataclass(frozen=True)
class ContenderSpec:
    """The description of a contender.

    Attributes:
        kind: 'plain' is one ONNX file, 'bundle' is an EdgeRec bundle, 'peer' is another library.
        tables: name of its tables: `MIXED`, `ANY` or `FEW`.
        options: export options of a bundle.
        prepack: whether onnxruntime prepacks a plain model, which is its default.
        rounded_to: precision of a plain model by onnxruntime's tools: 'int8', 'int4', or None for fp32.
        exact: True if it must return numpy's best; of others the result states the share they find.
        slow: True to time only a few calls: one takes a second at a million items.
        most_items: largest number of items at which it is measured; None for no limit.
    """

    name: str
    kind: Literal["plain", "bundle", "peer"]
    tables: str = MIXED
    options: ExportRequest | None = None
    prepack: bool = True
    rounded_to: str | None = None
    exact: bool = True
    slow: bool = False
    most_items: int | None = None

    def effort(self, items: int) -> dict[str, int]:
        """Return the numbers of calls to time and of answers to compare."""
        if self.slow:
            return {"calls": SLOW_CALLS, "compared": SLOW_COMPARED}
        less = 1 if items <= MILLION else 5
        return {"calls": CALLS // less, "compared": COMPARED // less}


def _bundle(name: str, tables: str, scales: str = "auto", lookup: bool = False, **more: Any) -> ContenderSpec:
    layout, precision = name.split()[:2]
    # The exporter's verification would score in float64, which takes gigabytes. Answers are compared with numpy's here.
    options = ExportRequest(layout=layout, precision=precision, scales=scales, lookup=lookup, verify=False)
    return ContenderSpec(f"EdgeRec {name}", "bundle", tables, options, exact=precision == "fp32", **more)


BASELINE = ContenderSpec("plain dense ONNX", "plain")
CONTENDERS = (
    BASELINE,
    ContenderSpec("plain dense, no prepacking", "plain", prepack=False),
    _bundle("dense fp32", MIXED),
    _bundle("dense int8", MIXED),
    _bundle("dense int4", MIXED, scales="row"),
    _bundle("mixed fp32", MIXED),
    _bundle("mixed int8", MIXED),
    _bundle("ell fp32", ANY),
    _bundle("ell int8", ANY),
    _bundle("csc int8", FEW),
    _bundle("csc int8 with lookup", FEW, lookup=True),
    _bundle("bitmask int8", ANY, slow=True, most_items=MILLION),
    _bundle("csr int8", ANY, slow=True, most_items=MILLION),
    ContenderSpec("faiss IndexFlatIP", "peer"),
    ContenderSpec("faiss SQ8", "peer", exact=False),
    ContenderSpec("usearch exact", "peer"),
)
"""The baseline, EdgeRec's layouts, and exact libraries."""
PEERS = (
    *(spec for spec in CONTENDERS if spec.name in ("EdgeRec dense int8", "EdgeRec mixed fp32", "EdgeRec mixed int8")),
    ContenderSpec("plain ONNX int8", "plain", rounded_to="int8", exact=False),
    ContenderSpec("plain ONNX int4", "plain", rounded_to="int4", exact=False),
    *(spec for spec in CONTENDERS if spec.kind == "peer"),
    ContenderSpec("hnswlib", "peer", exact=False),
    ContenderSpec("implicit topk", "peer"),
    ContenderSpec("OpenVINO fp32", "peer"),
    ContenderSpec("OpenVINO int8", "peer", exact=False),
    ContenderSpec("LiteRT fp32", "peer"),
    ContenderSpec("LiteRT int8", "peer", exact=False),
    ContenderSpec("ExecuTorch fp32", "peer"),
    ContenderSpec("turbovec 4 bit", "peer", exact=False),
)
"""Other libraries and other quantisers, with three bundles."""


def contenders_named(names: Sequence[str], *, peers: bool = False) -> tuple[ContenderSpec, ...]:
    """Return the baseline and the named contenders; without names CONTENDERS, or PEERS.

    'mixed int8' stands for 'EdgeRec mixed int8'. Raises BenchError for an unknown name.
    """
    every = tuple(dict.fromkeys((*CONTENDERS, *PEERS)))
    known = {spec.name: spec for spec in every}
    known |= {spec.name.removeprefix("EdgeRec "): spec for spec in every}
    for name in names:
        if name not in known:
            raise BenchError(f"unknown contender {name!r}; expected one of: {', '.join(spec.name for spec in every)}")
    chosen = [known[name] for name in names] or (PEERS if peers else CONTENDERS)
    return BASELINE, *(spec for spec in every if spec in chosen and spec != BASELINE)


@dataclass(frozen=True)
class BuiltContender:
    """A contender whose files are written.

    Attributes:
        request: the request for the agent.
        nbytes: bytes of its files.
        excluded_nbytes: bytes of `EXCLUDED_SECTIONS` among them.
        built_with: version and settings of another library.
    """

    spec: ContenderSpec
    request: dict[str, Any]
    nbytes: int
    excluded_nbytes: int = 0
    built_with: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ContenderBuilder:
    """Builds contenders in a folder; generates shared tables and files once."""

    items: int
    dimensions: int
    users: int
    folder: Path
    device: Device
    _tables: dict[str, TablePair] = field(default_factory=dict, init=False)
    _best: dict[tuple[str, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict, init=False
    )

    def tables(self, name: str) -> TablePair:
        """Return the tables with a name, generated on first use."""
        if name not in self._tables:
            size = self.users, self.dimensions
            if name == MIXED:
                pair = TablePair(mixed_items(self.items, self.dimensions), dense_users(*size))
            elif name == ANY:
                pair = TablePair(unstructured_items(self.items, self.dimensions), dense_users(*size))
            else:
                pair = TablePair(self.tables(ANY).items, sparse_users(*size))
            self._tables[name] = pair
        return self._tables[name]

    def compared_users(self, spec: ContenderSpec) -> list[int]:
        """Return the rows of the users whose answers are compared with numpy's."""
        rows: list[int] = np.linspace(0, self.users - 1, spec.effort(self.items)["compared"]).astype(int).tolist()
        return rows

    def best(self, spec: ContenderSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `TablePair.best` of the compared users."""
        users = self.compared_users(spec)
        key = spec.tables, len(users)
        if key not in self._best:
            self._best[key] = self.tables(spec.tables).best(users, K)
        return self._best[key]

    def densities(self) -> dict[str, float]:
        """Return the density of each item table generated so far, by name."""
        return {
            name: pair.items.n_values / (self.items * self.dimensions)
            for name, pair in self._tables.items()
            if name != FEW
        }

    def build(self, spec: ContenderSpec) -> BuiltContender:
        """Write a contender's files. Raises BenchError if its library is not installed."""
        if spec.kind == "plain":
            model, nbytes = self._plain
            built_with = {}
            if spec.rounded_to is not None:
                whole, model = model, self.folder / f"plain-{spec.rounded_to}.onnx"
                nbytes = rounded(whole, spec.rounded_to, model)
                built_with = {"tool": TOOLS[spec.rounded_to]}
            request = {"task": "plain", "model": str(model), "users": self.users, "prepack": spec.prepack}
            return BuiltContender(spec, request, nbytes, built_with=built_with)
        return self._bundle(spec) if spec.kind == "bundle" else self._peer(spec)

    @cached_property
    def _plain(self) -> tuple[Path, int]:
        pair, path = self.tables(MIXED), self.folder / "plain.onnx"
        return path, plain_dense(pair.items.dense(), pair.users.dense(), path, K)

    @cached_property
    def _matrices(self) -> dict[str, str]:
        """The dense tables as .npy files, the input of other libraries."""
        pair = self.tables(MIXED)
        for name, table in (("items", pair.items), ("users", pair.users)):
            np.save(self.folder / f"{name}.npy", table.dense())
        return {name: str(self.folder / f"{name}.npy") for name in ("items", "users")}

    def _bundle(self, spec: ContenderSpec) -> BuiltContender:
        pair, name = self.tables(spec.tables), spec.name.removeprefix("EdgeRec ").replace(" ", "-")
        place = self.folder / f"{name}.bundle"
        ids = np.arange(self.items), np.arange(self.users)
        source = Source(pair.items, ids[0], pair.users, ids[1], about={"data": "synthetic"})
        written = export_request(source, place, spec.options or ExportRequest())
        excluded = sum(written.parts.get(name, 0) for name in EXCLUDED_SECTIONS)
        return BuiltContender(spec, {"task": "bundle", "bundle": self.device.push(place)}, written.nbytes, excluded)

    def _peer(self, spec: ContenderSpec) -> BuiltContender:
        index = self.folder / f"{spec.name.replace(' ', '-')}.index"
        fields = {"peer": spec.name, "index": str(index), "k": K, **self._matrices}
        built = self.device.run({"task": "index", **fields})
        request = {"task": "peer", **fields, "settings": built["settings"]}
        built_with = {"version": built["version"], **built["settings"]}
        return BuiltContender(spec, request, int(built["nbytes"]), built_with=built_with)


EXTRA = "peers"
BLOCK = 32
"""Number of int4 values per scale; the default of 128 exceeds a row of 64 values."""
TOOLS = {"int8": "quantize_dynamic", "int4": f"MatMulNBitsQuantizer, block_size {BLOCK}"}
"""The onnxruntime tool for each precision."""


def rounded(plain: Path, precision: str, path: Path) -> int:
    """Quantise the tables of `plain`, an fp32 ONNX file, to int8 or int4; return the bytes of the new file.

    int8 is `quantize_dynamic`: both tables in 8 bits with one scale each, and a query that is quantised at each call
    (MatMulInteger). int4 is `MatMulNBitsQuantizer`: items in 4 bits with a scale for every BLOCK values, for the
    operator MatMulNBits of onnxruntime's own domain.

    Raises MissingExtraError if a package of these tools is not installed.
    """
    for package in ("onnx", "onnx_ir"):
        require(package, EXTRA)
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # both tools log advice to the root logger
    try:
        if precision == "int8":
            require("onnxruntime.quantization", EXTRA).quantize_dynamic(str(plain), str(path))
        else:
            tool = require("onnxruntime.quantization.matmul_nbits_quantizer", EXTRA)
            quantizer = tool.MatMulNBitsQuantizer(str(plain), block_size=BLOCK)
            quantizer.process()
            quantizer.model.save_model_to_file(str(path))
    finally:
        logging.root.setLevel(level)
    return path.stat().st_size

"""Contenders at scale: plain ONNX models, EdgeRec's bundles and other libraries, made from the same tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec_bench.scale.tables import Pair, dense_users, mixed_items, sparse_users, unstructured_items
from edgerec_devices import Device
from edgerec_export import ExportRequest, Source, export_request
from edgerec_export.plain import plain_dense

K = 20
MIXED, ANY, FEW = "mixed", "any positions", "any positions, few active in users"
APART = ("item_ids", "user_ids", "n")
"""Sections that are counted apart: raw ids, and the norms of the 'similar' graph."""
MILLION = 1_000_000

CALLS, ASKED = 50, 32
SLOW_CALLS, SLOW_ASKED = 5, 4


@dataclass(frozen=True)
class Form:
    """A contender before it is made.

    Attributes:
        kind: 'plain' is one ONNX file, 'bundle' is EdgeRec's, 'peer' another library.
        tables: which tables it holds: `MIXED`, `ANY` or `FEW`.
        options: of a bundle.
        prepack: of a plain model: onnxruntime's default.
        rounded_to: of a plain model: 'int8' or 'int4' by onnxruntime's own tools, None for fp32.
        exact: whether it must return numpy's best; others tell which share of them they do.
        slow: few calls and answers are enough: one takes a second at a million items.
        most_items: above them it is left out.
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
        """How many calls are timed and answers compared."""
        if self.slow:
            return {"calls": SLOW_CALLS, "asked": SLOW_ASKED}
        less = 1 if items <= MILLION else 5
        return {"calls": CALLS // less, "asked": ASKED // less}


def _bundle(name: str, tables: str, scales: str = "auto", lookup: bool = False, **more: Any) -> Form:
    layout, precision = name.split()[:2]
    # The exporter's own check would score in float64: gigabytes. Answers are compared with numpy's here.
    options = ExportRequest(layout=layout, precision=precision, scales=scales, lookup=lookup, verify=False)
    return Form(f"EdgeRec {name}", "bundle", tables, options, exact=precision == "fp32", **more)


RIVAL = Form("plain dense ONNX", "plain")
FORMS = (
    RIVAL,
    Form("plain dense, no prepacking", "plain", prepack=False),
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
    Form("faiss IndexFlatIP", "peer"),
    Form("faiss SQ8", "peer", exact=False),
    Form("usearch exact", "peer"),
)
"""What EdgeRec ships beside what it is measured against, the rival first."""
PEERS = (
    *(form for form in FORMS if form.name in ("EdgeRec dense int8", "EdgeRec mixed fp32", "EdgeRec mixed int8")),
    Form("plain ONNX int8", "plain", rounded_to="int8", exact=False),
    Form("plain ONNX int4", "plain", rounded_to="int4", exact=False),
    *(form for form in FORMS if form.kind == "peer"),
    Form("hnswlib", "peer", exact=False),
    Form("implicit topk", "peer"),
    Form("OpenVINO fp32", "peer"),
    Form("OpenVINO int8", "peer", exact=False),
    Form("LiteRT fp32", "peer"),
    Form("LiteRT int8", "peer", exact=False),
    Form("ExecuTorch fp32", "peer"),
)
"""Other libraries and other roundings, beside three bundles."""


def forms_named(names: Sequence[str], *, peers: bool = False) -> tuple[Form, ...]:
    """The rival, and those of the given names; without any FORMS, or PEERS. 'mixed int8' is 'EdgeRec mixed int8'.

    Raises BenchError for a name that is none.
    """
    every = tuple(dict.fromkeys((*FORMS, *PEERS)))
    known = {form.name: form for form in every}
    known |= {form.name.removeprefix("EdgeRec "): form for form in every}
    for name in names:
        if name not in known:
            raise BenchError(f"there is no contender {name!r}; there are: {', '.join(form.name for form in every)}")
    wanted = [known[name] for name in names] or (PEERS if peers else FORMS)
    return RIVAL, *(form for form in every if form in wanted and form != RIVAL)


@dataclass(frozen=True)
class Entry:
    """A contender that was made, before it is measured.

    Attributes:
        request: what the agent is asked.
        nbytes: of its files.
        apart: those of them that are ids and norms.
        made_with: of another library: its version, and what was chosen for it.
    """

    form: Form
    request: dict[str, Any]
    nbytes: int
    apart: int = 0
    made_with: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workshop:
    """Makes contenders in a folder; tables and files that several share are made once."""

    items: int
    dimensions: int
    users: int
    folder: Path
    device: Device
    _tables: dict[str, Pair] = field(default_factory=dict, init=False)
    _best: dict[tuple[str, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict, init=False
    )

    def tables(self, name: str) -> Pair:
        """The tables of a name."""
        if name not in self._tables:
            size = self.users, self.dimensions
            if name == MIXED:
                pair = Pair(mixed_items(self.items, self.dimensions), dense_users(*size))
            elif name == ANY:
                pair = Pair(unstructured_items(self.items, self.dimensions), dense_users(*size))
            else:
                pair = Pair(self.tables(ANY).items, sparse_users(*size))
            self._tables[name] = pair
        return self._tables[name]

    def asked(self, form: Form) -> list[int]:
        """The users whose answers are compared with numpy's."""
        rows: list[int] = np.linspace(0, self.users - 1, form.effort(self.items)["asked"]).astype(int).tolist()
        return rows

    def best(self, form: Form) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What `Pair.best` says of the asked users."""
        asked = self.asked(form)
        key = form.tables, len(asked)
        if key not in self._best:
            self._best[key] = self.tables(form.tables).best(asked, K)
        return self._best[key]

    def kept(self) -> dict[str, float]:
        """The share of the items' values that the tables made so far keep, by name."""
        return {
            name: pair.items.n_values / (self.items * self.dimensions)
            for name, pair in self._tables.items()
            if name != FEW
        }

    def make(self, form: Form) -> Entry:
        """Write a contender's files. Raises BenchError where its library is absent."""
        if form.kind == "plain":
            model, nbytes = self._plain
            made_with = {}
            if form.rounded_to is not None:
                whole, model = model, self.folder / f"plain-{form.rounded_to}.onnx"
                nbytes = rounded(whole, form.rounded_to, model)
                made_with = {"tool": TOOLS[form.rounded_to]}
            ask = {"task": "plain", "model": str(model), "users": self.users, "prepack": form.prepack}
            return Entry(form, ask, nbytes, made_with=made_with)
        return self._bundle(form) if form.kind == "bundle" else self._peer(form)

    @cached_property
    def _plain(self) -> tuple[Path, int]:
        pair, path = self.tables(MIXED), self.folder / "plain.onnx"
        return path, plain_dense(pair.items.dense(), pair.users.dense(), path, K)

    @cached_property
    def _matrices(self) -> dict[str, str]:
        """The dense tables as .npy files: what other libraries start from."""
        pair = self.tables(MIXED)
        for name, table in (("items", pair.items), ("users", pair.users)):
            np.save(self.folder / f"{name}.npy", table.dense())
        return {name: str(self.folder / f"{name}.npy") for name in ("items", "users")}

    def _bundle(self, form: Form) -> Entry:
        pair, name = self.tables(form.tables), form.name.removeprefix("EdgeRec ").replace(" ", "-")
        place = self.folder / f"{name}.bundle"
        ids = np.arange(self.items), np.arange(self.users)
        source = Source(pair.items, ids[0], pair.users, ids[1], about={"data": "synthetic"})
        written = export_request(source, place, form.options or ExportRequest())
        apart = sum(written.parts.get(name, 0) for name in APART)
        return Entry(form, {"task": "bundle", "bundle": self.device.push(place)}, written.nbytes, apart)

    def _peer(self, form: Form) -> Entry:
        index = self.folder / f"{form.name.replace(' ', '-')}.index"
        ask = {"peer": form.name, "index": str(index), "k": K, **self._matrices}
        made = self.device.run({"task": "index", **ask})
        request = {"task": "peer", **ask, "settings": made["settings"]}
        made_with = {"version": made["version"], **made["settings"]}
        return Entry(form, request, int(made["nbytes"]), made_with=made_with)


EXTRA = "peers"
BLOCK = 32
"""Values a scale of int4: the default of 128 is more than a row of 64 has."""
TOOLS = {"int8": "quantize_dynamic", "int4": f"MatMulNBitsQuantizer, block_size {BLOCK}"}
"""The onnxruntime tool for each precision."""


def rounded(plain: Path, precision: str, path: Path) -> int:
    """Write `plain`, an fp32 ONNX file, with its tables in int8 or int4; its bytes.

    int8 is `quantize_dynamic`: both tables in 8 bits with one scale each, the query rounded at each call
    (MatMulInteger). int4 is `MatMulNBitsQuantizer`: the items in 4 bits with a scale for every BLOCK values, the
    operator MatMulNBits of onnxruntime's own domain.

    Raises MissingExtraError where a package of theirs is absent.
    """
    for package in ("onnx", "onnx_ir"):
        require(package, EXTRA)
    said = logging.root.level
    logging.root.setLevel(logging.ERROR)  # both advise on the root logger
    try:
        if precision == "int8":
            require("onnxruntime.quantization", EXTRA).quantize_dynamic(str(plain), str(path))
        else:
            tool = require("onnxruntime.quantization.matmul_nbits_quantizer", EXTRA)
            quantizer = tool.MatMulNBitsQuantizer(str(plain), block_size=BLOCK)
            quantizer.process()
            quantizer.model.save_model_to_file(str(path))
    finally:
        logging.root.setLevel(said)
    return path.stat().st_size

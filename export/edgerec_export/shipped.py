"""What a bundle was made with, read back from it, so that the next one of its line is made alike.

Scales are constants of the graphs alone. Rows that did not change keep their codes under the same scales, and rows
that keep their size keep their block under the same widths: a patch between the two holds the others only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgerec.errors import UnsupportedError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME
from edgerec.runtime.patch.rows import Block
from edgerec_export.forms import forms_of, tables_of
from edgerec_export.kept import KeptScales
from edgerec_export.values import is_integer


@dataclass(frozen=True)
class Shipped:
    """How a bundle was exported.

    Attributes:
        layout, precision: of its items.
        scaled: what of integers has a scale of its own: 'table', 'block', 'row', or 'auto' of floats.
        users_scaled: 'row' where the users' do and the items' do not; else None.
        widths: of the blocks of each table, ascending, by the name of its values.
        scales: of each table of integers.
        top_inverse_norm: what stored inverse norms are multiplied by; None without `similar`.
        parts: of the bundle: any of 'users', 'titles', 'similar', 'lookup', 'ids'.
    """

    layout: str
    precision: str
    scaled: str
    widths: dict[str, tuple[int, ...]]
    scales: dict[str, KeptScales]
    top_inverse_norm: np.float32 | None
    parts: frozenset[str]
    users_scaled: str | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Shipped:
        """Read it from a bundle.

        Raises:
            BundleError: no whole bundle.
            UnsupportedError: one of int4 and int8 in rows, whose sizes are fitted to a limit anew each time.
        """
        bundle = Bundle(folder)
        manifest = json.loads((bundle.folder / FILE_NAME).read_bytes())
        precision = str(manifest["precision"])
        if "+" in precision:
            raise UnsupportedError(
                f"{folder} is in {precision}, which is fitted to a limit anew at each export; export one in int8 or "
                "int4 to follow"
            )
        forms = forms_of(bundle, manifest)
        tables = [name for name, *_ in tables_of(manifest, set(bundle.manifest.sections))]
        blocks = {name: forms[name].form.blocks if name in forms else () for name in tables}
        graphs = _Graphs(bundle)
        scales = {}
        if is_integer(precision):
            scales = {name: graphs.scales_of(name, blocks[name]) for name in tables}
        sections = bundle.manifest.sections
        there = {
            "users": bundle.manifest.users is not None,
            "titles": "item_titles" in sections,
            "similar": "n" in sections,
            "lookup": "l" in sections,
            "ids": bundle.manifest.items.ids != "none",
        }
        return cls(
            str(manifest["layout"]),
            precision,
            _scaled(scales),
            {name: tuple(sorted({block.width for block in some if block.width})) for name, some in blocks.items()},
            scales,
            graphs.top_inverse_norm(),
            frozenset(name for name, is_there in there.items() if is_there),
            _by_row(scales, "u") if _by_row(scales, "i") is None else None,
        )


def _by_row(scales: dict[str, KeptScales], name: str) -> str | None:
    return "row" if name in scales and scales[name].top is not None else None


def _scaled(scales: dict[str, KeptScales]) -> str:
    """What the option `scales` was, or one that comes to the same."""
    if _by_row(scales, "i"):
        return "row"
    each = {name: len(one.blocks) > 1 and one.scales is not None and len(one.scales) for name, one in scales.items()}
    if each.get("i", 0) > 1:
        return "block"
    if each.get("u", 0) > 1:
        return "auto"  # one of the items and one a block of the users is what int8 has by itself
    return "table" if 1 in (each.get("i"), each.get("u")) else "auto"


class _Graphs:
    """The constants of a bundle's graphs, found by what they are multiplied with."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._sections = set(bundle.manifest.sections)

    def scales_of(self, name: str, blocks: tuple[Block, ...]) -> KeptScales:
        """Of a table, by the name of its values."""
        score = self._graph("score")
        if name + "s" in self._sections:
            return KeptScales(blocks, None, np.float32(score.factor_of(name + "s")))
        if name == "i" and ("l" in self._sections or (not blocks and self._bundle.manifest.layout == "csc")):
            scales = self._graph("recommend").last_factor()  # one for all, applied to the best
        else:
            # Of rows that are looked up, users' before items': Expand gives each its scale.
            place = 0 if name == "u" or "us" in self._sections or "u" not in self._sections else 1
            scales = score.expanded()[place]
        return KeptScales(blocks, np.asarray(scales, np.float32).reshape(-1), None)

    def top_inverse_norm(self) -> np.float32 | None:
        """Of `similar`, where its square is."""
        if not self._bundle.has_graph("similar"):
            return None
        return np.float32(np.sqrt(self._graph("similar").factor_of("n")))

    def _graph(self, name: str) -> _Graph:
        entry = self._bundle.manifest.graphs[name].file
        return _Graph(onnx.load(str(self._bundle.folder / entry.name), load_external_data=False).graph)


class _Graph:
    """One graph, asked for what produces and what takes a value."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {
            one.name: numpy_helper.to_array(one)
            for one in graph.initializer
            if one.data_location != onnx.TensorProto.EXTERNAL
        }
        self._made_by = {output: node for node in graph.node for output in node.output}

    def expanded(self) -> list[NDArray[np.float32]]:
        """Every float32 constant that rows are given, whole or by their block, in the graph's order."""
        return list(self._expanded())

    def _expanded(self) -> Iterator[NDArray[np.float32]]:
        for node in self._graph.node:
            if node.op_type == "Expand":
                source = node.input[0]
                gather = self._made_by.get(source)
                name = gather.input[0] if gather is not None and gather.op_type == "Gather" else source
                if name in self._constants and self._constants[name].dtype == np.float32:
                    yield self._constants[name]

    def factor_of(self, table: str) -> float:
        """The constant that entries of a table are multiplied by, after they are gathered."""
        reached = {table}
        for node in self._graph.node:  # in order: what takes a value comes after what makes it
            if not reached & set(node.input):
                continue
            others = [name for name in node.input if name in self._constants]
            if node.op_type == "Mul" and others and self._constants[others[0]].dtype == np.float32:
                return float(self._constants[others[0]])
            if node.op_type in ("GatherElements", "Reshape", "Cast", "Unsqueeze"):
                reached |= set(node.output)
        raise UnsupportedError(f"the graphs do not say what {table!r} is scaled by: another version's; export it again")

    def last_factor(self) -> NDArray[np.float32]:
        """The constant that the scores of a table with one scale are multiplied by, before the user's own."""
        node = self._made_by["scores"]
        while node is not None:
            constants = [name for name in node.input if name in self._constants]
            if node.op_type == "Mul" and constants:
                found: NDArray[np.float32] = self._constants[constants[0]]
                return found
            node = self._made_by.get(node.input[0]) if node.op_type in ("Identity", "Mul") else None
        raise UnsupportedError("the graphs do not say what scores are scaled by: another version's; export it again")

"""Settings of an existing bundle, read from its files: the forms of rows in sections, and the scales of integers.

`diff` compares rows by their forms. An export that follows an older bundle uses its scales (constants of the graphs)
and its block widths, so that unchanged rows have the same codes and stay in their blocks, and a patch holds changed
rows only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgerec.budget import BITS_PER_VALUE
from edgerec.errors import BundleError, PatchError, UnsupportedError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME
from edgerec.runtime.patch.rows import Block, Form
from edgerec_export.layouts import BLOCKED
from edgerec_export.patch.rows import PreviousRows, ids_of
from edgerec_export.values import STORED, PreviousScales, block_of, is_integer, unit_of

ONE_A_ROW = {"n": "item", "w": "item", "is": "item", "ls": "item", "us": "user", "item_ids": "item", "user_ids": "user"}
"""Sections with one number for each row, and the side of the rows."""
PRECISION_OF_BITS = {bits: name for name, bits in BITS_PER_VALUE.items()}
LARGEST_FLOAT = float(np.finfo(np.float32).max)
TEXTS = {"item_id": ("item_ids", "item"), "user_id": ("user_ids", "user"), "item_title": ("item_titles", "item")}
"""Sections of text and their side, by the stem of the section of offsets."""


@dataclass(frozen=True)
class SectionForm:
    """The side and the form of the rows of a section."""

    side: str
    form: Form


def forms_of(bundle: Bundle, manifest: dict[str, Any]) -> dict[str, SectionForm]:
    """Return the form of each section with rows, by name; `manifest` is the JSON of the bundle's manifest."""
    found: dict[str, SectionForm] = {}
    sections = bundle.manifest.sections
    rows = {"item": bundle.manifest.items.rows}
    if bundle.manifest.users is not None:
        rows["user"] = bundle.manifest.users.rows
    for name, side, fields, layout in tables_of(manifest, set(sections)):
        for suffix, form in _of_table(bundle, name, fields, layout, by_column=_by_column(name, layout, manifest)):
            found[name + suffix] = SectionForm(side, form)
    coded = bundle.manifest.version[0] > 1  # ids are no rows of units
    of_attributes = {f"attribute_{number}": "item" for number in range(len(bundle.manifest.item_attributes))}
    for name, side in (ONE_A_ROW | of_attributes).items():
        if name.endswith("_ids") and coded:
            continue
        if name in sections and len(sections[name].shape) == 1 and sections[name].shape[0] == rows.get(side):
            bits = 8 * np.dtype(sections[name].dtype).itemsize
            found[name] = SectionForm(side, Form((Block(rows[side], 1, bits, False, 0),)))
    for stem, (name, side) in TEXTS.items():
        if f"{stem}_offsets" in sections:
            found[f"{stem}_offsets"] = SectionForm(side, Form((), pointers=True))
            found[name] = SectionForm(side, Form((Block(0, 0, 8, False, 0),), lengths=f"{stem}_offsets"))
    return found


def tables_of(manifest: dict[str, Any], sections: set[str]) -> list[tuple[str, str, dict[str, Any], str]]:
    """Return section name, side, manifest entry and layout of each table."""
    tables = [("i", "item", manifest["items"], manifest["layout"])]
    if "l" in sections:  # the manifest entry of the items is then that of the copy
        tables.append(("l", "item", manifest["items"], manifest["items"]["layout"]))
    if manifest["users"] is not None:
        tables.append(("u", "user", manifest["users"], manifest["users"]["layout"]))
    return tables


def _by_column(name: str, layout: str, manifest: dict[str, Any]) -> bool:
    return name == "i" and layout in BLOCKED and "scorer" not in manifest


def _of_table(
    bundle: Bundle, name: str, fields: dict[str, Any], layout: str, *, by_column: bool
) -> list[tuple[str, Form]]:
    sections = bundle.manifest.sections
    if layout == "csc":
        return []
    shapes = [(int(width), int(rows)) for width, rows in fields["blocks"]]
    named = _named_precisions(bundle, fields.get("bits"), len(shapes))
    if layout == "csr":
        count = int(sections[name + "c"].shape[0])
        precision = (named or _precisions(bundle, name, shapes, count, by_column=False))[0]
        bits, zero = unit_of(precision)
        column = 8 * np.dtype(sections[name + "c"].dtype).itemsize
        return [
            ("p", Form((), pointers=True)),
            ("", Form((Block(0, 0, bits, False, zero),), lengths=name + "p")),
            ("c", Form((Block(0, 0, column, False, 0),), lengths=name + "p")),
        ]
    precisions = named or _precisions(bundle, name, shapes, None, by_column=by_column)
    blocks = []
    for (width, rows), precision in zip(shapes, precisions, strict=True):
        bits, zero = unit_of(precision)
        blocks.append(Block(rows, width, bits, by_column, zero))
    forms = [("", Form(tuple(blocks)))]
    if layout == "ell":
        column = 8 * np.dtype(sections[name + "c"].dtype).itemsize
        forms.append(("c", Form(tuple(Block(rows, width, column, False, 0) for width, rows in shapes))))
    if layout == "bitmask":
        rows, width = sections[name + "m"].shape
        forms.append(("m", Form((Block(rows, width, 8, False, 0),))))
    return forms


def _named_precisions(bundle: Bundle, bits: Any, blocks: int) -> list[str]:
    """Return the precision of each block as a manifest of version 2 states it; [] for an older one."""
    if bits is None:
        return []
    found = [PRECISION_OF_BITS.get(one) if isinstance(one, int) else None for one in bits]
    if len(found) != blocks or None in found:
        raise BundleError(f"{bundle.folder / FILE_NAME} is damaged at 'bits'; export it again")
    return [str(one) for one in found]


def _precisions(
    bundle: Bundle, name: str, shapes: list[tuple[int, int]], n_values: int | None, *, by_column: bool
) -> list[str]:
    """Return the precision of each block of version 1: int4 or int8 by the number of bytes.

    Raises PatchError if the bytes fit no known form.
    """
    section = bundle.manifest.sections[name]
    if section.dtype != "uint8":
        return [{"float32": "fp32", "float16": "fp16"}[section.dtype]] * len(shapes)
    entries = section.nbytes - 1  # the last one stands for missing values
    if n_values is not None:
        return ["int8" if entries == n_values else "int4"]

    def size(precision: str, shape: tuple[int, int]) -> int:
        return block_of(*shape, 0, 0, precision, by_column=by_column).stored

    alike = bundle.manifest.precision
    if alike in STORED and sum(size(alike, shape) for shape in shapes) == entries:
        return [alike] * len(shapes)
    graph = bundle.manifest.graphs["recommend"].tensors
    if by_column and all(f"{name}{number}" in graph for number in range(len(shapes))):
        stored = [graph[f"{name}{number}"].nbytes for number in range(len(shapes))]
        return ["int8" if taken == size("int8", shape) else "int4" for taken, shape in zip(stored, shapes, strict=True)]
    for first, second in (("int8", "int4"), ("int4", "int8")):  # all rows of one precision precede those of the other
        for split in range(len(shapes), -1, -1):
            found = [first] * split + [second] * (len(shapes) - split)
            if sum(map(size, found, shapes)) == entries:
                return found
    raise PatchError(f"the rows of {bundle.folder} have an unknown form; upgrade: pip install -U edgerec")


@dataclass(frozen=True)
class PreviousBundle:
    """The settings of an older bundle that the next export follows.

    Attributes:
        layout: that of the items.
        precisions: those of all rows, the largest first.
        scaled: the setting `scales` of the export: the unit that has one scale, 'table', 'block' or 'row', for
            integers; 'auto' for floats.
        users_scaled: 'row' if users have row scales and items have not; None otherwise.
        widths: block widths of each table, ascending, by the section of its values.
        scales: scales of each table of integers.
        top_inverse_norm: the factor of stored inverse norms; None without `similar`.
        rotation: ends of the blocks of dimensions that are rotated; () without a rotation.
        weight_top: the top of weights of histories in a byte each; None for other weights.
        parts: the optional parts of the bundle, out of 'users', 'titles', 'similar', 'lookup'.
        ids: the setting `ids` of the export.
        version: version of the format.
        rollback_index: its rollback index; None if it names none.
        max_bytes: the limit that it was exported within; None if it names none.
        gram_root: (d, d) section 'g' of a least-squares encoder; None without one.
        rows: the rows of dense and mixed tables of integers, by the section of their values.
    """

    layout: str
    precisions: tuple[str, ...]
    scaled: str
    widths: dict[str, tuple[int, ...]]
    scales: dict[str, PreviousScales]
    top_inverse_norm: np.float32 | None
    parts: frozenset[str]
    users_scaled: str | None = None
    rotation: tuple[int, ...] = ()
    ids: str = "raw"
    version: str = "2.0"
    rollback_index: int | None = None
    weight_top: np.float32 | None = None
    max_bytes: int | None = None
    gram_root: NDArray[np.floating[Any]] | None = None
    rows: dict[str, PreviousRows] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The largest precision."""
        return self.precisions[0]

    @classmethod
    def read(cls, folder: str | Path) -> PreviousBundle:
        """Read the settings of the bundle in `folder`.

        Raises:
            BundleError: the bundle is missing or damaged.
            UnsupportedError: rows have several precisions, and no ids by which they are found again.
        """
        bundle = Bundle(folder)
        manifest = json.loads(bundle.document)
        precisions = tuple(str(manifest["precision"]).split("+"))
        forms = forms_of(bundle, manifest)
        tables = [name for name, *_ in tables_of(manifest, set(bundle.manifest.sections))]
        blocks = {name: forms[name].form.blocks if name in forms else () for name in tables}
        if str(manifest["layout"]) in BLOCKED and is_integer(precisions[0]):
            bits = sorted({block.bits for some in blocks.values() for block in some}, reverse=True)
            precisions = tuple(PRECISION_OF_BITS[one] for one in bits)
        if len(precisions) > 1 and bundle.manifest.items.ids == "none":
            raise UnsupportedError(
                f"{folder} has rows in {'+'.join(precisions)} and no ids to find them by; export one with ids to follow"
            )
        graphs = _Graphs(bundle)
        scales = {}
        if is_integer(precisions[0]):
            scales = {name: graphs.scales_of(name, blocks[name]) for name in tables}
        sections = bundle.manifest.sections
        there = {
            "users": bundle.manifest.users is not None,
            "titles": "item_titles" in sections,
            "similar": "n" in sections,
            "lookup": "l" in sections,
        }
        return cls(
            str(manifest["layout"]),
            precisions,
            _scaled(scales),
            {name: tuple(sorted({block.width for block in some if block.width})) for name, some in blocks.items()},
            scales,
            graphs.top_inverse_norm(),
            frozenset(name for name, is_there in there.items() if is_there),
            _by_row(scales, "u") if _by_row(scales, "i") is None else None,
            _rotation(bundle, manifest),
            {"none": "none", "hash64": "hash64"}.get(bundle.manifest.items.ids, "raw"),
            "1.0" if bundle.manifest.version[0] == 1 else "2.0",
            bundle.manifest.rollback_index or None,
            _weight_top(bundle, manifest),
            _max_bytes(bundle, manifest),
            np.array(bundle.section("g")) if "g" in sections else None,
            _rows(bundle, manifest, forms, scales),
        )


def _rotation(bundle: Bundle, manifest: dict[str, Any]) -> tuple[int, ...]:
    """Return the ends of the rotated blocks of dimensions. Raises BundleError if the manifest's entry is invalid."""
    found = manifest.get("rotation", [])
    if not isinstance(found, list) or not all(type(one) is int and 0 < one <= bundle.manifest.d for one in found):
        raise BundleError(f"{bundle.folder / FILE_NAME} is damaged at 'rotation'; export it again")
    return tuple(sorted(set(found)))


def _weight_top(bundle: Bundle, manifest: dict[str, Any]) -> np.float32 | None:
    """Return the top of weights of histories in a byte each. Raises BundleError if the manifest's entry is invalid."""
    found = (manifest["encoder"] or {}).get("weight_top")
    if found is not None and not (type(found) in (int, float) and 0 < found <= LARGEST_FLOAT):
        raise BundleError(f"{bundle.folder / FILE_NAME} is damaged at 'weight_top'; export it again")
    return None if found is None else np.float32(found)


def _max_bytes(bundle: Bundle, manifest: dict[str, Any]) -> int | None:
    """Return the limit of the export. Raises BundleError if the manifest's entry is invalid."""
    found = manifest.get("max_bytes")
    if found is not None and not (type(found) is int and found > 0):
        raise BundleError(f"{bundle.folder / FILE_NAME} is damaged at 'max_bytes'; export it again")
    return found


def _rows(
    bundle: Bundle, manifest: dict[str, Any], forms: dict[str, SectionForm], scales: dict[str, PreviousScales]
) -> dict[str, PreviousRows]:
    """Return the rows of dense and mixed tables of integers that are found by their ids."""
    items, users = bundle.manifest.items, bundle.manifest.users
    if manifest["layout"] not in BLOCKED or "scorer" in manifest or items.ids == "none":
        return {}
    entries = {"i": ("item", items)} | ({} if users is None else {"u": ("user", users)})
    return {
        name: PreviousRows.read(bundle, name, ids_of(bundle, *entries[name]), forms[name].form, scales[name])
        for name in scales
    }


def _by_row(scales: dict[str, PreviousScales], name: str) -> str | None:
    return "row" if name in scales and scales[name].top is not None else None


def _scaled(scales: dict[str, PreviousScales]) -> str:
    """Return the setting `scales` of the export, or an equivalent one."""
    if _by_row(scales, "i"):
        return "row"
    each = {name: len(one.blocks) > 1 and one.scales is not None and len(one.scales) for name, one in scales.items()}
    if each.get("i", 0) > 1:
        return "block"
    if each.get("u", 0) > 1:
        return "auto"  # one scale for items and one for each user block is the default of int8
    return "table" if 1 in (each.get("i"), each.get("u")) else "auto"


class _Graphs:
    """The scales in a bundle's graphs, found by the nodes that multiply by them."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._sections = set(bundle.manifest.sections)

    def scales_of(self, name: str, blocks: tuple[Block, ...]) -> PreviousScales:
        """Return the scales of a table, by the section of its values."""
        if name + "f" in self._sections:
            factors = self._bundle.section(name + "f")
            return PreviousScales(blocks, *((None, factors[0]) if name + "s" in self._sections else (factors, None)))
        score = self._graph("score")
        if name + "s" in self._sections:
            return PreviousScales(blocks, None, np.float32(score.factor_of(name + "s")))
        if name == "i" and ("l" in self._sections or (not blocks and self._bundle.manifest.layout == "csc")):
            scales = self._graph("recommend").last_factor()  # one for all, applied to the best scores
        else:
            # Expand gives looked-up rows their scales, users before items.
            place = 0 if name == "u" or "us" in self._sections or "u" not in self._sections else 1
            scales = score.expanded()[place]
        return PreviousScales(blocks, np.asarray(scales, np.float32).reshape(-1), None)

    def top_inverse_norm(self) -> np.float32 | None:
        """Return the factor of inverse norms, whose square is in the graph `similar`."""
        if not self._bundle.has_graph("similar"):
            return None
        if "nf" in self._sections:
            return np.float32(self._bundle.section("nf")[0])
        return np.float32(np.sqrt(self._graph("similar").factor_of("n")))

    def _graph(self, name: str) -> _Graph:
        content = self._bundle.content(self._bundle.manifest.graphs[name].file)
        return _Graph(onnx.load_model_from_string(content).graph)


class _Graph:
    """A graph whose nodes are found by their inputs and outputs."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {
            one.name: numpy_helper.to_array(one)
            for one in graph.initializer
            if one.data_location != onnx.TensorProto.EXTERNAL
        }
        self._producers = {output: node for node in graph.node for output in node.output}

    def expanded(self) -> list[NDArray[np.float32]]:
        """Return every float32 constant that is expanded to rows, by table or by block, in the order of the graph."""
        return list(self._expanded())

    def _expanded(self) -> Iterator[NDArray[np.float32]]:
        for node in self._graph.node:
            if node.op_type == "Expand":
                source = node.input[0]
                gather = self._producers.get(source)
                name = gather.input[0] if gather is not None and gather.op_type == "Gather" else source
                if name in self._constants and self._constants[name].dtype == np.float32:
                    yield self._constants[name]

    def factor_of(self, table: str) -> float:
        """Return the factor of a table's entries, after they are gathered."""
        reached = {table}
        for node in self._graph.node:  # in topological order
            if not reached & set(node.input):
                continue
            others = [name for name in node.input if name in self._constants]
            if node.op_type == "Mul" and others and self._constants[others[0]].dtype == np.float32:
                return float(self._constants[others[0]])
            if node.op_type in ("GatherElements", "Reshape", "Cast", "Unsqueeze"):
                reached |= set(node.output)
        raise UnsupportedError(f"the graphs have no scale of {table!r}: another version wrote them; export it again")

    def last_factor(self) -> NDArray[np.float32]:
        """Return the scale of a table with one scale, by which scores are multiplied before the user's scale."""
        node = self._producers["scores"]
        while node is not None:
            constants = [name for name in node.input if name in self._constants]
            if node.op_type == "Mul" and constants:
                found: NDArray[np.float32] = self._constants[constants[0]]
                return found
            node = self._producers.get(node.input[0]) if node.op_type in ("Identity", "Mul") else None
        raise UnsupportedError("the graphs have no scale of scores: another version wrote them; export it again")

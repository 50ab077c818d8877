"""How the rows of a written bundle's sections lie, from its manifest: what `diff` compares rows by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgerec.errors import PatchError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.patch.rows import Block, Form
from edgerec_export.layouts import BLOCKED
from edgerec_export.values import NO_VALUE, STORED, ZERO4, block_of

ONE_A_ROW = {"n": "item", "w": "item", "is": "item", "ls": "item", "us": "user", "item_ids": "item", "user_ids": "user"}
"""Sections with one number a row, and whose rows they are."""
TEXTS = {"item_id": ("item_ids", "item"), "user_id": ("user_ids", "user"), "item_title": ("item_titles", "item")}
"""Sections of text by the stem of those that hold where each begins."""


@dataclass(frozen=True)
class SectionForm:
    """The rows of a section: of which side, and how they lie."""

    side: str
    form: Form


def forms_of(bundle: Bundle, manifest: dict[str, Any]) -> dict[str, SectionForm]:
    """The form of each section that has rows, by its name; `manifest` is the JSON of the bundle's."""
    found: dict[str, SectionForm] = {}
    sections = bundle.manifest.sections
    rows = {"item": bundle.manifest.items.rows}
    if bundle.manifest.users is not None:
        rows["user"] = bundle.manifest.users.rows
    for name, side, fields, layout in tables_of(manifest, set(sections)):
        for suffix, form in _of_table(bundle, name, fields, layout, by_column=_by_column(name, layout, manifest)):
            found[name + suffix] = SectionForm(side, form)
    for name, side in ONE_A_ROW.items():
        if name in sections and len(sections[name].shape) == 1 and sections[name].shape[0] == rows.get(side):
            bits = 8 * np.dtype(sections[name].dtype).itemsize
            found[name] = SectionForm(side, Form((Block(rows[side], 1, bits, False, 0),)))
    for stem, (name, side) in TEXTS.items():
        if f"{stem}_offsets" in sections:
            found[f"{stem}_offsets"] = SectionForm(side, Form((), pointers=True))
            found[name] = SectionForm(side, Form((Block(0, 0, 8, False, 0),), lengths=f"{stem}_offsets"))
    return found


def tables_of(manifest: dict[str, Any], sections: set[str]) -> list[tuple[str, str, dict[str, Any], str]]:
    """Name of the values, side, fields and layout of each table."""
    tables = [("i", "item", manifest["items"], manifest["layout"])]
    if "l" in sections:  # the items' fields are then those of the copy
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
    values = sections[name]
    if layout == "csc":
        return []
    shapes = [(int(width), int(rows)) for width, rows in fields["blocks"]]
    if layout == "csr":
        precision = _precisions(bundle, name, shapes, int(sections[name + "c"].shape[0]), by_column=False)[0]
        bits, zero = _unit(precision, values.dtype)
        column = 8 * np.dtype(sections[name + "c"].dtype).itemsize
        return [
            ("p", Form((), pointers=True)),
            ("", Form((Block(0, 0, bits, False, zero),), lengths=name + "p")),
            ("c", Form((Block(0, 0, column, False, 0),), lengths=name + "p")),
        ]
    precisions = _precisions(bundle, name, shapes, None, by_column=by_column)
    blocks = []
    for (width, rows), precision in zip(shapes, precisions, strict=True):
        bits, zero = _unit(precision, values.dtype)
        blocks.append(Block(rows, width, bits, by_column, zero))
    forms = [("", Form(tuple(blocks)))]
    if layout == "ell":
        column = 8 * np.dtype(sections[name + "c"].dtype).itemsize
        forms.append(("c", Form(tuple(Block(rows, width, column, False, 0) for width, rows in shapes))))
    if layout == "bitmask":
        rows, width = sections[name + "m"].shape
        forms.append(("m", Form((Block(rows, width, 8, False, 0),))))
    return forms


def _unit(precision: str, dtype: str) -> tuple[int, int]:
    """Bits of a value, and the one that reads as zero."""
    if precision == "int4":
        return 4, ZERO4
    return 8 * np.dtype(dtype).itemsize, int(NO_VALUE[precision])


def _precisions(
    bundle: Bundle, name: str, shapes: list[tuple[int, int]], n_values: int | None, *, by_column: bool
) -> list[str]:
    """The precision of each block. The manifest does not say which of int4 and int8 one is: its bytes do.

    Raises PatchError where they fit no way to lay the rows out that is known here.
    """
    section = bundle.manifest.sections[name]
    if section.dtype != "uint8":
        return [{"float32": "fp32", "float16": "fp16"}[section.dtype]] * len(shapes)
    entries = section.nbytes - 1  # the last one stands for no value
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
    for first, second in (("int8", "int4"), ("int4", "int8")):  # rows of one precision stand before those of the other
        for split in range(len(shapes), -1, -1):
            found = [first] * split + [second] * (len(shapes) - split)
            if sum(map(size, found, shapes)) == entries:
                return found
    raise PatchError(f"the rows of {bundle.folder} lie in no way that is known here; upgrade: pip install -U edgerec")

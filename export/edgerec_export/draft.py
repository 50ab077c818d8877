"""Drafts of a bundle: every byte counted before a value is moved, so that a budget is met or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import format_bytes, width_choices
from edgerec.errors import BudgetError, UnsupportedError
from edgerec.files import to_json
from edgerec.runtime.manifest import FORMAT, MAJOR, MINOR, SECTION_NAMES
from edgerec.tables import Table
from edgerec_export.blocks import PRECISIONS, STORED, Plan, TableInGraph, plan_blocks
from edgerec_export.card import CARD_NAME, model_card
from edgerec_export.graph import IR_VERSION, OPSET, Tensor
from edgerec_export.graphs import Model, build_graphs, placeholder_scales
from edgerec_export.layouts import width_choices as layout_choices
from edgerec_export.layouts.mixed import MOST_WIDTHS
from edgerec_export.source import Source
from edgerec_export.strings import id_order, pack_ids, pack_strings
from edgerec_export.tables_file import TablesFile

HASH_DIGITS = 12
GRAPH_BYTES_PER_BLOCK = 80
"""About what one more block of a looked-up table adds to graphs and manifest: a guess, before bytes are counted."""


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        layout: 'mixed' or 'dense'.
        precision: 'fp32' or 'int8' (uint8 around 128, one scale a block).
        max_bytes: of the whole bundle, every file counted; None for no limit.
        users: ship the user table where there is one.
        titles: ship item titles where there are some.
        verify: compare the bundle with numpy in a fresh process.
    """

    layout: str = "mixed"
    precision: str = "fp32"
    max_bytes: int | None = None
    users: bool = True
    titles: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
        """Raises UnsupportedError for an unknown precision."""
        if self.precision not in PRECISIONS:
            raise UnsupportedError(f"there is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}")


class Draft:
    """A bundle but for its values: plans, sections, graphs, manifest, and its exact size in bytes."""

    def __init__(
        self,
        source: Source,
        options: Options,
        widths: NDArray[np.int64],
        user_widths: NDArray[np.int64] | None = None,
    ) -> None:
        """Draft a bundle of these item widths; without user widths, those that look smallest."""
        self.source, self.options = source, options
        users = source.users if options.users else None
        # Values past the narrower side's widest row would only meet zeros.
        self._d = int(widths[-1]) if users is None else min(int(widths[-1]), int(users.sizes().max()))
        self.widths = np.unique(np.minimum(widths, self._d))
        self.items = _plan(source.items, self.widths, options, source.item_ids, by_column=True)
        self.users: Plan | None = None
        if users is not None and source.user_ids is not None:
            chosen = self.user_choices()[0] if user_widths is None else user_widths
            self.users = _plan(users, chosen, options, source.user_ids, by_column=False)
        self._tables = TablesFile()
        self._offsets: dict[str, int] = {}
        self._fixed = self._place()

    def user_choices(self) -> list[NDArray[np.int64]]:
        """Sets of user widths, each with the least padding for its number, the likely smallest first."""
        if self.source.users is None:
            return []
        sizes = np.minimum(self.source.users.sizes(), self._d)
        if self.options.layout == "dense":
            return [np.array([self._d])]
        item_bytes = np.dtype(STORED[self.options.precision]).itemsize

        def size(widths: NDArray[np.int64]) -> int:
            values = int(widths[np.searchsorted(widths, sizes)].sum())
            return item_bytes * values + GRAPH_BYTES_PER_BLOCK * len(widths)

        return sorted(width_choices(sizes, MOST_WIDTHS), key=size)

    def _place(self) -> dict[str, NDArray[Any]]:
        """Reserve every section; returns the arrays that are known before any value is."""
        fixed: dict[str, NDArray[Any]] = {}
        for name, plan in (("i", self.items), ("u", self.users)):
            if plan is not None:
                self._offsets[name] = self._tables.add(name, plan.dtype, (plan.n_values,))
        if self.users is None and self.source.history_weights is not None:
            fixed["w"] = self.source.history_weights[self.items.order]
        self.id_kinds: dict[str, str] = {}
        for side, ids, plan in (
            ("item", self.source.item_ids, self.items),
            ("user", self.source.user_ids, self.users),
        ):
            if plan is None or ids is None:
                continue
            self.id_kinds[side], arrays = pack_ids(side, ids, plan.order)
            fixed |= arrays
        if self.options.titles and self.source.titles is not None:
            fixed |= pack_strings("item_titles", "item_title_offsets", self.source.titles[self.items.order])
        for name, array in fixed.items():
            self._offsets[name] = self._tables.add(name, array.dtype, array.shape)
        return fixed

    @property
    def tables(self) -> TablesFile:
        return self._tables

    @property
    def fixed(self) -> dict[str, NDArray[Any]]:
        """The arrays that do not depend on values: ids, titles, history weights."""
        return self._fixed

    def model(self, item_scales: NDArray[np.float32] | None, user_scales: NDArray[np.float32] | None) -> Model:
        """What the graphs are built from."""
        users = None
        if self.users is not None:
            users = TableInGraph("u", self.users, self._offsets["u"], user_scales)
        weights = None
        if "w" in self._offsets:
            weights = Tensor(self._offsets["w"], "float32", (self.items.n_rows,))
        return Model(TableInGraph("i", self.items, self._offsets["i"], item_scales), users, weights)

    def finish(
        self,
        tables_sha256: str,
        item_scales: NDArray[np.float32] | None,
        user_scales: NDArray[np.float32] | None,
        hash_of: Callable[[bytes], str],
    ) -> dict[str, bytes]:
        """Every file but the tables file, by name; the manifest last.

        Args:
            hash_of: bytes to hexadecimal sha256.
        """
        location = _named("tables", tables_sha256, "bin")
        files: dict[str, bytes] = {}
        graphs: dict[str, Any] = {}
        for name, graph in build_graphs(self.model(item_scales, user_scales)).items():
            content = graph.serialize(location)
            digest = hash_of(content)
            file = _named(name, digest, "onnx")
            files[file] = content
            tensors = {k: [t.offset, t.dtype, list(t.shape)] for k, t in graph.tensors.items()}
            graphs[name] = {**_entry(file, len(content), digest), "tensors": tensors}
        files[CARD_NAME] = model_card(self)
        card = _entry(CARD_NAME, len(files[CARD_NAME]), hash_of(files[CARD_NAME]))
        tables = _entry(location, self._tables.nbytes, tables_sha256)
        files["manifest.json"] = to_json(self._manifest(tables, graphs, card), compact=True)
        return files

    def _manifest(self, tables: dict[str, Any], graphs: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": f"{MAJOR}.{MINOR}",
            "layout": self.options.layout,
            "precision": self.options.precision,
            "d": self.items.d,
            "items": self._side("item", self.items),
            "users": None if self.users is None else self._side("user", self.users),
            "tables": tables,
            "sections": self._tables.describe(),
            "graphs": graphs,
            "other_files": [card],
            # Prepacking copies a mapped fp32 weight to the heap and is slower at batch 1.
            "session": {"session.disable_prepacking": "1"},
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "onnxruntime": ">=1.19",
            "about": self.source.about,
        }

    def _side(self, side: str, plan: Plan) -> dict[str, Any]:
        blocks = [[block.width, block.rows] for block in plan.blocks]
        return {"rows": plan.n_rows, "blocks": blocks, "ids": self.id_kinds[side]}

    def nbytes(self) -> int:
        """The bytes of the whole bundle: what is written will have exactly these, or fewer by equal scales."""
        items, users = None, None
        if self.options.precision == "int8":
            items = placeholder_scales(len(self.items.blocks), first=1)
            users = None if self.users is None else placeholder_scales(len(self.users.blocks), first=100)
        files = self.finish("0" * 64, items, users, lambda _: "0" * 64)
        return self._tables.nbytes + sum(map(len, files.values()))


def choose_draft(source: Source, options: Options) -> Draft:
    """The fastest draft that fits `options.max_bytes`.

    Raises:
        UnsupportedError: the layout cannot hold the table.
        BudgetError: none fits; the message names the smallest size there is, what takes the space, and what would
            make it smaller.
    """
    if not options.users and source.history_weights is None:
        raise UnsupportedError(
            "this table cannot ship without users: no history weights make a user's vector; the svd backbone has them"
        )
    limit = options.max_bytes
    drafts = []
    for widths in layout_choices(options.layout, source.items, options.precision):
        draft = Draft(source, options, widths)
        if limit is None or draft.nbytes() <= limit:
            return draft
        drafts.append(draft)
    smallest = min(drafts, key=Draft.nbytes)
    if smallest.users is not None:
        # Items and users add up, so the smallest of each is the smallest of both.
        others = [Draft(source, options, smallest.widths, widths) for widths in smallest.user_choices()]
        smallest = min(others, key=Draft.nbytes)
    if limit is not None and smallest.nbytes() <= limit:
        return smallest
    raise BudgetError(_refusal(smallest, options))


def _refusal(draft: Draft, options: Options) -> str:
    total = draft.nbytes()
    parts = draft.tables.parts()
    parts["graphs, manifest and card"] = total - draft.tables.nbytes
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(
        f"{SECTION_NAMES.get(name, name.replace('_', ' '))} {format_bytes(size)}" for name, size in largest
    )
    advice = ["train with a smaller --budget"]
    if options.precision == "fp32":
        advice.insert(0, "--precision int8")
    if "item_titles" in parts:
        advice.insert(0, "leave --titles out")
    return (
        f"the bundle does not fit {options.max_bytes} bytes; the smallest that --layout {options.layout} "
        f"--precision {options.precision} allows is {total} bytes ({takes}): " + ", or ".join(advice)
    )


def _plan(table: Table, widths: NDArray[np.int64], options: Options, ids: NDArray[Any], *, by_column: bool) -> Plan:
    by_id = id_order(ids)
    return plan_blocks(table.sizes(), widths, options.precision, by_column=by_column, rows_by_id=by_id)


def _named(stem: str, digest: str, suffix: str) -> str:
    """File names follow content, so that a bundle is replaced by renaming its manifest last."""
    return f"{stem}-{digest[:HASH_DIGITS]}.{suffix}"


def _entry(file: str, size: int, digest: str) -> dict[str, Any]:
    return {"file": file, "bytes": size, "sha256": digest}

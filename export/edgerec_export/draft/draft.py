"""A bundle without its values: plans, sections, graphs, manifest, and its size in bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE, MOST_POPULAR
from edgerec.files import to_json
from edgerec.runtime.manifest import FILE_NAME, FORMAT
from edgerec.runtime.stored import head_of
from edgerec.signatures import DRAFT_SIGNER, Signer, signed
from edgerec.tables import CodedTable, RowCodes, Table
from edgerec_export.draft.card import model_card
from edgerec_export.draft.requests import BundleRequest, stored_ids
from edgerec_export.layouts import (
    BLOCKED,
    Bounds,
    LayoutVariant,
    Placed,
    Rotation,
    Scales,
    TablePlan,
    lookup_layout,
    pack_ids,
    pack_strings,
)
from edgerec_export.magnitudes import needs_care
from edgerec_export.onnx import (
    IR_VERSION,
    MOST_POPULAR_1,
    OPSET,
    POPULAR,
    GraphTable,
    Model,
    StoredEncoder,
    StoredScorer,
    Tensor,
    build_graphs,
    placeholder_scales,
    popular_items,
    stored_encoder,
)
from edgerec_export.pack import TablesFile
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source

HASH_DIGITS = 12
"""Hexadecimal digits of the sha256 in the name of a file."""
ONNXRUNTIME = ">=1.18"
"""onnxruntime versions that support the opset and IR version; the test vectors pass on the oldest."""
NUMBER_IN_HEAD, HEAD_ROOM, DRAFT_SIGNATURE = 12, 64, 160
"""Bytes that the head of one file may take more than that of its draft: for each scale, whose placeholder is deflated
further, in three graphs; for hashes; for a signature."""
MOST_PACKED_IDS = 8
"""Orders of rows whose packed ids are retained for the next draft."""
DRAFT_SCALES = {"i": 1, "l": 1000, "u": 2000}
"""First placeholder scale of each table in a draft. Placeholders of all tables and bounds differ from each other (see
`placeholder_scales`), since equal constants are stored once."""


class Draft:
    """A bundle without its values: plans, sections, graphs, manifest, and its size in bytes."""

    def __init__(
        self,
        source: Source,
        request: ExportRequest,
        bundle_request: BundleRequest,
        variant: LayoutVariant,
        user_variant: LayoutVariant | None,
    ) -> None:
        """Draft the bundle of these variants."""
        self.source, self.request, self.variant = source, request, variant
        self.trained_codes: RowCodes | None = None
        share = bundle_request.items.share
        if isinstance(source.items, CodedTable) and share is not None and share.exact:
            self.trained_codes = source.items.row_codes
        self.lookup: TablePlan | None = None
        if bundle_request.lookup is not None:
            # Both copies have the row order of the copy with blocks.
            copy = lookup_layout(request.layout, "sparse")
            self.lookup = copy.plan(bundle_request.lookup, copy.variants(bundle_request.lookup)[0])
            bundle_request = replace(bundle_request, items=replace(bundle_request.items, rows_by_id=self.lookup.order))
        self.items = bundle_request.items_layout.plan(bundle_request.items, variant)
        self.users: TablePlan | None = None
        if bundle_request.users is not None and user_variant is not None:
            self.users = bundle_request.users_layout.plan(bundle_request.users, user_variant)
        self.rotation = self._rotation()
        self.encoder: StoredEncoder | None = None
        if self.users is None and source.encoder is not None:
            encoder = source.encoder if self.rotation is None else source.encoder.turned(self.rotation.matrix)
            older = request.previous
            compact = request.is_version_2 and self.items.is_integer
            self.encoder = stored_encoder(
                encoder,
                self.items.order,
                self.items.d,
                compact=compact,
                takes_vectors=source.takes_vectors,
                previous_top=None if older is None else older.weight_top,
                previous_root=None if older is None else older.gram_root,
            )
        self.scorer = None if source.scorer is None else StoredScorer(source.scorer)
        self._avoids_squares = self.skips_blocks() and self.items.precision == "fp32" and needs_care(source, request)
        self._lookup_is_expensive = not bundle_request.items_layout.scores_rows and self.lookup is None
        self._tables = TablesFile()
        self._offsets: dict[str, int] = {}
        self._fixed = self._reserve_sections()

    def plans(self) -> dict[str, TablePlan]:
        """Return every planned table, by the name of its section of values in the tables file.

        The names are 'i' for items, 'l' for the second copy of items that is looked up, and 'u' for users.
        """
        plans = {"i": self.items, "l": self.lookup, "u": self.users}
        return {name: plan for name, plan in plans.items() if plan is not None}

    def _rotation(self) -> Rotation | None:
        """Return the rotation of both tables; None for floats, sparse layouts, a scorer, and apps' own vectors."""
        plans = self.plans().values()
        takes_vectors = self.users is None and self.source.takes_vectors
        if not self.request.rotate or self.source.scorer is not None or takes_vectors:
            return None
        if not all(plan.is_integer and plan.layout in BLOCKED for plan in plans):
            return None
        widths = {block.width for plan in plans for block in plan.blocks}
        if self.request.previous is not None:
            widths.update(min(width, self.items.d) for width in self.request.previous.rotation)
        return Rotation(tuple(sorted(widths)), self.source.items.d)

    def rotated(self, table: Table) -> Table:
        """Return a table of the source, or one with the same dimensions, as it is packed."""
        return table if self.rotation is None else self.rotation.table(table)

    @property
    def is_cut(self) -> bool:
        """True if a row of items is stored without its last dimensions."""
        return min(block.width for block in self.items.blocks) < self.source.items.d

    def skips_blocks(self) -> bool:
        """Return True if `recommend` skips blocks of items by score bounds."""
        return self.scorer is None and self.lookup is None and len(self.items.block_groups()) > 1

    def precisions(self) -> set[str]:
        """Return the precisions of all item blocks."""
        return {block.precision for block in self.items.blocks}

    def _reserve_sections(self) -> dict[str, NDArray[Any]]:
        """Reserve every section, and return the arrays that do not depend on packed values."""
        fixed: dict[str, NDArray[Any]] = {}
        for name, plan in self.plans().items():
            for suffix, (dtype, shape) in plan.sections().items():
                self._offsets[name + suffix] = self._tables.add(name + suffix, dtype, shape)
            if plan.is_integer and self.request.is_version_2:
                self._offsets[name + "f"] = self._tables.add(name + "f", "float32", (plan.n_scales() or 1,))
        if self.request.similar:
            self._offsets["n"] = self._tables.add("n", "float16", (self.items.n_rows,))
            if self.request.is_version_2:
                self._offsets["nf"] = self._tables.add("nf", "float32", (1,))
        if self.encoder is not None:
            fixed |= self.encoder.arrays()
            for name, (dtype, shape) in self.encoder.later_sections().items():
                self._offsets[name] = self._tables.add(name, dtype, shape)
        if self.source.item_counts is not None and (self.request.is_version_2 or self.encoder is not None):
            most = MOST_POPULAR if self.request.is_version_2 else MOST_POPULAR_1
            fixed[POPULAR] = popular_items(self.source.item_counts, self.items.order, most)
        if self.scorer is not None:
            fixed |= self.scorer.arrays()
        self.id_kinds: dict[str, str] = {}
        item_ids, user_ids = stored_ids(self.source, self.request)
        sides = (("item", item_ids, self.lookup or self.items), ("user", user_ids, self.users))
        for side, ids, one in sides:
            if one is not None and ids is not None and self.request.ids == "none":
                self.id_kinds[side] = "none"
            elif one is not None and ids is not None:
                self.id_kinds[side], arrays = self._packed_ids(side, ids, one)
                fixed |= arrays
        if self.request.titles and self.source.titles is not None:
            fixed |= pack_strings("item_titles", "item_title_offsets", self.source.titles[self.items.order])
        for number, (texts, codes) in enumerate(self.source.coded_attributes):
            stem = f"attribute_{number}"
            fixed |= {stem: codes[self.items.order]} | pack_strings(f"{stem}_texts", f"{stem}_text_offsets", texts)
        for name, array in fixed.items():
            self._offsets[name] = self._tables.add(name, array.dtype, array.shape)
        return fixed

    def _packed_ids(self, side: str, ids: NDArray[Any], plan: TablePlan) -> tuple[str, dict[str, NDArray[Any]]]:
        """Return the result of `pack_ids`; many drafts of a source have rows in the same order."""
        blocks = tuple(block.rows for block in plan.blocks)
        key = side, self.request.ids, self.request.version, blocks, hashlib.sha1(plan.order.tobytes()).digest()
        known = self.source.packed_ids
        if key not in known:
            for old in list(known)[: len(known) + 1 - MOST_PACKED_IDS]:
                del known[old]
            known[key] = pack_ids(side, ids[plan.order], blocks, self.request)
        return known[key]

    def raw_ids(self) -> dict[str, NDArray[Any]]:
        """Return the raw id of every row, by side: 'item', and 'user' if there are users."""
        ids = {"item": self.source.item_ids[self.items.order]}
        if self.users is not None and self.source.user_ids is not None:
            ids["user"] = self.source.user_ids[self.users.order]
        return ids

    @property
    def tables(self) -> TablesFile:
        """Places of all arrays in the tables file."""
        return self._tables

    @property
    def fixed(self) -> dict[str, NDArray[Any]]:
        """Arrays that do not depend on packed values: ids, titles, history weights."""
        return self._fixed

    def model(self, scales: dict[str, Scales], top_inverse_norm: np.float32) -> Model:
        """Return the tables and constants from which the graphs are built."""
        sides = {name: self._graph_table(name, plan, scales[name]) for name, plan in self.plans().items()}
        return Model(
            sides["i"],
            sides.get("l", sides["i"]),
            self._lookup_is_expensive,
            sides.get("u"),
            self.encoder,
            self._tensor("n") if "n" in self._offsets else None,
            top_inverse_norm,
            {} if self.encoder is None else {name: self._tensor(name) for name in self.encoder.sections()},
            self.scorer,
            {} if self.scorer is None else {name: self._tensor(name) for name in self.scorer.arrays()},
            self._avoids_squares,
        )

    def _tensor(self, name: str) -> Tensor:
        _, dtype, shape = self._tables.describe()[name]
        return Tensor(self._offsets[name], dtype, tuple(shape))

    def _graph_table(self, name: str, plan: TablePlan, scales: Scales) -> GraphTable:
        tensors = {
            suffix: Tensor(self._offsets[name + suffix], dtype, shape)
            for suffix, (dtype, shape) in plan.sections().items()
        }
        return GraphTable(plan, Placed(name, tensors, scales.blocks, scales.top, scales.bounds))

    def finish(
        self,
        tables_sha256: str,
        scales: dict[str, Scales],
        top_inverse_norm: np.float32,
        hash_of: Callable[[bytes], str],
        signer: Signer | None,
    ) -> dict[str, bytes]:
        """Return the content of every file except the tables file, by name, the manifest last.

        Args:
            hash_of: function from bytes to hexadecimal sha256.
            signer: signer of the manifest; None to leave it unsigned.
        """
        location = _named("tables", tables_sha256, "bin")
        files: dict[str, bytes] = {}
        graphs: dict[str, Any] = {}
        for name, graph in build_graphs(self.model(scales, top_inverse_norm)).items():
            content = graph.serialize(location)
            digest = hash_of(content)
            file = _named(name, digest, "onnx")
            files[file] = content
            tensors = {k: [t.offset, t.dtype, list(t.shape)] for k, t in graph.tensors.items()}
            graphs[name] = {**_entry(file, len(content), digest), "tensors": tensors}
        content = model_card(self)
        digest = hash_of(content)
        file = _named("README", digest, "md")
        files[file] = content
        card = _entry(file, len(content), digest)
        tables = _entry(location, self._tables.nbytes, tables_sha256)
        manifest = to_json(self._manifest(tables, graphs, card), compact=True)
        files[FILE_NAME] = manifest if signer is None else signed(manifest, signer)
        return files

    def _manifest(self, tables: dict[str, Any], graphs: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": self.request.version,
            **self._of_version_2(),
            "layout": self.request.layout,
            "precision": "+".join(sorted(self.precisions())),
            "d": self.items.d,
            "items": self._side("item", self.lookup or self.items),
            "users": None if self.users is None else self._side("user", self.users),
            "encoder": None if self.encoder is None else self.encoder.describe() | self._of_empty_history(),
            **({} if self.scorer is None else {"scorer": self.scorer.describe()}),
            **({"item_attributes": list(self.source.attributes)} if self.source.attributes else {}),
            "tables": tables,
            "sections": self._tables.describe(),
            "graphs": graphs,
            "other_files": [card],
            # Prepacking copies mapped fp32 weights to the heap, and is slower at batch size 1.
            "session": {"session.disable_prepacking": "1"},
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "onnxruntime": ONNXRUNTIME,
            **({} if self.rotation is None else {"rotation": list(self.rotation.widths)}),
            "about": self.source.about,
        }

    def _of_version_2(self) -> dict[str, Any]:
        if not self.request.is_version_2:
            return {}
        optional = {"rollback_index": self.request.rollback_index, "max_bytes": self.request.stated_limit}
        return {"requires": [], **{name: one for name, one in optional.items() if one is not None}}

    def _of_empty_history(self) -> dict[str, Any]:
        """Return the manifest entry of the section that answers empty histories; null without one."""
        return {"empty_history": POPULAR if POPULAR in self._fixed else None}

    def _side(self, side: str, plan: TablePlan) -> dict[str, Any]:
        blocks = [[block.width, block.rows] for block in plan.blocks]
        found = {"rows": plan.n_rows, "layout": plan.layout, "blocks": blocks, "ids": self.id_kinds[side]}
        if self.request.is_version_2:
            found["bits"] = [BITS_PER_VALUE[block.precision] for block in plan.blocks]
        return found

    def _placeholder_bounds(self, blocks: int) -> Bounds:
        cosines = placeholder_scales(blocks, first=4000) if self.request.similar else None
        return Bounds(placeholder_scales(blocks, first=3000), cosines)

    def nbytes(self) -> int:
        """Return the bytes of the whole bundle.

        It is an upper bound for a folder: equal scales are stored once, and take fewer bytes. For one file it is an
        estimate, since only the bundle shows how far its head can be deflated.
        """
        if self.request.one_file:
            return self._tables.nbytes + self._head_bytes
        return self._tables.nbytes + sum(map(len, self._placeholder_files.values()))

    @cached_property
    def _head_bytes(self) -> int:
        files = dict(self._placeholder_files)
        document = files.pop(FILE_NAME)
        head = head_of(document, [files[name] for name in sorted(files)])
        numbers = sum(plan.n_scales() for plan in self.plans().values())
        if self.skips_blocks():
            numbers += 2 * len(self.items.blocks)
        signature = 0 if self.request.sign is None else DRAFT_SIGNATURE
        return len(head) + NUMBER_IN_HEAD * numbers + HEAD_ROOM + signature

    @cached_property
    def _placeholder_files(self) -> dict[str, bytes]:
        """Every file but the tables, with placeholders for what only packing decides."""
        scales = {
            name: Scales(
                placeholder_scales(plan.n_scales(), first=DRAFT_SCALES[name]) if plan.n_scales() else None,
                np.float32(DRAFT_SCALES[name] + 0.456),
                self._placeholder_bounds(len(plan.blocks)) if name == "i" and self.skips_blocks() else None,
            )
            for name, plan in self.plans().items()
        }
        signer = None if self.request.sign is None else DRAFT_SIGNER
        return self.finish(_sha256(b"tables"), scales, np.float32(77.7), _sha256, signer)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _named(stem: str, digest: str, suffix: str) -> str:
    """Return a file name with the hash of the content, so that renaming the manifest replaces a bundle."""
    return f"{stem}-{digest[:HASH_DIGITS]}.{suffix}"


def _entry(file: str, size: int, digest: str) -> dict[str, Any]:
    return {"file": file, "bytes": size, "sha256": digest}

"""Drafts of bundles, whose bytes are known before values are packed, so that a budget is met or refused at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE, MOST_POPULAR, format_bytes
from edgerec.errors import BudgetError, shown
from edgerec.files import to_json
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.runtime.manifest import FILE_NAME, FORMAT, section_name
from edgerec.runtime.stored import head_of
from edgerec.signatures import DRAFT_SIGNER, Signer, signed
from edgerec.tables import CodedTable, RowCodes, Table
from edgerec_export.layouts import (
    BLOCKED,
    Bounds,
    Layout,
    LayoutVariant,
    Placed,
    Rotation,
    Scales,
    TablePlan,
    TableRequest,
    id_order,
    layout,
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
from edgerec_export.values import PER_BYTE

if TYPE_CHECKING:
    from edgerec_export.allocate import Allocation
    from edgerec_export.layouts import TableAllocation

HASH_DIGITS = 12
"""Hexadecimal digits of the sha256 in the name of a file."""
ONNXRUNTIME = ">=1.18"
"""onnxruntime versions that support the opset and IR version; the test vectors pass on the oldest."""
NUMBER_IN_HEAD, HEAD_ROOM, DRAFT_SIGNATURE = 12, 64, 160
"""Bytes that the head of one file may take more than that of its draft: for each scale, whose placeholder is deflated
further, in three graphs; for hashes; for a signature."""
REST = "graphs, manifest and card"
DEFLATED = 0.6
"""Share of the graphs, manifest and card that one file saves, at least."""
HASH_BYTES = 8
"""Bytes of a hashed id, at most."""
MOST_PACKED_IDS = 8
"""Orders of rows whose packed ids are retained for the next draft."""
DRAFT_SCALES = {"i": 1, "l": 1000, "u": 2000}
"""First placeholder scale of each table in a draft. Placeholders of all tables and bounds differ from each other (see
`placeholder_scales`), since equal constants are stored once."""


@dataclass(frozen=True)
class BundleRequest:
    """The requests for all tables of a bundle.

    Attributes:
        items: request for the item table.
        items_layout: layout of the item table.
        lookup: request for a second copy of the items, whose rows are looked up; None to look up in the first copy.
        users: request for the user table; None for a bundle without users.
        users_layout: layout of the user table.
    """

    items: TableRequest
    items_layout: Layout
    lookup: TableRequest | None
    users: TableRequest | None
    users_layout: Layout

    @classmethod
    def of(cls, source: Source, request: ExportRequest, allocation: Allocation | None = None) -> BundleRequest:
        """Return the table requests of an export request, or of an allocation if there is one.

        Raises UnsupportedError for an unknown layout.
        """
        items_layout = layout(request.layout)
        users = source.users if request.users else None

        widths = {} if request.previous is None else request.previous.widths

        def table_request(
            name: str, table: Table, ids: NDArray[Any], scored: bool, share: TableAllocation | None
        ) -> TableRequest:
            scales = request.user_scales or request.scales if name == "u" else request.scales
            if scales == "auto" and request.is_version_2 and request.precision in PER_BYTE:
                # NDCG@20 of dense int4 on ML-1M: iALS with users .3826 with one scale a block, .4045 with one a row,
                # without users .3911 and .4045, for a byte a row.
                scales = "row"
            if scales == "auto":
                # NDCG@20 on ML-1M at 10 %: int8 .3014 with one scale, .3018 with one a block. Users are not scored, so
                # one scale would save no time.
                scales = "table" if scored and request.precision == "int8" else "block"
            return TableRequest(
                table,
                request.precision,
                id_order(ids),
                scales,
                scored,
                share=share,
                widths=widths.get(name, ()),
                scale_type="uint8" if request.is_version_2 else "float16",
            )

        scored = source.scorer is None  # a scorer looks rows up
        shares = (None, None) if allocation is None else (allocation.items, allocation.users)
        item_ids, user_ids = stored_ids(source, request)
        items = table_request("i", source.items, item_ids, scored, shares[0])
        of_users = None
        if users is not None and user_ids is not None:
            of_users = table_request("u", users, user_ids, False, shares[1])
        # Dimensions past the widest row of one table meet only zeros there, so they are cut from the other. Cosines of
        # items need all dimensions of items; sparse layouts store column numbers, so that nothing is gained.
        d = source.items.d
        if request.layout in BLOCKED and source.scorer is None:
            d = int(items.sizes.max())
            if of_users is not None and (not request.similar or allocation is not None):
                d = min(d, int(of_users.sizes.max()))
        if of_users is None and source.takes_vectors:
            d = source.items.d
        items = replace(items, d=d)
        lookup = None
        if not items_layout.scores_rows and request.lookup:
            # `recommend` and `score` read different copies, so both have the one scale of the items: see `pack`.
            lookup = replace(items, scored=False, scales="table", widths=widths.get("l", ()))
        kind = "dense" if users is None else users.kind
        of_users = None if of_users is None else replace(of_users, d=d)
        return cls(items, items_layout, lookup, of_users, lookup_layout(request.layout, kind))

    def user_variants(self) -> list[LayoutVariant | None]:
        """Return the variants of the user table, the likely smallest first; [None] without users."""
        return [None] if self.users is None else list(self.users_layout.variants(self.users))


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


def stored_ids(source: Source, request: ExportRequest) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the ids of items and users by which rows are ordered and found."""
    if request.ids == "hash64":
        return source.item_hashes, source.user_hashes if request.users else None
    return source.item_ids, source.user_ids


def _named(stem: str, digest: str, suffix: str) -> str:
    """Return a file name with the hash of the content, so that renaming the manifest replaces a bundle."""
    return f"{stem}-{digest[:HASH_DIGITS]}.{suffix}"


def _entry(file: str, size: int, digest: str) -> dict[str, Any]:
    return {"file": file, "bytes": size, "sha256": digest}


def draft_within(source: Source, request: ExportRequest, allocation: Allocation | None = None) -> Draft:
    """Return the fastest draft of a layout within `request.max_bytes`. Raises BudgetError if there is none."""
    if request.similar is None:
        # A limit that is too small without the graph of similar items is so with it.
        without = (
            None if request.max_bytes is None else draft_within(source, replace(request, similar=False), allocation)
        )
        try:
            return draft_within(source, replace(request, similar=True), allocation)
        except BudgetError:
            if without is None:
                raise
            return without
    bundle_request = BundleRequest.of(source, request, allocation)
    user_variants = bundle_request.user_variants()
    limit = request.max_bytes
    drafts = []
    for variant in bundle_request.items_layout.variants(bundle_request.items):
        draft = Draft(source, request, bundle_request, variant, user_variants[0])
        if limit is None or (draft.tables.nbytes <= limit and draft.nbytes() <= limit):
            return draft
        drafts.append(draft)
    smallest = _smallest(drafts)
    # The sizes of items and users add up, so the smallest variants of each make the smallest bundle.
    others = [Draft(source, request, bundle_request, smallest.variant, variant) for variant in user_variants]
    smallest = _smallest(others)
    if limit is not None and smallest.nbytes() <= limit:
        return smallest
    raise BudgetError(_refusal(smallest, request), smallest.nbytes())


def _smallest(drafts: list[Draft]) -> Draft:
    """Return the draft of the fewest bytes, without the graphs of those whose tables alone take more."""
    first, *others = sorted(drafts, key=lambda draft: draft.tables.nbytes)
    for draft in others:
        if draft.tables.nbytes < first.nbytes() and draft.nbytes() < first.nbytes():
            first = draft
    return first


def _refusal(draft: Draft, request: ExportRequest) -> str:
    total = draft.nbytes()
    parts = draft.tables.parts()
    parts[REST] = total - draft.tables.nbytes
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(f"{section_name(name)} {format_bytes(size)}" for name, size in largest)
    fitted = ", with one value a row," if request.fit else ""
    cures = " or ".join(_cures(draft, parts, total - (request.max_bytes or 0)))
    return too_large(
        request.max_bytes,
        f"the smallest that layout {request.layout} in {request.precision} allows{fitted} is {total} bytes ({takes}): "
        f"{cures}",
    )


def _cures(draft: Draft, parts: dict[str, int], excess: int) -> list[str]:
    """Return the settings that save at least `excess` bytes, those that cost least quality first.

    If none is enough alone, it is the shortest list of settings, those that save most first, that are together.
    """
    request, source = draft.request, draft.source
    values = sum(parts[name] for name in draft.plans())
    saved: dict[str, float] = {"leave --titles out": _of(parts, "item_title")}
    if request.is_version_2 and not request.one_file:
        saved["--out NAME.edgerec"] = DEFLATED * parts[REST]
    if "str" in draft.id_kinds.values():
        stored = sum(HASH_BYTES * plan.n_rows for name, plan in draft.plans().items() if name != "l")
        if request.is_version_2:
            saved["--ids hash64"] = _of(parts, "item_id", "user_id") - stored
    if draft.users is not None and source.encoder is not None:
        saved["--no-users"] = sum(parts[name] for name in parts if name in ("u", "us", "uf")) + _of(parts, "user_id")
        if isinstance(source.encoder, LeastSquaresEncoder):
            saved["--no-users"] -= 4 * source.items.d**2
    if request.precision in ("fp32", "fp16"):
        saved["--precision int8"] = values * (1 - 8 / BITS_PER_VALUE[request.precision])
    smallest = draft.items.n_rows + (0 if draft.users is None else draft.users.n_rows)
    if not request.fit and source.scorer is None:
        saved["--fit"] = values * (1 - smallest / max(sum(plan.n_values for plan in draft.plans().values()), 1))
    saved = {name: size for name, size in saved.items() if size > 0}
    if enough := [name for name, size in saved.items() if size >= excess]:
        return enough
    needed: list[str] = []
    for name in sorted(saved, key=lambda one: -saved[one]):
        needed.append(name)
        excess -= int(saved[name])
        if excess <= 0:
            return [" and ".join(needed)]
    return [" and ".join([*needed, "train on fewer items or with a smaller --budget"])]


def _of(parts: dict[str, int], *stems: str) -> int:
    return sum(size for name, size in parts.items() if name.startswith(stems))


def too_large(limit: int | None, why: str) -> str:
    """Return the message of a refused size limit; `why` names the smallest size."""
    return f"the bundle does not fit {limit} bytes; {why}"


def model_card(draft: Draft) -> bytes:
    """Return the file README-<hash>.md, with the facts of the bundle, its metrics, and how to use it."""
    about, request, precisions = draft.source.about, draft.request, "+".join(sorted(draft.precisions()))
    subject = "user=USER" if draft.users is not None else "history=[ITEM, ...]"
    facts = [
        ("data", about.get("data")),
        ("backbone", about.get("backbone")),
        ("method", about.get("method")),
        ("budget", about.get("budget")),
        ("items", draft.items.n_rows),
        ("users", draft.users.n_rows if draft.users else "none: a user's vector is made from a history"),
        ("ids", "none: items and users are known by their rows" if request.ids == "none" else None),
        ("dimensions", f"{draft.items.d}, {draft.items.n_values / draft.items.n_rows:.1f} an item on average"),
        ("layout, precision", f"{request.layout}, {precisions}"),
        ("table bytes", draft.tables.nbytes),
        *_metrics(about, "test", ""),
        *([] if draft.users is not None else _metrics(about, "encoder", ", users from histories")),
    ]
    measured = "before quantisation" if draft.trained_codes is None else "rounded as in this bundle"
    rows = "\n".join(
        f"| {name} | {shown(str(value)).replace('|', chr(92) + '|')} |" for name, value in facts if value is not None
    )
    return f"""# EdgeRec bundle

| | |
|---|---|
{rows}

Metrics are those of the trained tables, {measured}.

    pip install edgerec
    python -c "from edgerec import Recommender; print(Recommender.load('.').recommend({subject}, k=10))"
""".encode()


def _metrics(about: dict[str, Any], part: str, whose: str) -> list[tuple[str, str]]:
    found = about.get("metrics", {}).get(part, {})
    return [(f"{name} (test{whose})", f"{found[name]:.4f}") for name in ("ndcg@20", "recall@20") if name in found]

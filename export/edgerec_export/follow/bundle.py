"""Exports that follow an older bundle: its basis, the widths and precisions of its rows, and rows that hardly change.

A patch is small if most rows keep their bytes. Training again changes every row a little, and a fit changes the basis
of both tables, so three things are taken from the older rows, and nothing is stored for it:

- the basis: an orthogonal map brings the new rows nearest the older decoded ones (Schoenemann, Psychometrika 31, 1966);
- widths and precisions: of rows that both bundles have. A new row gets those of the row next to it in popularity;
- codes: a row keeps them if they are about as near to its new values as new codes would be (`NEAR_ENOUGH`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec.tables.codes import TINY
from edgerec_export.allocate import Allocation, rotated, turned
from edgerec_export.layouts import BLOCKED, Rotation, TableAllocation
from edgerec_export.patch import PRECISION_OF_BITS, PreviousBundle, PreviousRows, matched, stored_block
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.values import BYTES, DAMPING, chunks, rows_at_once

if TYPE_CHECKING:
    from edgerec_export.draft import Draft
    from edgerec_export.pack import PackedTable

NEAR_ENOUGH = 1.5
"""Largest ratio of the squared error of a row's older codes to that of new ones, for which the row keeps them. Trained
again on a week more of ML-1M, patches of 64 KiB (SVD) take 18 % of the bundle with 1, 2.8 % with 1.5, 2.5 % with 2."""
COMPARED_ROWS = 1 << 13
"""Approximate number of rows of each side from which the basis is found."""
ROWS_AT_ONCE = 1 << 15
ALREADY_NEAR = 1e-3
"""Share of squared differences from the older rows below which rows are in their basis: that of int8."""
FAR = 4.0
"""Ratio to the median share of squared differences above which a row has changed, and says nothing of the basis."""
UNLIKE = 0.25
"""Share of squared differences that is more than rounding, in int2 too: rows below it have not changed."""
NEARER = 0.9
"""Ratio of squared differences for which another basis counts as nearer."""
TURNS = 30
"""Steps of the search for the map. Values past a row's width are unknown, and taken from the map of the step before."""
ROWS_A_DIMENSION = 4
"""Smallest number of rows a dimension from which a map is found; fewer can be mapped to anything."""


def in_older_basis(source: Source, request: ExportRequest) -> Source:
    """Return tables with the same scores, in the basis in which they are nearest the rows of the older bundle."""
    previous = request.previous
    if previous is None or not previous.rows or not _is_dense(source) or source.takes_vectors:
        return source
    compared = _Compared.of(source, request, previous)
    if compared is None or compared.difference(source) <= ALREADY_NEAR:
        return source
    best, least = source, compared.difference(source)
    for start in (source, rotated(source)):
        for candidate in (start, compared.mapped(start)):
            difference = compared.difference(candidate)
            if difference < NEARER * least:
                best, least = candidate, difference
    return best


def _is_dense(source: Source) -> bool:
    return source.items.kind == "dense" and (source.users is None or source.users.kind == "dense")


@dataclass(frozen=True)
class _Compared:
    """A sample of the rows that both bundles have.

    Attributes:
        rows: row numbers of the source, by section.
        older: (n, d) older rows, by section, as they were before the rotation.
        known: (n, d) True for values that were stored, by section.
    """

    rows: dict[str, NDArray[np.int64]]
    older: dict[str, NDArray[np.float64]]
    known: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, source: Source, request: ExportRequest, previous: PreviousBundle) -> _Compared | None:
        """Return the sample; None if the bundles have too few rows in common, or unlike dimensions."""
        d = source.items.d
        if any(width > d for width in (*previous.rotation, *previous.widths["i"])):
            return None
        back = Rotation(previous.rotation, d).matrix.T
        rows, older, known = {}, {}, {}
        for name, ids in ids_by_section(source, request).items():
            if name not in previous.rows:
                continue
            sources = matched(previous.rows[name].ids, ids)
            common = np.flatnonzero(sources >= 0)
            common = common[:: -(-common.size // COMPARED_ROWS) or 1]
            there = sources[common]
            rows[name] = common
            older[name] = previous.rows[name].values(there, d) @ back
            known[name] = np.arange(d) < previous.rows[name].widths[there, None]
        return cls(rows, older, known) if sum(map(len, rows.values())) >= ROWS_A_DIMENSION * d else None

    def difference(self, source: Source) -> float:
        """Return the mean over rows of the share of squared differences in stored values, each at most `UNLIKE`."""
        shares = []
        for name, older in self.older.items():
            missing = np.where(self.known[name], self._values(source, name) - older, 0)
            each = np.square(missing).sum(1) / np.maximum(np.square(older).sum(1), 1e-300)
            shares.append(float(np.mean(np.minimum(each, UNLIKE))))
        return sum(shares) / len(shares)

    def mapped(self, source: Source) -> Source:
        """Return the source in the basis in which its rows are nearest the older ones.

        Without users the map is orthogonal, since an encoder follows it only then. With users it may be any M, of which
        the users take the inverse transpose: each step solves A E + E B = C for the M (I + E) that fits both sides.
        """
        values = {name: self._values(source, name) for name in self.older}
        axes = np.eye(source.items.d)
        for _ in range(TURNS):
            moves = {name: self._moves(name, one @ axes) for name, one in values.items()}
            product = sum((now.T @ (now + move) for now, move in moves.values()), np.zeros_like(axes))
            left, _, right = np.linalg.svd(product)
            axes = axes @ left @ right
        for _ in range(TURNS if len(values) == 2 else 0):
            items, item_moves = self._moves("i", values["i"] @ axes)
            users, user_moves = self._moves("u", values["u"] @ np.linalg.inv(axes).T)
            wanted = items.T @ item_moves - (users.T @ user_moves).T
            axes = axes @ (np.eye(len(axes)) + _sylvester(items.T @ items, users.T @ users, wanted))
        return turned(source, axes)

    def _moves(self, name: str, now: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rows and their differences to the older ones, without rows that have changed; both sides alike in sum.

        Values that were not stored are taken as they are, until the next step.
        """
        moves = np.where(self.known[name], self.older[name] - now, 0)
        far = np.square(moves).sum(1) / np.maximum(np.square(self.older[name]).sum(1), 1e-300)
        same = far <= max(FAR * float(np.median(far)), UNLIKE)
        norm = np.sqrt(max(np.square(self.older[name]).sum(), 1e-300))
        return now[same] / norm, moves[same] / norm

    def _values(self, source: Source, name: str) -> NDArray[np.float64]:
        table = source.items if name == "i" else source.users
        if table is None:
            raise ValueError("no users to compare")
        return table.rows(self.rows[name]).astype(np.float64)


def _sylvester(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the E of A E + E B = C, for symmetric A and B without negative eigenvalues."""
    (of_a, left), (of_b, right) = np.linalg.eigh(a), np.linalg.eigh(b)
    sums = of_a[:, None] + of_b
    found: NDArray[np.float64] = left @ ((left.T @ c @ right) / np.maximum(sums, 1e-9 * sums.max())) @ right.T
    return found


def ids_by_section(source: Source, request: ExportRequest) -> dict[str, Any]:
    """Return the ids by which rows are found in the older bundle, by the section of their values."""
    found = {"i": source.item_ids}
    if request.users and source.users is not None and source.user_ids is not None:
        found["u"] = source.user_ids
    if request.ids != "hash64":
        return {name: ids.tolist() if ids.dtype.kind not in "iu" else ids for name, ids in found.items()}
    hashes = {"i": source.item_hashes} | ({} if source.user_hashes is None else {"u": source.user_hashes})
    return {name: [f"{one % (1 << 64):016x}" for one in hashes[name].tolist()] for name in found}


def is_fitted(source: Source, previous: PreviousBundle) -> bool:
    """Return True if the older bundle was fitted to its limit: several precisions, or dense rows that are cut."""
    cut = source.items.kind == "dense" and min(previous.widths["i"], default=0) < source.items.d
    return bool(previous.rows) and (len(previous.precisions) > 1 or cut)


def allocation_like(source: Source, request: ExportRequest, narrowed: int) -> Allocation:
    """Return the widths and precisions of the older bundle.

    Args:
        narrowed: number of items, the least popular first, that get the block of the fewest bits instead.
    """
    previous = request.previous
    if previous is None:
        raise ValueError("no older bundle to follow")
    ids = ids_by_section(source, request)
    counts = source.item_counts
    tables = {"i": source.items} | ({} if source.users is None else {"u": source.users})
    shares = {
        name: _share(tables[name], previous.rows[name], ids[name], counts if name == "i" else None, previous, narrowed)
        for name in ids
    }
    return Allocation(shares["i"], shares.get("u"))


def _share(
    table: Table,
    older: PreviousRows,
    ids: Any,
    counts: NDArray[Any] | None,
    previous: PreviousBundle,
    narrowed: int,
) -> TableAllocation:
    sources = matched(older.ids, ids)
    common, new = np.flatnonzero(sources >= 0), np.flatnonzero(sources < 0)
    like = sources.copy()
    popularity = np.argsort(np.argsort(ids)) if counts is None else counts
    if not common.size:
        like[new] = int(np.argmax(older.bits * older.widths))
    elif new.size:
        common = common[np.argsort(popularity[common], kind="stable")]
        at = np.searchsorted(popularity[common], popularity[new])
        like[new] = sources[common[np.minimum(at, common.size - 1)]]
    if counts is not None and narrowed:
        like[np.argsort(popularity, kind="stable")[:narrowed]] = int(np.argmin(older.bits * older.widths))
    bits, sizes = older.bits[like], np.minimum(older.widths[like], table.d)
    precisions = previous.precisions
    numbers = {precision: number for number, precision in enumerate(precisions)}
    which = np.array([numbers.get(PRECISION_OF_BITS[one], 0) for one in bits.tolist()], np.int8)
    nbytes = sum(float(sizes[which == n].sum()) * BYTES[one] for n, one in enumerate(precisions))
    return TableAllocation(sizes, precisions, which, math.nan, nbytes)


def keep_rows(
    packed: PackedTable,
    older: PreviousRows,
    table: Table,
    ids: Any,
    gram: NDArray[np.float64] | None,
    *,
    by_column: bool,
) -> None:
    """Write the older codes of rows over the new ones where they are about as near to the values of the table.

    Args:
        packed: a packed table, whose arrays are changed.
        table: (n_rows, d) the values that were packed.
        ids: raw ids of the table's rows.
        gram: (d, d) second moment of the vectors that rows are multiplied by; None for all directions alike.
        by_column: True for a table that is scored.
    """
    plan = packed.plan
    rows = [block.rows for block in plan.blocks]
    stored = [stored_block(block, by_column=by_column) for block in plan.blocks]
    sources = matched(older.ids, ids)[plan.order]
    there = np.maximum(sources, 0)
    retained = (sources >= 0) & (older.widths[there] == np.repeat([block.width for block in stored], rows))
    retained &= older.bits[there] == np.repeat([block.bits for block in stored], rows)
    if older.stored_scales is None:
        retained &= older.scales[there] == packed.row_scales(np.arange(plan.n_rows))
    else:  # the stored scale is copied with the codes, and has the same meaning over the same top only
        retained &= older.top == packed.scales.top
    root = None if gram is None else np.linalg.cholesky(gram + np.eye(table.d) * (DAMPING * np.trace(gram) + TINY))
    for part in chunks(plan.n_rows, rows_at_once(plan.d, ROWS_AT_ONCE)):
        places = part.start + np.flatnonzero(retained[part])
        if places.size:
            values = table.rows(plan.order[places])
            before = _error(values, older.values(sources[places], plan.d), root)
            retained[places] = before <= NEAR_ENOUGH * _error(values, packed.rows(places), root)
    older.copy_to(packed.arrays, stored, np.where(retained, sources, -1))


def _error(values: NDArray[np.float32], decoded: NDArray[np.float32], root: NDArray[np.float64] | None) -> NDArray[Any]:
    """Return the (n,) squared error of scores of (n, d) rows, of which the first dimensions are decoded."""
    errors = values.astype(np.float64)
    errors[:, : decoded.shape[1]] -= decoded
    return np.asarray(np.square(errors if root is None else errors @ root).sum(1))


def obstacle(draft: Draft) -> str:
    """Return why no small patch can follow a bundle, with the cure; '' if small patches can."""
    request, layout = draft.request, draft.items.layout
    if layout == "csc":
        return "csc stores values by dimension, and a row that changes moves the others; --layout ell keeps rows apart"
    if request.ids == "none":
        return "rows without ids are matched by their numbers, which an added item moves; store ids, or --ids hash64"
    if not draft.items.is_integer and layout in BLOCKED and draft.source.items.kind == "dense" and draft.is_cut:
        return f"rows of {draft.items.precision} were turned to be cut, and change as a whole; --precision int8 or auto"
    return ""

"""Requests for stored tables, and the variants of a layout that can serve them.

In most layouts all rows of a block have the same width: `group` assigns rows to blocks, `block_variants` lists the sets
of widths to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from statistics import NormalDist
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import width_choices as padding_candidates
from edgerec.tables import SparseTable, Table
from edgerec_export.layouts.base import BlockGroup, TablePlan
from edgerec_export.thin import counts_of_rows, is_thin, lengths_of_rows
from edgerec_export.values import BYTES, PER_BYTE, Block, block_of, chunks

ROWS_AT_ONCE = 1 << 16
GROUP_ROWS = 1 << 15
"""Minimum number of rows of a block group, which is scored or skipped as a whole."""
UNPACKED_NS = {"int4": 0.33, "int2": 0.46}
"""Nanoseconds of a score for each value of a precision that shares bytes, with onnxruntime 1.32 on one x86-64 core."""
GROUP_NS = 24_000.0
"""Time to score a block group of such values, above which fewer rows than `GROUP_ROWS` make a group."""
FEWEST_GROUP_ROWS = 1 << 12
"""Minimum number of rows of a block group, however long its rows take."""
MOST_WIDTHS = 16
"""Maximum number of block widths of a table."""
MOST_FITTED_WIDTHS = 6
"""Maximum number of block widths of a scored table that is fitted to a size, of all its precisions. NDCG@20 of fitted
bundles on ML-1M is the same with 6 as with 16, since a row that is stored in a wider block has more of its values; each
block of int4 has ten nodes, so that a request takes .6 of the time."""
PADDING_ALLOWED = 0.05
"""Largest share of padding that is accepted for fewer graph nodes, without a size limit."""
MOST_BLOCKS = 24
"""Maximum number of block groups."""
MOST_PARTS = 4
"""Maximum number of blocks into which rows of one width are split by their norm."""
DECODED_AT_ONCE = 1 << 23
"""Maximum number of values of an int4 block that is scored, since the whole block is decoded in memory."""
GRAPH_BYTES_PER_BLOCK = 80
"""Estimated bytes of graph and manifest for each block of a looked-up table."""


@dataclass(frozen=True)
class TableAllocation:
    """The part of a byte budget that one table gets.

    Attributes:
        sizes: (n_rows,) leading dimensions of each row.
        precisions: the precisions of the rows.
        which: (n_rows,) the index of each row's precision in `precisions`.
        distortion: mean squared error of a score that this table causes.
        nbytes: bytes of the values.
        exact: True if rows are stored with exactly these dimensions, and not with more in a wider block.
    """

    sizes: NDArray[np.int64]
    precisions: tuple[str, ...]
    which: NDArray[np.int8]
    distortion: float
    nbytes: float
    exact: bool = False


@dataclass(frozen=True)
class TableRequest:
    """A table to store, with its settings.

    Attributes:
        table: (n_rows, d).
        precision: of the values.
        rows_by_id: (n_rows,) row numbers in ascending order of their ids, which is the order inside a block.
        scales: the unit that has one scale, for integers: 'table', 'block' or 'row'.
        scale_type: dtype of row scales, as of `TablePlan`.
        scored: True if all rows are scored for each user, False if rows are only looked up.
        d: dimensions of a decoded row; the default is no limit.
        share: the allocation of a byte budget; None to store whole rows. A row stores more values than allocated if its
            block is wider.
        widths: block widths of an older bundle, ascending; a wider block is added if rows need it.
    """

    table: Table
    precision: str
    rows_by_id: NDArray[np.int64]
    scales: str = "table"
    scale_type: str = field(default="float16", kw_only=True)
    scored: bool = True
    d: int = 1 << 30
    share: TableAllocation | None = None
    widths: tuple[int, ...] = ()

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(n_rows,) dimensions of each row up to its last nonzero value, at least 1 and at most `d`."""
        if self.share is not None:
            return np.clip(self.share.sizes, 1, self.d)
        found = self.table.sizes()
        if self.table.kind == "sparse":
            for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
                used = self.table.rows(np.arange(part.start, part.stop)) != 0
                found[part] = np.where(used.any(1), self.table.d - used[:, ::-1].argmax(1), 1)
        return np.clip(found, 1, self.d)

    @cached_property
    def classes(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Row numbers by precision, ascending."""
        everyone = np.arange(self.table.n_rows)
        if self.share is None:
            return [(self.precision, everyone)]
        pairs = [(name, np.flatnonzero(self.share.which == n)) for n, name in enumerate(self.share.precisions)]
        return [(name, rows) for name, rows in pairs if rows.size]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(n_rows,) nonzero values of each row; 1 for a row of zeros, which stores one zero."""
        if isinstance(self.table, SparseTable):
            return np.maximum(counts_of_rows(self.table), 1)
        found = np.empty(self.table.n_rows, np.int64)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.count_nonzero(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return np.maximum(found, 1)

    @cached_property
    def lengths(self) -> NDArray[np.float32]:
        """(n_rows,) Euclidean norm of each row."""
        if is_thin(self.table):
            return lengths_of_rows(self.table)
        found = np.empty(self.table.n_rows, np.float32)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.linalg.norm(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return found


@dataclass(frozen=True)
class LayoutVariant:
    """One way to store a table in a layout.

    Attributes:
        widths: block widths, ascending, for each of the request's classes; empty for layouts without widths.
    """

    widths: tuple[tuple[int, ...], ...] = ()


class Layout(Protocol):
    """A format in which tables are stored."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    @property
    def scores_rows(self) -> bool:
        """True if looking up a few rows costs less than scoring all rows."""
        ...

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        """Return the variants to compare, the fastest first."""
        ...

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        """Return the place of every value."""
        ...


class ReachEstimate(NamedTuple):
    """Estimates of the largest score that each row can have, by which blocks are ordered.

    Attributes:
        lengths: (n_rows,) Euclidean norm of each row.
        reach: a function of a row's number of values that estimates the norm of the user's values in these dimensions.
        least_rows: minimum number of rows of a block group.
    """

    lengths: NDArray[np.float32]
    reach: Callable[[int], float]
    least_rows: int


def group(
    sizes: NDArray[np.int64],
    classes: Sequence[tuple[str, NDArray[np.int64]]],
    widths: Sequence[Sequence[int]],
    *,
    by_column: bool,
    rows_by_id: NDArray[np.int64],
    reach: ReachEstimate | None = None,
) -> tuple[tuple[Block, ...], NDArray[np.int64]]:
    """Assign each row to the narrowest block of its class that it fits in; longer rows are cut to the widest block.

    Args:
        sizes: (n_rows,) values of each row.
        classes: precisions, and the row numbers of each.
        widths: block widths of each class, ascending.
        rows_by_id: (n_rows,) row numbers in the order inside a block.
        reach: score estimates of a large table whose blocks can be skipped: the blocks with the highest scores are put
            last. None to order blocks by width.

    Returns:
        The blocks, and the table's row number of each row of the bundle.
    """
    block_of_row = np.empty(sizes.size, np.int64)
    kinds: list[tuple[int, str]] = []
    for (precision, rows), its_widths in zip(classes, widths, strict=True):
        wide = np.minimum(sizes[rows], its_widths[-1])
        block_of_row[rows] = len(kinds) + np.searchsorted(its_widths, wide)
        kinds += [(int(width), precision) for width in its_widths]
    if reach is not None:
        kinds, block_of_row = _ordered_by_reach(kinds, block_of_row, reach)
    order = rows_by_id[np.argsort(block_of_row[rows_by_id], kind="stable")]
    blocks: list[Block] = []
    first, start = 0, 0
    for (width, precision), n in zip(kinds, np.bincount(block_of_row, minlength=len(kinds)).tolist(), strict=True):
        most = DECODED_AT_ONCE // width if precision in PER_BYTE and by_column else n
        for part in chunks(n, max(most, 1)):
            rows = part.stop - part.start
            blocks.append(block_of(width, rows, first, start, precision, by_column=by_column))
            first, start = first + rows, start + blocks[-1].stored
    return tuple(blocks), order.astype(np.int64)


def _ordered_by_reach(
    kinds: Sequence[tuple[int, str]], block_of_row: NDArray[np.int64], estimate: ReachEstimate
) -> tuple[list[tuple[int, str]], NDArray[np.int64]]:
    """Order blocks by the highest score that their rows can have; blocks with many rows are split by norm first."""
    least = max(estimate.least_rows, block_of_row.size // MOST_BLOCKS)
    parts: list[tuple[float, tuple[int, str], NDArray[np.int64]]] = []
    for number, kind in enumerate(kinds):
        mine = np.flatnonzero(block_of_row == number)
        count = max(1, min(MOST_PARTS, mine.size // least))
        if count > 1:
            mine = mine[np.argsort(estimate.lengths[mine], kind="stable")]
        reach = estimate.reach(kind[0])
        parts += [
            (reach * float(estimate.lengths[part].max()), kind, part)
            for part in np.array_split(mine, count)
            if part.size
        ]
    parts.sort(key=lambda part: part[0])
    found = np.empty_like(block_of_row)
    for number, (_, _, rows) in enumerate(parts):
        found[rows] = number
    return [kind for _, kind, _ in parts], found


def least_group_rows(n_values: Mapping[str, int], n_rows: int) -> int:
    """Return the number of rows whose scores take long enough to test if they are needed.

    A test takes about as long as scoring 5,000 short rows of int8 or floats, and adds bytes of graph and load time.
    Values that share bytes take several times as long as others, so that fewer rows are worth a test.

    Args:
        n_values: number of values of all rows, by precision.
    """
    ns = sum(UNPACKED_NS.get(precision, 0.0) * n for precision, n in n_values.items()) / max(n_rows, 1)
    return min(GROUP_ROWS, max(FEWEST_GROUP_ROWS, int(GROUP_NS / ns))) if ns else GROUP_ROWS


def block_groups_of(blocks: Sequence[Block], least_rows: int) -> list[BlockGroup]:
    """Return groups of neighbouring blocks, in the order of scoring: from the last block to the first.

    A group is as large as all groups scored before it, so that a user who needs some of the rows scores at most twice
    as many, or has about a quarter of all rows, which limits memory.
    """
    n_rows = blocks[-1].first + blocks[-1].rows
    least, groups = max(least_rows, n_rows // MOST_BLOCKS), list[BlockGroup]()
    stop, end = len(blocks), n_rows
    for number in reversed(range(len(blocks))):
        first = blocks[number].first
        if number == 0 or (end - first >= max(least, min(n_rows - end, n_rows // 4)) and first >= least):
            groups.append(BlockGroup(range(number, stop), range(first, end)))
            stop, end = number, first
    return groups


def width_candidates(
    sizes: NDArray[np.int64], per_value: float, per_block: float, fast: bool, most: int = MOST_WIDTHS
) -> list[NDArray[np.int64]]:
    """Return sets of at most `most` widths, each with the least padding for its number of widths, the cheapest first.

    Args:
        per_value, per_block: cost of a value and of a block.
        fast: True if the cost is time: sets with more than 5 % padding come last, for bundles in which the graph has
            to be smaller. False if the cost is bytes.
    """
    candidates = padding_candidates(sizes, most)
    values = [int(widths[np.searchsorted(widths, sizes)].sum()) for widths in candidates]

    def price(number: int) -> tuple[bool, float]:
        if fast and values[number] > (1 + PADDING_ALLOWED) * sizes.sum() and values[number] > values[-1]:
            return True, float(values[number])
        return False, values[number] * per_value + len(candidates[number]) * per_block

    return [candidates[number] for number in sorted(range(len(candidates)), key=price)]


@dataclass(frozen=True)
class ScoringCost:
    """Cost of scoring a block, measured with onnxruntime 1.32 on one x86-64 core.

    Attributes:
        ns_per_value: nanoseconds to read a value and its column or bit.
        ns_per_block: nanoseconds of the nodes of a block.
    """

    ns_per_value: float
    ns_per_block: float


def block_variants(sizes: NDArray[np.int64], request: TableRequest, price: ScoringCost) -> list[LayoutVariant]:
    """Return the sets of widths with the least padding, the fastest first (looked-up tables: the smallest first).

    A request with the widths of an older bundle has one variant, with these widths.
    """
    if request.widths:
        most = int(sizes.max())
        return [
            LayoutVariant(tuple((*(width for width in request.widths if width < most), most) for _ in request.classes))
        ]
    if request.share is not None and request.share.exact:
        return [LayoutVariant(tuple(tuple(np.unique(sizes[rows]).tolist()) for _, rows in request.classes))]
    per_class = []
    for precision, rows in request.classes:
        per_value, per_block = price.ns_per_value, price.ns_per_block
        if not request.scored:
            per_value, per_block = BYTES[precision], GRAPH_BYTES_PER_BLOCK
        most = MOST_WIDTHS
        if request.share is not None and request.scored and request.scale_type == "uint8":
            most = max(MOST_FITTED_WIDTHS // len(request.classes), 2)
        found = width_candidates(sizes[rows], per_value, per_block, request.scored, most)
        per_class.append([tuple(map(int, widths)) for widths in found])
    longest = max(map(len, per_class))
    # The first candidates of all classes make the first variant, the second ones the second, and so on.
    return [LayoutVariant(tuple(own[min(number, len(own) - 1)] for own in per_class)) for number in range(longest)]


@dataclass(frozen=True)
class ByCount:
    """A layout that groups rows by their number of nonzero values."""

    name: str
    price: ScoringCost
    planned: type[TablePlan]
    skips_blocks: bool = False
    scores_rows: bool = True

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        return block_variants(request.counts, request, self.price)

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        reach = None
        if request.scored and request.table.n_rows >= 2 * GROUP_ROWS:
            reach = ReachEstimate(request.lengths, partial(_norm_of_largest, of=request.d), GROUP_ROWS)
        blocks, order = group(
            request.counts,
            request.classes,
            variant.widths,
            by_column=False,
            rows_by_id=request.rows_by_id,
            reach=reach if self.skips_blocks else None,
        )
        return self.planned(self.name, blocks, order, request.d, request.scales, scale_type=request.scale_type)


def _norm_of_largest(count: int, of: int) -> float:
    """Return the approximate norm of the `count` largest magnitudes of `of` standard normal values."""
    quantiles = (NormalDist().inv_cdf(1 - (number + 0.5) / (2 * of)) for number in range(min(count, of)))
    return math.sqrt(sum(quantile**2 for quantile in quantiles))

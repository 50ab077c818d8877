"""The layouts by name: which widths each tries, and the plans it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgerec_export.layouts.base import Plan
from edgerec_export.layouts.bitmask import BitmaskPlan
from edgerec_export.layouts.blocks import BlockPlan
from edgerec_export.layouts.choice import Choice, Wish
from edgerec_export.layouts.csc import CscPlan, list_lengths
from edgerec_export.layouts.csr import CsrPlan
from edgerec_export.layouts.ell import EllPlan
from edgerec_export.layouts.groups import Search, group, width_choices
from edgerec_export.values import BYTES, Block

GRAPH_BYTES_PER_BLOCK = 80
"""About what one more block of a looked-up table adds to graphs and manifest: a guess, before bytes are counted."""


@dataclass(frozen=True)
class Price:
    """What scoring costs, measured with onnxruntime 1.32 on one x86-64 core.

    Attributes:
        ns_per_value: of reading a value and what belongs to it.
        ns_per_block: of the nodes that a block takes.
    """

    ns_per_value: float
    ns_per_block: float


def _choices(sizes: NDArray[np.int64], wish: Wish, price: Price) -> list[Choice]:
    """Sets of widths with the least padding: the fastest first, or the smallest of a table that is only looked up. Or
    those to follow."""
    if wish.widths:
        most = int(sizes.max())
        return [Choice(tuple((*(width for width in wish.widths if width < most), most) for _ in wish.classes))]
    per_class = []
    for precision, rows in wish.classes:
        per_value, per_block = price.ns_per_value, price.ns_per_block
        if not wish.scored:
            per_value, per_block = BYTES[precision], GRAPH_BYTES_PER_BLOCK
        found = width_choices(sizes[rows], per_value, per_block, wish.scored)
        per_class.append([tuple(map(int, widths)) for widths in found])
    longest = max(map(len, per_class))
    # Classes are cut alike: their first choices together, their second ones, and so on.
    return [Choice(tuple(own[min(number, len(own) - 1)] for own in per_class)) for number in range(longest)]


def _csr_block(rows: int, n_values: int, d: int, precision: str) -> Block:
    stored = -(-n_values // 2) if precision == "int4" else n_values
    return Block(d, rows, 0, 0, n_values, stored, precision)


class Dense:
    """One block as wide as the widest row. What every other layout has to beat."""

    name = "dense"
    scores_rows = True

    def choices(self, wish: Wish) -> list[Choice]:
        return [Choice(tuple((int(wish.sizes.max()),) for _ in wish.classes))]

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        return _block_plan(self.name, wish, choice)


class Mixed:
    """Rows by their number of leading values."""

    name = "mixed"
    scores_rows = True

    def choices(self, wish: Wish) -> list[Choice]:
        # A block more costs a Slice, a MatMul and a share of Concat, a byte more the memory's bandwidth.
        return _choices(wish.sizes, wish, Price(0.045 * BYTES[wish.precision], 1300))

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        return _block_plan(self.name, wish, choice)


def _block_plan(name: str, wish: Wish, choice: Choice) -> BlockPlan:
    blocks, order = group(
        wish.sizes,
        wish.classes,
        choice.widths,
        by_column=wish.scored,
        rows_by_id=wish.rows_by_id,
        search=Search(wish.lengths, math.sqrt) if wish.is_large and name == Mixed.name else None,
    )
    return BlockPlan(name, blocks, order, wish.d, wish.scales, by_column=wish.scored)


@dataclass(frozen=True)
class ByCount:
    """Rows by their number of values, wherever they stand."""

    name: str
    price: Price
    planned: type[EllPlan | BitmaskPlan]
    in_runs: bool = False
    scores_rows: bool = True

    def choices(self, wish: Wish) -> list[Choice]:
        return _choices(wish.counts, wish, self.price)

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        blocks, order = group(
            wish.counts,
            wish.classes,
            choice.widths,
            by_column=False,
            rows_by_id=wish.rows_by_id,
            search=Search(wish.lengths, partial(_largest, of=wish.d)) if wish.is_large and self.in_runs else None,
        )
        return self.planned(self.name, blocks, order, wish.d, wish.scales)


def _largest(count: int, of: int) -> float:
    """The length of the `count` largest of some normal values, about."""
    quantiles = (NormalDist().inv_cdf(1 - (number + 0.5) / (2 * of)) for number in range(min(count, of)))
    return math.sqrt(sum(quantile**2 for quantile in quantiles))


ELL = ByCount("ell", Price(1.4, 8000), EllPlan, in_runs=True)
"""Each value with its column."""
BITMASK = ByCount("bitmask", Price(10.0, 2000), BitmaskPlan)
"""A bit for each position."""


class Csr:
    """Rows in the order of their ids, with pointers."""

    name = "csr"
    scores_rows = True

    def choices(self, wish: Wish) -> list[Choice]:
        return [Choice()]

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        counts = wish.counts[wish.rows_by_id]
        block = _csr_block(len(counts), int(counts.sum()), wish.d, wish.precision)
        return CsrPlan(self.name, (block,), wish.rows_by_id, wish.d, wish.scales, counts)


class Csc:
    """Values by dimension; rows in the order of their ids."""

    name = "csc"
    scores_rows = False

    def choices(self, wish: Wish) -> list[Choice]:
        return [Choice()]

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        lengths = list_lengths(wish.table, wish.rows_by_id)
        block = Block(wish.d, wish.table.n_rows, 0, 0, int(lengths.sum()), 0, wish.precision)
        return CscPlan(self.name, (block,), wish.rows_by_id, wish.d, "table", lengths)

"""Exact top k of a large catalogue with bound-based block skipping.

A score is at most |u| |v| (Cauchy and Schwarz). A row with w values meets only the first w values of the user, or at
most its w largest in sparse layouts. The group of blocks with the highest bounds is always scored, and its k-th best
score is the threshold of all other rows. A group is skipped, neither read nor scored, if the bounds of its blocks are
below the threshold for every user of the batch:

    best k of the first group  ->  threshold [B, 1]
    for each other group:  any(|u[:w]| * longest row of the block > threshold)  ?  best k of the group  :  nothing
    best k of all groups

In budgeted tables popular items have wide and long rows, so the best items of most users are in the first group.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.tables.codes import TINY
from edgerec_export.onnx.builder import Graph, Name
from edgerec_export.onnx.decode import DecodedRows
from edgerec_export.onnx.topk import NOTHING, Best, add_best, with_tail

if TYPE_CHECKING:
    from edgerec_export.layouts import BlockGroup
    from edgerec_export.onnx.graphs import GraphTable

ROUNDING = np.float32(1 + 1e-4)
"""Safety factor of bounds, above the rounding error of a sum of 1,024 float32 products."""
UNSEEN = np.float32(2.0**-100)
"""Upper bound of the sum of all squares that are 0 in float32, for a vector whose largest value is 1."""


def add_bounded_best(
    g: Graph,
    items: GraphTable,
    user: DecodedRows,
    exclude: Name,
    k: Name,
    bounds: NDArray[np.float32],
    dtype: str,
    finished: Callable[[Graph, list[Name], range], list[Name]] = lambda _, pieces, __: pieces,
    *,
    avoid_squares: bool = False,
) -> Best:
    """Add the nodes that find the best k of all items that are not excluded, with the result of `add_best`.

    Args:
        bounds: (blocks,) upper bounds of finished scores, for a user vector of length 1.
        dtype: dtype of finished scores.
        finished: a function of a graph, pieces of `add_scores` and their rows that adds the nodes of finished scores.
        avoid_squares: scale user vectors before values are squared, for values outside of the range of squares, and
            compare bounds without subtraction.
    """
    plan, n_items = items.plan, items.plan.n_rows

    def best_of(graph: Graph, group: BlockGroup) -> Best:
        pieces = finished(graph, items.add_scores(graph, user, group.blocks), group.rows)
        scores = with_tail(graph, pieces, len(group.rows), dtype)
        return add_best(graph, scores, exclude, k, group.rows, n_items, dtype)

    first, *others = plan.block_groups()
    found = [best_of(g, first)]
    threshold = _threshold(g, found[0], k, first, dtype)
    if avoid_squares:  # a group with the bound nan is scored
        below = g.op("LessOrEqual", _bounds_without_squares(g, items, user, bounds), threshold)
        above = g.op("Where", below, g.constant(0.0, "float32"), g.constant(1.0, "float32"))
        beyond = g.op("ReduceMax", above, g.ints(0), keepdims=0)
    else:
        beyond = g.op("ReduceMax", g.op("Sub", _bounds(g, items, user, bounds), threshold), g.ints(0), keepdims=0)
    for group in others:
        some = g.op("Slice", beyond, g.ints(group.blocks.start), g.ints(group.blocks.stop))
        needed = g.op("Greater", g.op("ReduceMax", some, keepdims=0), g.constant(0.0, "float32"))
        answer = g.either(
            needed,
            partial(best_of, group=group),
            lambda body: [body.leading(one, 0) for one in found[0]],
            [(dtype, ["B", "R"]), ("int64", ["B", "R"])],
        )
        found.append(Best(*answer))
    values = g.op("Concat", *(best.values for best in found), axis=1)
    ids = g.op("Concat", *(best.items for best in found), axis=1)
    wanted = g.reshape(g.op("Min", k, g.constant(n_items)), 1)
    values, place = g.ops("TopK", values, wanted, count=2)
    return Best(values, g.op("GatherElements", ids, place, axis=1))


def _threshold(g: Graph, best: Best, k: Name, group: BlockGroup, dtype: str) -> Name:
    """Add the [B, 1] float32 k-th best score of a group; -inf if the group has fewer rows than k."""
    least = g.op("ReduceMin", best.values, g.ints(1), keepdims=1)
    if dtype != "float32":
        least = g.cast(least, "float32")
    enough = g.op("LessOrEqual", k, g.constant(len(group.rows)))
    return g.op("Where", enough, least, g.constant(NOTHING["float32"], "float32"))


def _bounds(g: Graph, items: GraphTable, user: DecodedRows, bounds: NDArray[np.float32]) -> Name:
    """Add the [B, blocks] float32 upper bounds of scores."""
    lengths = g.op("Sqrt", _squares(g, items, user.centred(g)))
    return g.op("Mul", lengths, g.constant(bounds * ROUNDING, "float32"))


def _bounds_without_squares(g: Graph, items: GraphTable, user: DecodedRows, bounds: NDArray[np.float32]) -> Name:
    """Add the bounds of `_bounds`, with vectors divided by their largest value before values are squared."""
    largest = g.op("ReduceMax", g.op("Abs", user.values), g.ints(-1), keepdims=1)
    largest = g.op("Max", largest, g.constant(TINY, "float32"))
    squares = _squares(g, items, g.op("Div", user.values, largest))
    lengths = g.op("Sqrt", g.op("Add", squares, g.constant(UNSEEN, "float32")))
    return g.op("Mul", g.op("Mul", lengths, g.constant(bounds * ROUNDING, "float32")), largest)


def _squares(g: Graph, items: GraphTable, vector: Name) -> Name:
    """Add the [B, blocks] float32 largest squared norm of the values of a vector [B, d] that a row of a block meets."""
    squares = g.op("Mul", vector, vector)
    if not items.plan.leading:  # the values of a row may meet the largest ones
        squares = g.ops("TopK", squares, g.ints(items.plan.d), count=2)[0]
    squares = g.op("CumSum", squares, g.constant(1))
    return g.op("Gather", squares, g.ints(*(block.width - 1 for block in items.plan.blocks)), axis=1)

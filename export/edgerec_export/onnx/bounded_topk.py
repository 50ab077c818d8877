"""The best of a large catalogue, exactly, without reading all of it.

A score is at most |u| |v| (Cauchy and Schwarz), and of a row with w values only the user's first w count, or at most
its w largest where values stand anywhere. The run of blocks whose rows can score highest is always scored; the k-th
best of it is what every other row has to beat. A run whose blocks all stay below that, for every user of the batch, is
neither read nor scored:

    best k of the first run  ->  threshold [B, 1]
    for each other run:  any(|u[:w]| * longest row of the block > threshold)  ?  best k of the run  :  nothing
    best k of what was found

In budgeted tables the popular items have the wide rows, and the long ones: most users' best are in the first run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec_export.onnx.builder import Graph, Name
from edgerec_export.onnx.decode import Rows
from edgerec_export.onnx.topk import NOTHING, Best, add_best, with_tail
from edgerec_export.values import TINY

if TYPE_CHECKING:
    from edgerec_export.layouts import Run
    from edgerec_export.onnx.graphs import Side

ROUNDING = np.float32(1 + 1e-4)
"""A bound is this much above: a sum of 1,024 products of float32 is off by less."""
UNSEEN = np.float32(2.0**-100)
"""Of a vector whose largest value is 1: above the sum of all squares that are 0 in float32."""


def add_best_of_runs(
    g: Graph,
    items: Side,
    user: Rows,
    exclude: Name,
    k: Name,
    bounds: NDArray[np.float32],
    dtype: str,
    finished: Callable[[Graph, list[Name], range], list[Name]] = lambda _, pieces, __: pieces,
    *,
    careful: bool = False,
) -> Best:
    """The best k of all items that are not excluded: what `add_best` finds.

    Args:
        bounds: (blocks,) what a finished score of a row is at most, for a user of length 1.
        dtype: of finished scores.
        finished: makes them of pieces of `add_scores` and the rows that these are of.
        careful: users' values may be any numbers: none is squared before it is brought near 1, and no user of a batch
            hides a run that another needs.
    """
    plan, n_items = items.plan, items.plan.n_rows

    def best_of(graph: Graph, run: Run) -> Best:
        pieces = finished(graph, items.add_scores(graph, user, run.blocks), run.rows)
        scores = with_tail(graph, pieces, len(run.rows), dtype)
        return add_best(graph, scores, exclude, k, run.rows, n_items, dtype)

    first, *others = plan.runs()
    found = [best_of(g, first)]
    threshold = _threshold(g, found[0], k, first, dtype)
    if careful:  # a bound that is no number is at most nothing: its run is scored
        below = g.op("LessOrEqual", _careful_bounds(g, items, user, bounds), threshold)
        above = g.op("Where", below, g.constant(0.0, "float32"), g.constant(1.0, "float32"))
        beyond = g.op("ReduceMax", above, g.ints(0), keepdims=0)
    else:
        beyond = g.op("ReduceMax", g.op("Sub", _bounds(g, items, user, bounds), threshold), g.ints(0), keepdims=0)
    for run in others:
        some = g.op("Slice", beyond, g.ints(run.blocks.start), g.ints(run.blocks.stop))
        needed = g.op("Greater", g.op("ReduceMax", some, keepdims=0), g.constant(0.0, "float32"))
        made = g.either(
            needed,
            partial(best_of, run=run),
            lambda body: [body.leading(one, 0) for one in found[0]],
            [(dtype, ["B", "R"]), ("int64", ["B", "R"])],
        )
        found.append(Best(*made))
    values = g.op("Concat", *(best.values for best in found), axis=1)
    ids = g.op("Concat", *(best.items for best in found), axis=1)
    wanted = g.reshape(g.op("Min", k, g.constant(n_items)), 1)
    values, place = g.ops("TopK", values, wanted, count=2)
    return Best(values, g.op("GatherElements", ids, place, axis=1))


def _threshold(g: Graph, best: Best, k: Name, run: Run, dtype: str) -> Name:
    """[B, 1] float32 the k-th best score of a run; -inf where the run has fewer rows than k."""
    least = g.op("ReduceMin", best.values, g.ints(1), keepdims=1)
    if dtype != "float32":
        least = g.cast(least, "float32")
    enough = g.op("LessOrEqual", k, g.constant(len(run.rows)))
    return g.op("Where", enough, least, g.constant(NOTHING["float32"], "float32"))


def _bounds(g: Graph, items: Side, user: Rows, bounds: NDArray[np.float32]) -> Name:
    """[B, blocks] float32 what no score of a block is above."""
    lengths = g.op("Sqrt", _squares(g, items, user.centred(g)))
    return g.op("Mul", lengths, g.constant(bounds * ROUNDING, "float32"))


def _careful_bounds(g: Graph, items: Side, user: Rows, bounds: NDArray[np.float32]) -> Name:
    """`_bounds` of users of any length: their largest value is taken out of the squares."""
    largest = g.op("ReduceMax", g.op("Abs", user.values), g.ints(-1), keepdims=1)
    largest = g.op("Max", largest, g.constant(TINY, "float32"))
    squares = _squares(g, items, g.op("Div", user.values, largest))
    lengths = g.op("Sqrt", g.op("Add", squares, g.constant(UNSEEN, "float32")))
    return g.op("Mul", g.op("Mul", lengths, g.constant(bounds * ROUNDING, "float32")), largest)


def _squares(g: Graph, items: Side, vector: Name) -> Name:
    """[B, blocks] float32 the squared length of what a row of each block meets of a vector [B, d], at most."""
    squares = g.op("Mul", vector, vector)
    if not items.plan.leading:  # a row's values may meet the user's largest
        squares = g.ops("TopK", squares, g.ints(items.plan.d), count=2)[0]
    squares = g.op("CumSum", squares, g.constant(1))
    return g.op("Gather", squares, g.ints(*(block.width - 1 for block in items.plan.blocks)), axis=1)

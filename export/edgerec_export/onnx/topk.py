"""Top k of a catalogue in a graph: exclusion of items, the best k, and padding if fewer are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgerec_export.onnx.builder import Graph, Name

CHUNK = 128
"""Number of items of a chunk, whose maximum decides if it is searched."""
SMALL_CATALOGUE = 4096
"""Largest catalogue with one plain TopK, which is measured to be as fast as choosing chunks first."""


class Best(NamedTuple):
    """Values and items of a top k in a graph, both [B, k], best first."""

    values: Name
    items: Name


def tail_slots(n_items: int) -> int:
    """Return the number of slots of -inf after the last item.

    They fill the last chunk. There is at least one, in which the -1 of padding in `exclude` are written.
    """
    return CHUNK - n_items % CHUNK if n_items > SMALL_CATALOGUE else 1


NOTHING: dict[str, float] = {"float32": float("-inf"), "int32": np.iinfo(np.int32).min}
"""The score of excluded items: -inf, or less than any sum of integer products."""


def add_exclusion(g: Graph, scores: Name, exclude: Name, part: range, n_items: int, dtype: str) -> Name:
    """Add the nodes that set the scores of excluded items to `NOTHING`.

        scores [B, len(part) + tail] of the items in `part` of all, exclude [B, E] int64 padded with -1  ->  the same
        numpy: slot = exclude - part.start; scores[b, where(slot in part, slot, len(part))] = NOTHING[dtype]

    ScatterElements works in place in onnxruntime, so the cost follows E and not the catalogue.
    """
    slots = g.op("Sub", exclude, g.constant(part.start)) if part.start else exclude
    absent = g.op("Less", slots, g.constant(0))
    if part.stop < n_items:
        absent = g.op("Or", absent, g.op("GreaterOrEqual", slots, g.constant(len(part))))
    slots = g.op("Where", absent, g.constant(len(part)), slots)
    updates = g.op("Expand", g.constant(NOTHING[dtype], dtype), g.op("Shape", slots))
    return g.op("ScatterElements", scores, slots, updates, axis=1)


def with_tail(g: Graph, pieces: Sequence[Name], n_items: int, dtype: str) -> Name:
    """Join pieces [B, rows of the piece] of `dtype` to [B, n_items + tail]."""
    tail = tail_slots(n_items)
    batch = g.op("Shape", pieces[0], start=0, end=1)
    nothing = g.op("Expand", g.constant(NOTHING[dtype], dtype), g.op("Concat", batch, g.ints(tail), axis=0))
    scores = g.op("Concat", *pieces, nothing, axis=1)
    # Without a known shape, ScatterElements copies its input: 0.2 of 1.7 ms and 4 MB at 1M items (onnxruntime 1.32).
    return g.shaped(scores, dtype, ["B", n_items + tail])


def add_best(g: Graph, scores: Name, exclude: Name, k: Name, part: range, n_items: int, dtype: str) -> Best:
    """Add the nodes that find the best k items of `part` that are not excluded; `NOTHING` if fewer are left.

        scores [B, len(part) + tail], exclude [B, E] int64, k int64 scalar  ->  values, items [B, min(k, len(part))]

    In a large catalogue the k best are in the k chunks with the highest maxima. Searching these is exact, and 4 times
    faster than a TopK over all items (0.18 instead of 0.66 ms at 1M items).
    """
    n = len(part)
    scores = add_exclusion(g, scores, exclude, part, n_items, dtype)
    wanted = g.reshape(g.op("Min", k, g.constant(n)), 1)
    if n <= SMALL_CATALOGUE:
        values, items = g.ops("TopK", scores, wanted, count=2)
    else:
        values, items = _chunked(g, scores, wanted, (n + tail_slots(n)) // CHUNK)
    return Best(values, g.op("Add", items, g.constant(part.start)) if part.start else items)


def add_answer(g: Graph, best: Best, dtype: str) -> Best:
    """Add the int64 items and float32 scores of an answer: item -1 and score -inf if no item is left."""
    values, items = best
    gone = g.op("Equal", values, g.constant(NOTHING[dtype], dtype))
    if dtype != "float32":
        values = g.op("Where", gone, g.constant(NOTHING["float32"], "float32"), g.cast(values, "float32"))
    return Best(values, g.op("Where", gone, g.constant(-1), items))


def _chunked(g: Graph, scores: Name, wanted: Name, n_chunks: int) -> tuple[Name, Name]:
    chunks = g.reshape(scores, -1, n_chunks, CHUNK)
    maxima = g.op("ReduceMax", chunks, g.ints(2), keepdims=0)
    _, best = g.ops("TopK", maxima, g.op("Min", wanted, g.ints(n_chunks)), count=2)
    batch = g.op("Shape", maxima, start=0, end=1)
    first = g.op("Range", g.constant(0), g.op("Squeeze", batch), g.constant(1))
    rows = g.op("Add", best, g.op("Unsqueeze", g.op("Mul", first, g.constant(n_chunks)), g.ints(1)))
    chosen = g.op("Gather", g.reshape(scores, -1, CHUNK), rows)
    values, place = g.ops("TopK", g.op("Flatten", chosen), wanted, count=2)
    # Flatten preserves axis 0: [B, chunks * CHUNK]
    chunk = g.op("GatherElements", best, g.op("Div", place, g.constant(CHUNK)), axis=1)
    inside = g.op("Mod", place, g.constant(CHUNK))
    return values, g.op("Add", g.op("Mul", chunk, g.constant(CHUNK)), inside)

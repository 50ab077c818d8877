"""The recommend graph with an input of the allowed items: what the runtime's allow-lists are measured against.

No bundle ships it: its input has to be given even where every item is allowed.
"""

from __future__ import annotations

from edgerec_export.graph import Graph
from edgerec_export.graphs import Model, joined
from edgerec_export.topk import NOTHING, add_answer, add_best, tail_slots


def allow_graph(model: Model) -> Graph:
    """The best k of the allowed items, for a model with users.

    inputs   user int64 [B]; exclude int64 [B, E] padded with -1; allow int64 [B, A]; k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k]; item -1 and score -inf where fewer are left

    numpy: s = U[user] @ V.T; t = full(-inf); t[b, allow[b]] = s[b, allow[b]]; t[b, exclude[b]] = -inf; then as
    `recommend_graph`
    """
    if model.users is None:
        raise ValueError("made for bundles with users")
    g, n = Graph("allow"), model.n_items
    asked = g.input("user", "int64", ["B"])
    g.depend_on(asked)
    user = model.users.add_rows(g, asked)
    exclude = g.input("exclude", "int64", ["B", "E"])
    allow = g.input("allow", "int64", ["B", "A"])
    k = g.input("k", "int64", [])
    pieces, dtype = model.items.add_scores(g, user), model.items.plan.sums_type
    scores = joined(g, pieces)
    shape = g.op("Concat", g.op("Shape", user.values, start=0, end=1), g.ints(n + tail_slots(n)), axis=0)
    nothing = g.shaped(g.op("Expand", g.constant(NOTHING[dtype], dtype), shape), dtype, ["B", n + tail_slots(n)])
    kept = g.op("ScatterElements", nothing, allow, g.op("GatherElements", scores, allow, axis=1), axis=1)
    kept = g.shaped(kept, dtype, ["B", n + tail_slots(n)])
    best, items = add_answer(g, add_best(g, kept, exclude, k, range(n), n, dtype), dtype)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(model.items.add_scale(g, best, user), "scores", "float32", ["B", "K"])
    return g

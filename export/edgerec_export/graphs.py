"""The graphs of a bundle: the contract's inputs and outputs around the layouts' pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec_export.blocks import Rows, TableInGraph, add_pair_scores, add_quantised
from edgerec_export.graph import Graph, Name, Tensor
from edgerec_export.topk import add_exclusion, add_top_k, tail_slots


@dataclass(frozen=True)
class Model:
    """What the graphs are made of.

    Attributes:
        users: the user table, or None where a user is made from a history.
        weights: (n_items,) float32 history weights in that case.
    """

    items: TableInGraph
    users: TableInGraph | None
    weights: Tensor | None

    @property
    def n_items(self) -> int:
        return self.items.plan.n_rows


def build_graphs(model: Model) -> dict[str, Graph]:
    """Every graph of the bundle by name."""
    return {"recommend": recommend_graph(model), "score": score_graph(model)}


def recommend_graph(model: Model) -> Graph:
    """The best k items of the whole catalogue.

    inputs   user int64 [B], or history int64 [B, H] padded with -1; exclude int64 [B, E] padded with -1;
             k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k]; item -1 and score -inf where fewer are left

    numpy: s = U[user] @ V.T; s[b, exclude[b]] = -inf; items = argsort(-s)[:, :k]
    """
    g = Graph("recommend")
    user, asked = _add_subject(g, model)
    exclude = g.input("exclude", "int64", ["B", "E"])
    k = g.input("k", "int64", [])
    n = model.n_items
    batch = g.op("Shape", user.values, start=0, end=1)
    tail_shape = g.op("Concat", batch, g.ints(tail_slots(n)), axis=0)
    tail = g.op("Expand", g.constant(float("-inf"), "float32"), tail_shape)
    scores = g.op("Concat", *model.items.add_scores(g, user), tail, axis=1)
    # Of an unknown shape, ScatterElements would copy its input: 1M items, 0.2 of 1.7 ms and 4 MB (onnxruntime 1.32).
    scores = g.shaped(scores, "float32", ["B", n + tail_slots(n)])
    if asked is not None:
        exclude = g.op("Concat", exclude, asked, axis=1)
    scores = add_exclusion(g, scores, exclude, n)
    items, best = add_top_k(g, scores, k, n)
    if user.scale is not None:
        best = g.op("Mul", best, user.scale)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(best, "scores", "float32", ["B", "K"])
    return g


def score_graph(model: Model) -> Graph:
    """The scores of given candidates.

    inputs   user int64 [B], or history int64 [B, H] padded with -1; candidates int64 [B, C]
    outputs  scores float32 [B, C]
    """
    g = Graph("score")
    user, _ = _add_subject(g, model)
    candidates = g.input("candidates", "int64", ["B", "C"])
    scores = add_pair_scores(g, user, model.items.add_rows(g, candidates))
    g.output(scores, "scores", "float32", ["B", "C"])
    return g


def _add_subject(g: Graph, model: Model) -> tuple[Rows, Name | None]:
    """The user's vector [B, d], and the history [B, H] that it was made from, if it was."""
    if model.users is not None:
        return model.users.add_rows(g, g.input("user", "int64", ["B"])), None
    history = g.input("history", "int64", ["B", "H"])
    return _add_history_vector(g, model, history), history


def _add_history_vector(g: Graph, model: Model, history: Name) -> Rows:
    """numpy: user[b] = sum over history[b] >= 0 of weight[i] * V[i]."""
    if model.weights is None:
        raise ValueError("a model without users needs history weights")
    present = g.op("GreaterOrEqual", history, g.constant(0))
    rows = g.op("Where", present, history, g.constant(0))
    weight = g.op("Gather", g.table("w", model.weights), rows)
    weight = g.op("Where", present, weight, g.constant(0.0, "float32"))
    vectors = model.items.add_rows(g, rows).as_float(g)
    total = g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", weight, g.ints(1)), vectors), g.ints(1))
    return Rows(total) if model.items.scales is None else add_quantised(g, total)


def placeholder_scales(blocks: int, *, first: int) -> NDArray[np.float32]:
    """Different from each other and from every constant of the graphs: a draft takes as many bytes as the bundle
    at most, since equal constants are stored once."""
    return np.arange(first, first + blocks, dtype=np.float32) + np.float32(0.123)

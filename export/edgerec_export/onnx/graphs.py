"""The graphs of a bundle, whose inputs and outputs do not depend on the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec_export.onnx.bounded_topk import add_bounded_best
from edgerec_export.onnx.builder import Graph, Name, Tensor
from edgerec_export.onnx.decode import DecodedRows
from edgerec_export.onnx.encoders import StoredEncoder, StoredScorer
from edgerec_export.onnx.topk import Best, add_answer, add_best, with_tail
from edgerec_export.values import ONE, ZERO

if TYPE_CHECKING:
    from edgerec_export.layouts import Placed, TablePlan


@dataclass(frozen=True)
class GraphTable:
    """A planned table with its place in the tables file, whose nodes graphs contain."""

    plan: TablePlan
    placed: Placed

    def add_rows(self, g: Graph, rows: Name) -> DecodedRows:
        """Add the nodes that look rows up: [...] int64 -> [..., d]."""
        return self.plan.add_rows(g, self.placed, rows)

    def add_scores(self, g: Graph, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        """Add the nodes that score all rows, or those of some blocks: [B, d] -> pieces [B, rows of the piece]."""
        return self.plan.add_scores(g, self.placed, user, blocks)

    def add_scale(self, g: Graph, sums: Name, user: DecodedRows) -> Name:
        """Add the scales of scores: [B, k] sums  ->  [B, k] float32."""
        if self.plan.has_one_scale and self.placed.scales is not None:
            sums = g.op("Mul", g.cast(sums, "float32"), g.constant(self.placed.scales[0], "float32"))
        return sums if user.scale is None else g.op("Mul", sums, user.scale)


def add_quantised(g: Graph, values: Name) -> DecodedRows:
    """Add the nodes that quantise float rows, each with its own scale, so that answers do not depend on the batch.

    values [..., d] float32  ->  codes [..., d] uint8 around 128, scale [..., 1]
    numpy: scale = max(abs(values).max(-1) / 127, tiny); codes = rint(values / scale) + 128
    """
    largest = g.op("ReduceMax", g.op("Abs", values), g.ints(-1), keepdims=1)
    smallest = g.constant(np.finfo(np.float32).tiny, "float32")
    scale = g.op("Max", g.op("Div", largest, g.constant(127.0, "float32")), smallest)
    steps = g.op("Round", g.op("Div", values, scale))
    return DecodedRows(g.cast(g.op("Add", steps, g.constant(float(ZERO), "float32")), "uint8"), scale)


def add_pair_scores(g: Graph, user: DecodedRows, candidates: DecodedRows) -> Name:
    """Add the nodes that score each user's own candidates.

    user [B, d], candidates [B, C, d]  ->  [B, C] float32
    numpy: (candidates * user[:, None]).sum(-1)
    """
    column = g.op("Unsqueeze", user.values, g.ints(2))
    if user.scale is None or candidates.scale is None:
        return g.op("Squeeze", g.op("MatMul", candidates.values, column), g.ints(2))
    zero = g.constant(ZERO, "uint8")
    products = g.cast(g.op("MatMulInteger", candidates.values, column, zero, zero), "float32")
    scores = g.op("Squeeze", g.op("Mul", products, candidates.scale), g.ints(2))
    return g.op("Mul", scores, user.scale)


@dataclass(frozen=True)
class Model:
    """The tables and constants of a bundle's graphs.

    Attributes:
        items: the item table that is scored.
        lookup: the item table whose rows are looked up; differs from `items` if the bundle has a second copy.
        lookup_is_expensive: True if looking a few rows up costs more than scoring all.
        users: the user table; None if an encoder computes user vectors.
        encoder: the encoder of histories; None with users.
        inverse_norms: (n_items,) float16 inverse norms of item rows, for cosines; None without them.
        top_inverse_norm: the factor of the stored inverse norms.
        encoder_tensors: arrays of the encoder, by section.
        scorer: the scorer of rows; None for inner products.
        scorer_tensors: arrays of the scorer, by section.
        avoid_squares: True if squares of user values may leave the range of float32; bounds then avoid them.
    """

    items: GraphTable
    lookup: GraphTable
    lookup_is_expensive: bool
    users: GraphTable | None
    encoder: StoredEncoder | None
    inverse_norms: Tensor | None
    top_inverse_norm: np.float32 = ONE
    encoder_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    scorer: StoredScorer | None = None
    scorer_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    avoid_squares: bool = False

    @property
    def n_items(self) -> int:
        return self.items.plan.n_rows


def build_graphs(model: Model) -> dict[str, Graph]:
    """Return every graph of the bundle, by name."""
    graphs = {"recommend": recommend_graph(model), "score": score_graph(model)}
    if model.inverse_norms is not None:
        graphs["similar"] = similar_graph(model)
    if model.users is None and model.encoder is not None and model.encoder.in_own_graph:
        graphs["encode"] = encode_graph(model)
    return graphs


def recommend_graph(model: Model) -> Graph:
    """Return the graph `recommend`: the best k items of the catalogue.

    inputs   user int64 [B], or history int64 [B, H] padded with -1, or vector float32 [B, d];
             exclude int64 [B, E] padded with -1; k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k]; item -1 and score -inf if fewer are left

    numpy: s = U[user] @ V.T; s[b, exclude[b]] = -inf; items = argsort(-s)[:, :k]
    """
    g = Graph("recommend")
    user, history = _add_subject(g, model)
    exclude = g.input("exclude", "int64", ["B", "E"])
    k = g.input("k", "int64", [])
    if history is not None:
        exclude = g.op("Concat", exclude, history, axis=1)
    if model.scorer is not None:
        side = model.items
        scores = model.scorer.add_all_scores(g, model.scorer_tensors, user.as_float(g), side.plan, side.placed)
        best, items = _add_ranking(g, [scores], "float32", exclude, k, model.n_items)
    else:
        dtype, bounds = model.items.plan.sums_type, model.items.placed.bounds
        if bounds is None:
            best, items = _add_ranking(g, model.items.add_scores(g, user), dtype, exclude, k, model.n_items)
        else:
            found = add_bounded_best(
                g, model.items, user, exclude, k, bounds.products, dtype, avoid_squares=model.avoid_squares
            )
            best, items = add_answer(g, found, dtype)
        best = model.items.add_scale(g, best, user)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(best, "scores", "float32", ["B", "K"])
    return g


def score_graph(model: Model) -> Graph:
    """Return the graph `score`: the scores of given candidates.

    inputs   user int64 [B], or history int64 [B, H] padded with -1, or vector float32 [B, d];
             candidates int64 [B, C]
    outputs  scores float32 [B, C]
    """
    g = Graph("score")
    user, _ = _add_subject(g, model)
    candidates = g.input("candidates", "int64", ["B", "C"])
    if model.scorer is not None:
        rows = model.lookup.add_rows(g, candidates).as_float(g)
        scores = model.scorer.add_scores(g, model.scorer_tensors, user.as_float(g), rows)
    elif model.lookup_is_expensive:
        sums = g.op("GatherElements", joined(g, model.items.add_scores(g, user)), candidates, axis=1)
        scores = model.items.add_scale(g, sums, user)
    else:
        scores = add_pair_scores(g, user, model.lookup.add_rows(g, candidates))
    g.output(scores, "scores", "float32", ["B", "C"])
    return g


def similar_graph(model: Model) -> Graph:
    """Return the graph `similar`: the k most similar items to an item, without the item.

    inputs   item int64 [B]; k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k] cosines; item -1 and score -inf if fewer are left
    """
    if model.inverse_norms is None:
        raise ValueError("cosines need inverse norms")
    g = Graph("similar")
    item = g.input("item", "int64", ["B"])
    g.depend_on(item)
    k = g.input("k", "int64", [])
    rows = model.lookup.add_rows(g, item)
    inverse = model.inverse_norms
    table = g.table("n", inverse)
    own = g.op("Unsqueeze", g.cast(g.op("GatherElements", table, item, axis=0), "float32"), g.ints(-1))
    itself = g.op("Unsqueeze", item, g.ints(1))

    def cosines(graph: Graph, pieces: list[Name], of: range) -> list[Name]:
        dots = joined(graph, pieces)
        if model.items.plan.sums_type != "float32":
            dots = graph.cast(dots, "float32")
        part = table
        if len(of) < model.n_items:
            part = graph.table(f"n{of.start}", Tensor(inverse.offset + 2 * of.start, inverse.dtype, (len(of),)))
        return [graph.op("Mul", dots, graph.cast(graph.fresh(part), "float32"))]

    bounds = model.items.placed.bounds
    if bounds is None or bounds.cosines is None:
        pieces = cosines(g, model.items.add_scores(g, rows), range(model.n_items))
        best, items = _add_ranking(g, pieces, "float32", itself, k, model.n_items)
    else:
        found = add_bounded_best(g, model.items, rows, itself, k, bounds.cosines, "float32", cosines)
        best, items = add_answer(g, found, "float32")
    best = g.op("Mul", best, g.op("Mul", own, g.constant(model.top_inverse_norm**2, "float32")))
    best = model.items.add_scale(g, best, rows)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(best, "scores", "float32", ["B", "K"])
    return g


def _add_ranking(g: Graph, pieces: list[Name], dtype: str, exclude: Name, k: Name, n_items: int) -> Best:
    """Add the best k of all scores, given in pieces [B, rows of the piece] of `dtype`, without excluded items."""
    scores = with_tail(g, pieces, n_items, dtype)
    return add_answer(g, add_best(g, scores, exclude, k, range(n_items), n_items, dtype), dtype)


def joined(g: Graph, pieces: list[Name]) -> Name:
    """Join the pieces of `add_scores` to [B, n_items]."""
    return g.op("Concat", *pieces, axis=1) if len(pieces) > 1 else pieces[0]


def encode_graph(model: Model) -> Graph:
    """Return the graph `encode`: a user's vector, for encoders that solve for it.

    inputs   history int64 [B, H] padded with -1
    outputs  vector float32 [B, d]; zeros for a history of padding alone
    """
    g = Graph("encode")
    history = g.input("history", "int64", ["B", "H"])
    g.depend_on(history)
    g.output(_add_vector(g, model, history), "vector", "float32", ["B", model.items.plan.d])
    return g


def _add_subject(g: Graph, model: Model) -> tuple[DecodedRows, Name | None]:
    """Add the user vectors [B, d], and return the histories [B, H] that they were computed from; None without them."""
    if model.users is not None:
        user = g.input("user", "int64", ["B"])
        g.depend_on(user)
        return model.users.add_rows(g, user), None
    history, d = None, model.items.plan.d
    if model.encoder is not None and model.encoder.in_own_graph:
        vector = g.input("vector", "float32", ["B", d])
        g.depend_on(vector)
    else:
        history = g.input("history", "int64", ["B", "H"])
        g.depend_on(history)
        vector = _add_vector(g, model, history)
    return add_quantised(g, vector) if model.items.plan.is_integer else DecodedRows(vector), history


def _add_vector(g: Graph, model: Model, history: Name) -> Name:
    """Add the [B, d] float32 vectors of histories [B, H], by the encoder."""
    if model.encoder is None:
        raise ValueError("a model without users needs an encoder")
    present = g.op("GreaterOrEqual", history, g.constant(0))
    rows = g.op("Where", present, history, g.constant(0))
    return model.encoder.add_vector(g, model.encoder_tensors, rows, present, model.lookup.add_rows(g, rows))


def placeholder_scales(blocks: int, *, first: int) -> NDArray[np.float32]:
    """Return scales that differ from each other and from all constants of the graphs.

    Equal constants are stored once, so a draft with these has at least the bytes of the bundle.
    """
    return np.arange(first, first + blocks, dtype=np.float32) + np.float32(0.123)

"""Pieces of scoring that no layout owns: a user quantised in the graph, and scores of chosen candidates."""

from __future__ import annotations

import numpy as np

from edgerec_export.flat import Rows
from edgerec_export.graph import Graph, Name
from edgerec_export.values import ZERO


def add_quantised(g: Graph, values: Name) -> Rows:
    """Quantise float rows in the graph, each with its own scale, so that an answer never depends on the batch.

    values [..., d] float32  ->  codes [..., d] uint8 around 128, scale [..., 1]
    numpy: scale = max(abs(values).max(-1) / 127, tiny); codes = rint(values / scale) + 128
    """
    largest = g.op("ReduceMax", g.op("Abs", values), g.ints(-1), keepdims=1)
    smallest = g.constant(np.finfo(np.float32).tiny, "float32")
    scale = g.op("Max", g.op("Div", largest, g.constant(127.0, "float32")), smallest)
    steps = g.op("Round", g.op("Div", values, scale))
    return Rows(g.cast(g.op("Add", steps, g.constant(float(ZERO), "float32")), "uint8"), scale)


def add_pair_scores(g: Graph, user: Rows, candidates: Rows) -> Name:
    """Score each user's own candidates.

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

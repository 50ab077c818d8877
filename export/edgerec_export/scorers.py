"""Scorers as they ship: their weights as sections of the tables file, and the graph pieces that apply them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgerec.models.scorer import NeuMFScorer
from edgerec_export.graph import Graph, Name, Tensor
from edgerec_export.layouts.base import Placed, Plan
from edgerec_export.layouts.slots import add_by_decoding


class ShippedScorer:
    """A NeuMF scorer: sections 'h' (the weights of the products) and 'h0w', 'h0b', 'h1w', ... (the layers)."""

    def __init__(self, scorer: NeuMFScorer) -> None:
        self._scorer = scorer

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The sections."""
        named = {"h": self._scorer.gmf} if self._scorer.gmf.size else {}
        for number, (weights, biases) in enumerate(self._scorer.layers):
            named |= {f"h{number}w": weights, f"h{number}b": biases}
        return named

    def describe(self) -> dict[str, object]:
        """For the manifest."""
        widths = [weights.shape[0] for weights, _ in self._scorer.layers]
        return {"kind": "neumf", "products": self._scorer.gmf.size, "layers": widths}

    @property
    def widest(self) -> int:
        """Values of its widest hidden layer."""
        return max(int(weights.shape[1]) for weights, _ in self._scorer.layers)

    def add_scores(self, g: Graph, tensors: Mapping[str, Tensor], user: Name, items: Name) -> Name:
        """user [B, d], items [1 or B, n, d] float32  ->  [B, n] float32

        The first layer's products are made apart for users and items, so that nothing of size B n d is ever formed.
        """
        m, layers = self._scorer.gmf.size, self._scorer.layers
        of_users, of_items = _halves(tensors["h0w"])
        half = of_users.shape[0]
        own = g.op("MatMul", _columns(g, user, m, m + half, 1), g.table("h0u", of_users))
        own = g.op("Unsqueeze", g.op("Add", own, self._table(g, tensors, "h0b")), g.ints(1))
        its = g.op("MatMul", _columns(g, items, m, m + half, 2), g.table("h0i", of_items))
        hidden = g.op("Add", its, own)
        for number in range(1, len(layers)):
            weights, biases = (self._table(g, tensors, f"h{number}{kind}") for kind in "wb")
            hidden = g.op("Add", g.op("MatMul", g.op("Relu", hidden), weights), biases)
        if m:
            weighted = g.op("Mul", _columns(g, user, 0, m, 1), self._table(g, tensors, "h"))
            products = g.op("MatMul", _columns(g, items, 0, m, 2), g.op("Unsqueeze", weighted, g.ints(2)))
            hidden = g.op("Add", hidden, products)
        return g.op("Squeeze", hidden, g.ints(2))

    def add_all_scores(self, g: Graph, tensors: Mapping[str, Tensor], user: Name, plan: Plan, placed: Placed) -> Name:
        """Every item's score, some rows at a time: memory stays bounded.  user [B, d]  ->  [B, n_items] float32"""

        def score(body: Graph, rows: Name) -> Name:
            items = plan.add_rows(body, placed, rows).as_float(body)
            return self.add_scores(body, tensors, user, body.op("Unsqueeze", items, body.ints(0)))

        return add_by_decoding(g, plan.n_rows, plan.d, score)

    def _table(self, g: Graph, tensors: Mapping[str, Tensor], name: str) -> Name:
        """An array of the tables file; one value is a constant of the graph. onnxruntime looks at load whether such a
        value changes anything, which 1.18 cannot where it is handed over as a view."""
        values = self.arrays()[name]
        return g.constant(values, "float32") if values.size == 1 else g.table(name, tensors[name])


def _halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the upper and lower rows. A node that cuts them would depend on constants alone: onnxruntime copies what
    such a node makes to the heap at load, and 1.18 cannot where the whole is handed over as a view."""
    rows, columns = weights.shape
    upper = Tensor(weights.offset, weights.dtype, (rows // 2, columns))
    return upper, Tensor(weights.offset + upper.nbytes, weights.dtype, upper.shape)


def _columns(g: Graph, value: Name, start: int, stop: int, axis: int) -> Name:
    return g.op("Slice", value, g.ints(start), g.ints(stop), g.ints(axis))

"""Encoders and scorers of a bundle: arrays in the tables file, and graph nodes that apply them.

An encoder computes a user's vector from a history, inside the ranking graphs or in the graph `encode`. A scorer
computes the score of a user row and an item row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import MOST_POPULAR
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.tables.codes import LARGEST, TINY, byte_top, from_bytes, to_bytes, to_codes
from edgerec_export.onnx.builder import Graph, Name, Tensor
from edgerec_export.onnx.decode import DecodedRows, add_by_decoding, row_numbers
from edgerec_export.values import ZERO, chunks

if TYPE_CHECKING:
    from edgerec_export.layouts import Placed, Sections, TablePlan
    from edgerec_export.pack import PackedTable

POPULAR = "popular_items"
"""The section with the answer to an empty history."""
MOST_POPULAR_1 = 1000
"""Items that bundles of version 1 rank for an empty history."""
ROWS_AT_ONCE = 1 << 16
TOLERANCE = 1e-3
"""Relative error (L2) of a solved vector, for which the number of steps is chosen and which verification allows."""
NEAR_ROOT = 0.02
"""Largest relative difference (Frobenius) from the section 'g' of a new bundle, up to which entries of an older one are
stored again: vectors change as much, far less than by rounding, and a patch is smaller by four bytes for each."""
MOST_STEPS = 64
"""Maximum number of conjugate gradient steps."""
ROUNDINGS = 4
"""Number of float32 roundings of a solved vector: the matrix and the product, in two products with it."""
SUM_ROUNDING = 1e-5
"""Relative error that float32 may add to a sum of a history's rows, of the magnitudes that are summed."""
MOST_ROUNDED = 0.05
"""Largest relative rounding error (L2) of a solved vector; a larger one would coarsen a quantised vector."""


class StoredEncoder(ABC):
    """An encoder of histories in the graphs of a bundle.

    Attributes:
        in_own_graph: True if a graph `encode` computes vectors, which `recommend` and `score` take; False if these
            graphs take histories.
    """

    in_own_graph: bool

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are known before item rows are packed, by section."""

    def later_sections(self) -> Sections:
        """Return the sections that depend on packed item rows."""
        return {}

    def fill(self, items: PackedTable, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Compute the sections that depend on packed item rows."""
        return

    def sections(self) -> list[str]:
        """Return the names of all sections."""
        return [*self.arrays(), *self.later_sections()]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the entry of the manifest."""

    @abstractmethod
    def add_vector(
        self, g: Graph, tensors: Mapping[str, Tensor], history: Name, present: Name, rows: DecodedRows
    ) -> Name:
        """Add the nodes that compute user vectors.

        history [B, H] int64 with 0 for padding, present [B, H] bool, rows [B, H, d]  ->  [B, d] float32
        """

    @abstractmethod
    def vectors(self, history: NDArray[np.int64], items: PackedTable) -> NDArray[np.float64]:
        """Return the (B, d) expected vectors of histories (B, H) padded with -1."""

    def rounding(
        self, history: NDArray[np.int64], found: NDArray[np.float32], items: PackedTable
    ) -> NDArray[np.float64]:
        """Return the (B,) error (L2) that float32 may add to the vectors `found` without changing scores."""
        return np.zeros(len(history))


class StoredLinearEncoder(StoredEncoder):
    """The encoder u = (sum over the history of w[i] * V[i]) / length^power @ M + b; 0 for an empty history.

    It is inside `recommend` and `score`, or in a graph of its own if these take vectors.
    """

    def __init__(
        self,
        encoder: LinearEncoder,
        order: NDArray[np.int64],
        d: int,
        weight_top: np.float32 | None = None,
        *,
        in_bytes: bool = False,
        in_own_graph: bool = False,
    ) -> None:
        """Store the weights in the row order of the bundle, and `d` dimensions; further ones meet only zeros.

        Args:
            weight_top: the top of weights in a byte each (`values.to_bytes`); None for float32.
            in_bytes: store the matrix in codes of int8, with one scale.
            in_own_graph: as the attribute.
        """
        self.in_own_graph = in_own_graph
        self._power = encoder.power
        self._weights = encoder.weights[order].astype(np.float32)
        self._stored_weights: NDArray[Any] = self._weights
        self._weight_top = weight_top
        if weight_top is not None:
            self._stored_weights = to_bytes(self._weights, weight_top)
            self._weights = from_bytes(self._stored_weights, weight_top)
        self._matrix = None if encoder.matrix is None else encoder.matrix[:d, :d].astype(np.float32)
        self._stored_matrix: NDArray[Any] | None = self._matrix
        self._matrix_scale: np.float32 | None = None
        if in_bytes and self._matrix is not None:
            largest = np.abs(self._matrix).max(initial=0)
            self._matrix_scale = np.maximum(np.float32(largest / LARGEST["int8"]), TINY)
            codes = to_codes(self._matrix, self._matrix_scale, "int8")
            self._stored_matrix = (codes + ZERO).astype(np.uint8)
            self._matrix = codes.astype(np.float32) * self._matrix_scale
        self._bias = None if encoder.bias is None else encoder.bias[:d].astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"w": self._stored_weights, "m": self._stored_matrix, "b": self._bias}
        return {name: array for name, array in arrays.items() if array is not None}

    def describe(self) -> dict[str, Any]:
        parts = {"matrix": self._matrix is not None, "bias": self._bias is not None}
        top = {} if self._weight_top is None else {"weight_top": float(self._weight_top)}
        if self._matrix_scale is not None:
            top["matrix_scale"] = float(self._matrix_scale)
        return {"kind": LinearEncoder.kind, "power": self._power, **parts, **top}

    def add_vector(
        self, g: Graph, tensors: Mapping[str, Tensor], history: Name, present: Name, rows: DecodedRows
    ) -> Name:
        weight = g.op("Gather", g.table("w", tensors["w"]), history)
        if self._weight_top is not None:
            weight = row_numbers(g, weight, "uint8", self._weight_top)
        weight = g.op("Where", present, weight, g.constant(0.0, "float32"))
        vectors = rows.as_float(g)
        total = g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", weight, g.ints(1)), vectors), g.ints(1))
        if self._power:
            length = g.op("ReduceSum", g.cast(present, "float32"), g.ints(1), keepdims=1)
            length = g.op("Max", length, g.constant(1.0, "float32"))
            total = g.op("Div", total, g.op("Pow", length, g.constant(self._power, "float32")))
        if self._matrix is not None:
            matrix = g.table("m", tensors["m"])
            if self._matrix_scale is not None:
                scale = g.constant(self._matrix_scale, "float32")
                matrix = g.op("DequantizeLinear", g.fresh(matrix), scale, g.constant(ZERO, "uint8"))
            total = g.op("MatMul", total, matrix)
        if self._bias is not None:
            some = g.op("ReduceMax", g.cast(present, "float32"), g.ints(1), keepdims=1)
            total = g.op("Add", total, g.op("Mul", some, g.table("b", tensors["b"])))
        return total

    def vectors(self, history: NDArray[np.int64], items: PackedTable) -> NDArray[np.float64]:
        present = history >= 0
        weight = np.where(present, self._weights[np.maximum(history, 0)].astype(np.float64), 0)
        total = np.einsum("bh,bhd->bd", weight, items.rows(np.maximum(history, 0)))
        total /= np.maximum(present.sum(1, keepdims=True), 1) ** self._power
        if self._matrix is not None:
            total = total @ self._matrix
        if self._bias is not None:
            total = total + present.any(1, keepdims=True) * self._bias.astype(np.float64)
        solved: NDArray[np.float64] = total
        return solved

    def rounding(
        self, history: NDArray[np.int64], found: NDArray[np.float32], items: PackedTable
    ) -> NDArray[np.float64]:
        """Return the (B,) error (L2) of float32 sums: terms that cancel each other leave theirs."""
        present = history >= 0
        weight = np.where(present, np.abs(self._weights[np.maximum(history, 0)]).astype(np.float64), 0)
        total = np.einsum("bh,bhd->bd", weight, np.abs(items.rows(np.maximum(history, 0))))
        total /= np.maximum(present.sum(1, keepdims=True), 1) ** self._power
        if self._matrix is not None:
            total = total @ np.abs(self._matrix)
        if self._bias is not None:
            total = total + np.abs(self._bias)
        return np.asarray(SUM_ROUNDING * np.linalg.norm(total, axis=1))


class StoredLeastSquaresEncoder(StoredEncoder):
    """(G + reg I + alpha X'X) u = (1 + alpha) X' 1 with G = V'V of the stored rows, solved in the graph `encode`.

    With R = sqrt(alpha) (G + reg I)^-1/2, section 'g', and z = R^-1 u this is (I + R X'X R) z = (1 + alpha) / alpha R
    X' 1, solved by conjugate gradient. The iterates equal those with the preconditioner (G + reg I)^-1, and R takes
    half the bytes. X'X is at most G for a history without repetitions, so the eigenvalues lie in 1..1 + alpha, which
    bounds the number of steps. On ML-1M (64 dimensions, alpha 3, reg 20, G + reg I of condition 530) 7 steps leave a
    relative error of 3e-4 at most, 16 steps without R 2.5e-2.
    """

    in_own_graph = True

    def __init__(
        self, encoder: LeastSquaresEncoder, d: int, previous_root: NDArray[np.floating[Any]] | None = None
    ) -> None:
        self._alpha, self._reg, self._d, self._previous = encoder.alpha, encoder.reg, d, previous_root
        self._steps = steps_for(encoder.alpha)
        self._gram: NDArray[np.floating[Any]] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def later_sections(self) -> Sections:
        return {"g": ("float32", (self._d, self._d))}

    def fill(self, items: PackedTable, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._gram = _gram(items) + self._reg * np.eye(self._d)
        values, vectors = np.linalg.eigh(self._gram)
        root = (vectors * np.sqrt(self._alpha / np.maximum(values, self._reg))) @ vectors.T
        older = self._previous
        if older is not None and older.shape == root.shape:
            root = _within_reach(root.astype(np.float32).astype(np.float64), older.astype(np.float64))
            self._gram = self._alpha * np.linalg.inv(root @ root)
        arrays["g"][...] = root

    def describe(self) -> dict[str, Any]:
        return {"kind": LeastSquaresEncoder.kind, "alpha": self._alpha, "reg": self._reg, "steps": self._steps}

    def add_vector(
        self, g: Graph, tensors: Mapping[str, Tensor], history: Name, present: Name, rows: DecodedRows
    ) -> Name:
        root = g.table("g", tensors["g"])
        mask = g.op("Unsqueeze", g.cast(present, "float32"), g.ints(2))
        x = g.op("Mul", rows.as_float(g), mask)
        transposed = g.op("Transpose", x, perm=[0, 2, 1])
        tiny = g.constant(TINY, "float32")

        def share(part: Name, whole: Name) -> Name:
            # Avoids 0 / 0 for an empty history, and after the residual has reached 0.
            return g.op("Div", part, g.op("Max", whole, tiny))

        def squares(vector: Name) -> Name:
            return g.op("ReduceSumSquare", vector, g.ints(2), keepdims=1)

        left = g.op("MatMul", g.op("ReduceSum", x, g.ints(1), keepdims=1), root)  # [B, 1, d], as all below
        direction, error, solution = left, squares(left), ""
        for step in range(self._steps):
            products = g.op("MatMul", g.op("MatMul", direction, root), transposed)
            image = g.op("Add", direction, g.op("MatMul", g.op("MatMul", products, x), root))
            length = share(error, g.op("ReduceSum", g.op("Mul", direction, image), g.ints(2), keepdims=1))
            moved = g.op("Mul", length, direction)
            solution = g.op("Add", solution, moved) if step else moved
            if step < self._steps - 1:
                left = g.op("Sub", left, g.op("Mul", length, image))
                before, error = error, squares(left)
                direction = g.op("Add", left, g.op("Mul", share(error, before), direction))
        scaled = g.op("Mul", solution, g.constant((1 + self._alpha) / self._alpha, "float32"))
        return g.op("Squeeze", g.op("MatMul", scaled, root), g.ints(1))

    def vectors(self, history: NDArray[np.int64], items: PackedTable) -> NDArray[np.float64]:
        if self._gram is None:
            raise ValueError("the rows are not packed yet")
        x = items.rows(np.maximum(history, 0)).astype(np.float64) * (history >= 0)[..., None]
        left = self._gram + self._alpha * x.transpose(0, 2, 1) @ x
        found: NDArray[np.float64] = np.linalg.solve(left, (1 + self._alpha) * x.sum(1)[..., None])[..., 0]
        return found

    def rounding(
        self, history: NDArray[np.int64], found: NDArray[np.float32], items: PackedTable
    ) -> NDArray[np.float64]:
        """Return the (B,) error (L2) that float32 may add to the vectors `found` without changing scores.

        In directions that no item spans R is sqrt(alpha / reg), and large terms of R R X' 1 cancel there, up to
        rounding. This does not change scores. No error is allowed if the error in the norm of the system exceeds the
        tolerance.
        """
        gram = self._gram
        if gram is None:
            raise ValueError("the rows are not packed yet")
        x = items.rows(np.maximum(history, 0)).astype(np.float64) * (history >= 0)[..., None]
        expected = self.vectors(history, items)

        def squares(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
            of_history = np.square(np.einsum("bhd,bd->bh", x, vectors)).sum(1)
            total: NDArray[np.float64] = (vectors @ gram * vectors).sum(1) + self._alpha * of_history
            return total

        unseen = squares(found - expected) <= TOLERANCE**2 * squares(expected)
        values, vectors = np.linalg.eigh(gram)
        root = np.abs((vectors / np.sqrt(np.maximum(values, self._reg))) @ vectors.T)
        parts = np.linalg.norm(np.abs(x.sum(1)) @ root @ root, axis=1) * (1 + self._alpha)
        allowed = np.minimum(
            ROUNDINGS * np.finfo(np.float32).epsneg * parts, MOST_ROUNDED * np.linalg.norm(expected, axis=1)
        )
        return np.where(unseen, allowed, 0)


def steps_for(alpha: float) -> int:
    """Return the number of conjugate gradient steps for eigenvalues in 1..1 + alpha, at most 64.

    The error in the norm of the matrix is at most 2 ((sqrt(1 + alpha) - 1) / (sqrt(1 + alpha) + 1))^steps: 7 steps for
    alpha 3, 13 for 10, 25 for 40. Verification refuses a bundle whose vectors are not solved.
    """
    root = math.sqrt(1 + alpha)
    return min(MOST_STEPS, max(1, math.ceil(math.log(TOLERANCE / 2) / math.log((root - 1) / (root + 1)))))


def popular_items(counts: NDArray[Any], order: NDArray[np.int64], most: int = MOST_POPULAR) -> NDArray[Any]:
    """Return up to `most` bundle rows of the items with the largest counts, the largest first.

    Ties are broken by source row.

    Args:
        counts: (n_items,) counts by source row.
        order: (n_items,) source row of each bundle row.
    """
    bundle_rows = np.argsort(order)
    best = np.argsort(-counts.astype(np.float64), kind="stable")[:most]
    return bundle_rows[best].astype(np.uint16 if order.size <= 1 << 16 else np.uint32)


def stored_encoder(
    encoder: Encoder,
    order: NDArray[np.int64],
    d: int,
    *,
    compact: bool,
    takes_vectors: bool,
    previous_top: np.float32 | None,
    previous_root: NDArray[np.floating[Any]] | None = None,
) -> StoredEncoder:
    """Return the stored form of an encoder, for a bundle with rows in `order` and `d` dimensions.

    Args:
        compact: store weights in a byte each, if none is negative, and the matrix in int8.
        takes_vectors: give the encoder a graph of its own in any case.
        previous_top: the top of weights of the older bundle that the export follows; None without one.
        previous_root: (d, d) section 'g' of that bundle, which is stored again if it is near; None without one.
    """
    if isinstance(encoder, LinearEncoder):
        largest, top = np.float32(encoder.weights.max(initial=0)), None
        if compact and encoder.weights.min(initial=0) >= 0 and largest > 0:
            top = byte_top(largest, previous_top)
        return StoredLinearEncoder(encoder, order, d, top, in_bytes=compact, in_own_graph=takes_vectors)
    if isinstance(encoder, LeastSquaresEncoder):
        return StoredLeastSquaresEncoder(encoder, d, previous_root)
    raise TypeError(f"no graph is known for an encoder of kind {encoder.kind}")


def _gram(items: PackedTable) -> NDArray[np.float64]:
    total = np.zeros((items.plan.d, items.plan.d))
    for part in chunks(items.plan.n_rows, ROWS_AT_ONCE):
        rows = items.rows(np.arange(part.start, part.stop)).astype(np.float64)
        total += rows.T @ rows
    return total


def _within_reach(root: NDArray[np.float64], older: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the older matrix with as few entries of the new one as bring it within `NEAR_ROOT` of that.

    These are the entries that differ most; both are symmetric, and so is the result.
    """
    change = np.square(root - older)
    change = np.maximum(change, change.T)
    ascending = np.sort(change, axis=None)
    retained = np.count_nonzero(np.cumsum(ascending) <= NEAR_ROOT**2 * np.square(root).sum())
    if retained == ascending.size:
        return older
    return np.where(change >= ascending[retained], root, older)


class StoredScorer:
    """A NeuMF scorer: sections 'h' (the weights of the products) and 'h0w', 'h0b', 'h1w', ... (the layers)."""

    def __init__(self, scorer: NeuMFScorer) -> None:
        self._scorer = scorer

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return its arrays, by section."""
        named = {"h": self._scorer.gmf} if self._scorer.gmf.size else {}
        for number, (weights, biases) in enumerate(self._scorer.layers):
            named |= {f"h{number}w": weights, f"h{number}b": biases}
        return named

    def describe(self) -> dict[str, object]:
        """Return the entry of the manifest."""
        widths = [weights.shape[0] for weights, _ in self._scorer.layers]
        return {"kind": "neumf", "products": self._scorer.gmf.size, "layers": widths}

    @property
    def widest(self) -> int:
        """Number of values of the widest hidden layer."""
        return max(int(weights.shape[1]) for weights, _ in self._scorer.layers)

    def add_scores(self, g: Graph, tensors: Mapping[str, Tensor], user: Name, items: Name) -> Name:
        """Add the scores of items: user [B, d], items [1 or B, n, d] float32  ->  [B, n] float32.

        The first layer is applied to users and items separately, so that no tensor has B n d values.
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

    def add_all_scores(
        self, g: Graph, tensors: Mapping[str, Tensor], user: Name, plan: TablePlan, placed: Placed
    ) -> Name:
        """Add the scores of all items, a few rows at a time: user [B, d]  ->  [B, n_items] float32."""

        def score(body: Graph, rows: Name) -> Name:
            items = plan.add_rows(body, placed, rows).as_float(body)
            return self.add_scores(body, tensors, user, body.op("Unsqueeze", items, body.ints(0)))

        return add_by_decoding(g, plan.n_rows, plan.d, score)

    def _table(self, g: Graph, tensors: Mapping[str, Tensor], name: str) -> Name:
        """Add an array of the tables file; an array of one value becomes a constant of the graph.

        onnxruntime reads single values at load to simplify graphs, and 1.18 fails on those that are views.
        """
        values = self.arrays()[name]
        return g.constant(values, "float32") if values.size == 1 else g.table(name, tensors[name])


def _halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return views of the upper and lower rows.

    A node that splits them would depend on constants alone: onnxruntime would copy its output to the heap at load, and
    1.18 fails if the input is a view.
    """
    rows, columns = weights.shape
    upper = Tensor(weights.offset, weights.dtype, (rows // 2, columns))
    return upper, Tensor(weights.offset + upper.nbytes, weights.dtype, upper.shape)


def _columns(g: Graph, value: Name, start: int, stop: int, axis: int) -> Name:
    return g.op("Slice", value, g.ints(start), g.ints(stop), g.ints(axis))

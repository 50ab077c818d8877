"""ONNX graphs of a bundle: a builder, what decodes tables in a graph, and the graphs made of layouts' pieces.

Layouts make their pieces with `Graph`, `Flat`, `Rows` and the functions that decode. A draft makes its graphs by
`build_graphs` of a `Model`: each `Side` is a planned table at its place. Of layouts this package knows the types alone.
"""

from edgerec_export.onnx.builder import IR_VERSION, OPSET, Graph, Name, Tensor
from edgerec_export.onnx.decode import (
    Flat,
    Rows,
    Slots,
    add_by_decoding,
    add_scattered,
    add_scores_by_decoding,
    centred,
    rows_a_step,
    slots,
)
from edgerec_export.onnx.encoders import POPULAR, TOLERANCE, ShippedEncoder, ShippedScorer, popular_items, shipped
from edgerec_export.onnx.graphs import Model, Side, build_graphs, joined, placeholder_scales

__all__ = [
    "IR_VERSION",
    "OPSET",
    "POPULAR",
    "TOLERANCE",
    "Flat",
    "Graph",
    "Model",
    "Name",
    "Rows",
    "ShippedEncoder",
    "ShippedScorer",
    "Side",
    "Slots",
    "Tensor",
    "add_by_decoding",
    "add_scattered",
    "add_scores_by_decoding",
    "build_graphs",
    "centred",
    "joined",
    "placeholder_scales",
    "popular_items",
    "rows_a_step",
    "shipped",
    "slots",
]

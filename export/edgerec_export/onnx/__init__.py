"""ONNX graphs of a bundle: a graph builder, nodes that decode tables, and the graphs themselves.

Layouts add their nodes with `Graph`, `Flat`, `DecodedRows` and the decoding functions. A draft builds its graphs with
`build_graphs` from a `Model`, in which each `GraphTable` is a planned table at its place. This package imports layouts
for their types only.
"""

from edgerec_export.onnx.builder import IR_VERSION, OPSET, Graph, Name, Tensor
from edgerec_export.onnx.decode import (
    DecodedRows,
    Flat,
    Slots,
    add_by_decoding,
    add_scattered,
    add_scores_by_decoding,
    centred,
    rows_a_step,
    slots,
)
from edgerec_export.onnx.encoders import (
    MOST_POPULAR_1,
    POPULAR,
    TOLERANCE,
    StoredEncoder,
    StoredScorer,
    popular_items,
    stored_encoder,
)
from edgerec_export.onnx.graphs import GraphTable, Model, build_graphs, joined, placeholder_scales

__all__ = [
    "IR_VERSION",
    "MOST_POPULAR_1",
    "OPSET",
    "POPULAR",
    "TOLERANCE",
    "DecodedRows",
    "Flat",
    "Graph",
    "GraphTable",
    "Model",
    "Name",
    "Slots",
    "StoredEncoder",
    "StoredScorer",
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
    "slots",
    "stored_encoder",
]

"""What onnxruntime would make of a graph's tables at load, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx


def of_tables_alone(path: Path) -> list[str]:
    """Nodes whose inputs all follow from tables and constants, and tables of one value.

    onnxruntime reckons such a node at load and keeps what it makes on the heap, and looks whether adding or multiplying
    by a single value changes anything. Both read a table where the file says it lies; 1.18 cannot, where it was handed
    over as a view instead, and refuses the graph.
    """
    graph = onnx.load(path, load_external_data=False).graph
    outside = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    single = [f"table {tensor.name}" for tensor in outside if all(size == 1 for size in tensor.dims)]
    names = {tensor.name for tensor in outside}
    return single + _nodes(graph, {tensor.name: tensor.name in names for tensor in graph.initializer})


def _nodes(graph: onnx.GraphProto, known: Mapping[str, bool]) -> list[str]:
    """Those of a graph and its bodies; `known` tells of each value that is known at load whether a table is in it."""
    known, found = dict(known), []
    for node in graph.node:
        bodies = [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]
        for body in bodies:
            found += _nodes(body, known)
        if not bodies and all(name in known for name in node.input if name):
            of_tables = any(known[name] for name in node.input if name)
            found += [f"{node.op_type} {list(node.input)}"] if of_tables else []
            known |= dict.fromkeys(node.output, of_tables)
    return found

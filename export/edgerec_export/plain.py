"""A dense model as most people export it: the rival that bundles are measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgerec.files import write_bytes
from edgerec_export.graph import IR_VERSION, OPSET


def plain_dense(items: NDArray[np.float32], users: NDArray[np.float32], path: Path, k: int = 20) -> None:
    """Write one ONNX file with both tables inside.

    input    user int64 [B]
    outputs  items int64 [B, k], scores float32 [B, k]

    numpy: s = users[user] @ items.T; items = argsort(-s)[:, :k]

    Args:
        items: (n_items, d) float32.
        users: (n_users, d) float32.

    Raises:
        StorageError: the file system refuses.
    """
    weights: dict[str, NDArray[Any]] = {
        "users": users,
        "items_by_column": np.ascontiguousarray(items.T),
        "k": np.array([k], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["users", "user"], ["vector"]),
        helper.make_node("MatMul", ["vector", "items_by_column"], ["all_scores"]),
        helper.make_node("TopK", ["all_scores", "k"], ["scores", "items"]),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("user", TensorProto.INT64, ["B"])],
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["B", k]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", k]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    write_bytes(path, helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString())

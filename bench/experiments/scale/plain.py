"""A dense ONNX model without compression, the baseline of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgerec.files import storage_failure, write_bytes
from edgerec_export.onnx import IR_VERSION, OPSET

BY_COLUMN = "items_by_column"
LARGEST_FILE = (1 << 31) - (1 << 20)
"""Largest size of a file with the tables inside; protobuf refuses files of 2 GiB."""


def plain_dense(items: NDArray[np.float32], users: NDArray[np.float32], path: Path, k: int = 20) -> int:
    """Write one ONNX file with both tables; tables of 2 GiB and more go to a second file, in ONNX's external format.

    input    user int64 [B]
    outputs  items int64 [B, k], scores float32 [B, k]

    numpy: s = users[user] @ items.T; items = argsort(-s)[:, :k]

    Args:
        items: (n_items, d) float32.
        users: (n_users, d) float32.

    Returns:
        Bytes written.

    Raises:
        StorageError: the file system refuses.
    """
    weights: dict[str, NDArray[Any]] = {"users": users, "k": np.array([k], np.int64)}
    weights_file = path.with_suffix(".bin") if items.nbytes + users.nbytes > LARGEST_FILE else None
    if weights_file is None:
        by_column = numpy_helper.from_array(np.ascontiguousarray(items.T), BY_COLUMN)
    else:
        by_column = _write_weights(items, weights_file)
    nodes = [
        helper.make_node("Gather", ["users", "user"], ["vector"]),
        helper.make_node("MatMul", ["vector", BY_COLUMN], ["all_scores"]),
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
        [by_column, *(numpy_helper.from_array(value, name) for name, value in weights.items())],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    write_bytes(path, model)
    return len(model) + (0 if weights_file is None else items.nbytes)


def _write_weights(items: NDArray[np.float32], path: Path) -> TensorProto:
    """Write the transposed items to `path`, and return their external tensor."""
    tensor = TensorProto(name=BY_COLUMN, data_type=TensorProto.FLOAT, dims=items.T.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", path.name), ("offset", "0"), ("length", str(items.nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    try:
        with path.open("wb") as stream:
            for column in items.T:
                stream.write(np.ascontiguousarray(column).data)
    except OSError as error:
        storage_failure(path, error, "write")
    return tensor

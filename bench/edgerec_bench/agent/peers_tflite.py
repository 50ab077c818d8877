"""A TensorFlow Lite file of two operators, written by LiteRT's own schema: no TensorFlow, no converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3


def write_tflite(values: NDArray[Any], scales: NDArray[np.float32] | None, k: int, path: Path, extra: str) -> None:
    """Write the k best of one query's products with a matrix.

    query float32 [1, d]  ->  FULLY_CONNECTED -> TOPK_V2  ->  rows int32 [1, k]

    Args:
        values: (n_items, d) float32, or int8 with `scales`.
        scales: (n_items,) of int8 rows; LiteRT then rounds the query to int8 too ("dynamic range").
    """
    schema: Any = require("ai_edge_litert.schema_py_generated", extra)
    flatbuffers: Any = require("flatbuffers", extra)
    (n_items, d), builder = values.shape, flatbuffers.Builder(values.nbytes + (1 << 16))
    kinds = schema.TensorType
    model = schema.ModelT()
    model.version, model.description = SCHEMA_VERSION, "the best rows of a product"
    model.buffers = [_buffer(schema, content) for content in (None, values, np.array(k, np.int32))]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor(schema, "query", [1, d], kinds.FLOAT32),
        _tensor(schema, "items", [n_items, d], kinds.FLOAT32 if scales is None else kinds.INT8, 1, scales),
        _tensor(schema, "scores", [1, n_items], kinds.FLOAT32),
        _tensor(schema, "k", [], kinds.INT32, 2),
        _tensor(schema, "best", [1, k], kinds.FLOAT32),
        _tensor(schema, "rows", [1, k], kinds.INT32),
    ]
    product, top = schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.TOPK_V2
    model.operatorCodes = [_code(schema, product, 5 if scales is not None else 1), _code(schema, top, 1)]
    options = schema.BuiltinOptions
    graph.operators = [
        _operator(schema, 0, [0, 1, -1], [2], options.FullyConnectedOptions, schema.FullyConnectedOptionsT()),
        _operator(schema, 1, [2, 3], [4, 5], options.TopKV2Options, schema.TopKV2OptionsT()),
    ]
    graph.inputs, graph.outputs = [0], [5]
    model.subgraphs = [graph]
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    path.write_bytes(builder.Output())


def _buffer(schema: Any, content: NDArray[Any] | None) -> Any:
    buffer = schema.BufferT()
    if content is not None:
        buffer.data = np.frombuffer(content.tobytes(), np.uint8)
    return buffer


def _tensor(
    schema: Any, name: str, shape: list[int], kind: int, buffer: int = 0, scales: NDArray[np.float32] | None = None
) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    if scales is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = scales
        tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        tensor.quantization.quantizedDimension = 0
    return tensor


def _code(schema: Any, operator: int, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = version
    return code


def _operator(schema: Any, code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator

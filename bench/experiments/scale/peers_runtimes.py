"""Other model runtimes: OpenVINO, LiteRT and ExecuTorch, each with a model that multiplies and takes the top k."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require

EXTRA = "peers"
EXECUTORCH_EXTRA = "peers-executorch"
LARGEST_INT8 = 127

Matrix = NDArray[np.float32]
SearchFunction = Callable[[Matrix], Any]


def rounded(items: Matrix) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise symmetrically with one scale per row: (n_items, d) int8 values and (n_items,) float32 scales."""
    scales = np.maximum(np.abs(items).max(axis=1), np.finfo(np.float32).tiny) / LARGEST_INT8
    return np.rint(items / scales[:, None]).astype(np.int8), scales.astype(np.float32)


class OpenVino:
    """The CPU plugin of OpenVINO; int8 means compressed weights, as written by NNCF's `compress_weights`."""

    package = "openvino"

    def __init__(self, precision: str) -> None:
        self._precision = precision
        self._openvino: Any = require("openvino", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write the model: a product, with int8 weights if the precision is int8, and the top k."""
        ops: Any = require("openvino.opset15", EXTRA)
        query = ops.parameter([1, items.shape[1]], np.float32)
        if self._precision == "int8":
            values, scales = rounded(items)
            weights = ops.multiply(ops.convert(ops.constant(values), "f32"), ops.constant(scales[:, None]))
        else:
            weights = ops.constant(np.ascontiguousarray(items))
        scores = ops.matmul(query, weights, False, True)
        best = ops.topk(scores, np.array(k, np.int64), 1, "max", "value", index_element_type="i64")
        model = self._openvino.Model([best.output(1)], [query])
        self._openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Compile the model for the CPU, tuned for latency; return a search."""
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if self._precision == "fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"  # otherwise bfloat16 on processors that support it
        request = self._openvino.Core().compile_model(folder / "model.xml", "CPU", config).create_infer_request()
        return lambda query: request.infer([query[None]])[0][0]


class LiteRt:
    """LiteRT (formerly TensorFlow Lite) with its XNNPACK delegate; int8 is its "dynamic range" quantisation."""

    package = "ai-edge-litert"

    def __init__(self, precision: str) -> None:
        self._precision = precision
        self._interpreter: Any = require("ai_edge_litert.interpreter", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write the model in LiteRT's schema."""
        values, scales = rounded(items) if self._precision == "int8" else (items, None)
        write_tflite(values, scales, k, folder / "model.tflite", EXTRA)
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Open the interpreter with `threads` threads; return a search."""
        interpreter = self._interpreter.Interpreter(str(folder / "model.tflite"), num_threads=threads)
        interpreter.allocate_tensors()
        source, rows = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def search(query: Matrix) -> Any:
            interpreter.set_tensor(source, query[None])
            interpreter.invoke()
            return interpreter.get_tensor(rows)[0]

        return search


class ExecuTorch:
    """ExecuTorch with XNNPACK, through its Python bindings; they need torch, which counts as imported memory."""

    package = "executorch"

    def __init__(self) -> None:
        self._torch: Any = require("torch", EXECUTORCH_EXTRA)
        self._runtime: Any = require("executorch.runtime", EXECUTORCH_EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Export the module and lower its product to XNNPACK."""
        torch = self._torch
        exir: Any = require("executorch.exir", EXECUTORCH_EXTRA)
        xnnpack: Any = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", EXECUTORCH_EXTRA)
        weights = torch.from_numpy(np.array(items))

        class Best(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.product = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
                self.product.weight.data = weights

            def forward(self, query: Any) -> Any:
                return torch.topk(self.product(query), k).indices

        exported = torch.export.export(Best().eval(), (torch.zeros(1, weights.shape[1]),))
        lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        (folder / "model.pte").write_bytes(lowered.to_executorch().buffer)
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Load the program, with the process pinned to `threads` cores; return a search."""
        if hasattr(os, "sched_setaffinity"):  # its pool has no setting: it starts one thread per usable core
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        method = self._runtime.Runtime.get().load_program(folder / "model.pte").load_method("forward")
        return lambda query: method.execute([self._torch.from_numpy(query[None])])[0][0]


IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3


def write_tflite(values: NDArray[Any], scales: NDArray[np.float32] | None, k: int, path: Path, extra: str) -> None:
    """Write a model that returns the rows of the k largest products of a query with a matrix.

    query float32 [1, d]  ->  FULLY_CONNECTED -> TOPK_V2  ->  rows int32 [1, k]

    Args:
        values: (n_items, d) float32, or int8 with `scales`.
        scales: (n_items,) scales of int8 rows. LiteRT then quantises the query to int8 too ("dynamic range").
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

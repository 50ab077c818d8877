"""Hostile ONNX graphs: a bundle's own with an addition that should cost its reader memory, time or the process."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST = -(2**63)
WAYS = (
    *(
        "divide",
        "divide late",
        "modulo",
        "by zero",
        "expand",
        "range",
        "fill",
        "tile",
        "pad",
        "loop",
        "gather",
        "take",
        "scatter",
    ),
    *(
        "slice",
        "top k",
        "double",
        "reshape",
        "shift",
        "nested",
        "split",
        "product",
        "scan",
        "deep name",
        "huge shape",
        "dtype",
        "matmul",
        "sum along",
    ),
    *("replace operator", "edit constant", "edit attribute", "drop node", "swap inputs", "opset", "function", "domain"),
)


def whole(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def hostile(content: bytes, way: str, rng: np.random.Generator) -> bytes:
    """Return a graph that is changed in one of `WAYS`."""
    model = onnx.load_model_from_string(content)
    graph = model.graph
    large = int(2 ** rng.uniform(20, 62))
    made = _additions(way, large, rng, graph)
    if made is not None:
        constants, nodes = made
        _attach(graph, constants, nodes)
    elif way == "deep name":
        graph.node[0].name = "n" * 300_000
    elif way == "huge shape":
        for value in [*graph.input, *graph.output]:
            for axis in value.type.tensor_type.shape.dim:
                axis.dim_value = large
    elif way == "dtype":
        graph.input[0].type.tensor_type.elem_type = int(rng.integers(0, 40))
    elif way == "opset":
        model.opset_import[0].version = int(rng.choice([-1, 0, 1, 7, 99, 2**40]))
    elif way == "domain":
        graph.node[int(rng.integers(len(graph.node)))].domain = str(
            rng.choice(["com.microsoft", "ai.onnx.ml", "x" * 9999])
        )
    elif way == "function":
        model.functions.add(name="F", domain="f")
    else:
        _edit(graph, way, large, rng)
    return bytes(model.SerializeToString())


def _attach(graph: Any, constants: list[Any], nodes: list[Any]) -> None:
    """Put nodes that make `hostile_out` in front, and add it times zero to the last float output."""
    graph.initializer.extend(constants)
    outputs = [value for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    name = outputs[-1].name
    for node in graph.node:
        node.output[:] = ["hostile_right" if one == name else one for one in node.output]
    own = list(graph.node)
    graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "hostile_zero"))
    ends = [
        helper.make_node("Cast", ["hostile_out"], ["hostile_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["hostile_float"], ["hostile_one"], keepdims=0),
        helper.make_node("Mul", ["hostile_one", "hostile_zero"], ["hostile_nothing"]),
        helper.make_node("Add", ["hostile_right", "hostile_nothing"], [name]),
    ]
    del graph.node[:]
    graph.node.extend([*nodes, *own, *ends])


def _additions(way: str, large: int, rng: np.random.Generator, graph: Any) -> tuple[list[Any], list[Any]] | None:
    node, out = helper.make_node, ["hostile_out"]
    small = int(rng.integers(1, 2**20))
    kinds: dict[str, tuple[list[Any], list[Any]]] = {
        "divide": ([whole("a", LEAST), whole("b", -1)], [node("Div", ["a", "b"], out)]),
        "modulo": ([whole("a", LEAST), whole("b", -1)], [node("Mod", ["a", "b"], out)]),
        "by zero": ([whole("a", small), whole("b", 0)], [node(str(rng.choice(["Div", "Mod"])), ["a", "b"], out)]),
        "expand": ([whole("a", 1), whole("b", large)], [node("Expand", ["a", "b"], out)]),
        "range": (
            [
                numpy_helper.from_array(np.array(value, np.int64), name)
                for name, value in (("a", 0), ("b", large), ("c", 1))
            ],
            [node("Range", ["a", "b", "c"], out)],
        ),
        "fill": ([whole("b", large)], [node("ConstantOfShape", ["b"], out)]),
        "tile": ([whole("a", 1), whole("b", large)], [node("Tile", ["a", "b"], out)]),
        "pad": ([whole("a", 1), whole("b", int(rng.choice([0, -large])), large)], [node("Pad", ["a", "b"], out)]),
        "gather": ([whole("a", 1, 2), whole("b", int(rng.choice([large, -large])))], [node("Gather", ["a", "b"], out)]),
        "take": ([whole("a", 1, 2), whole("b", large)], [node("GatherElements", ["a", "b"], out, axis=0)]),
        "scatter": (
            [whole("a", 1, 2), whole("b", large), whole("c", 1)],
            [node("ScatterElements", ["a", "b", "c"], out, axis=0)],
        ),
        "slice": ([whole("a", 1, 2), whole("b", -large), whole("c", large)], [node("Slice", ["a", "b", "c"], out)]),
        "top k": ([whole("a", 1, 2), whole("b", large)], [node("TopK", ["a", "b"], ["hostile_out", "hostile_at"])]),
        "reshape": ([whole("a", 1, 2), whole("b", large, -1)], [node("Reshape", ["a", "b"], out)]),
        "split": (
            [whole("a", 1, 2), whole("b", large, -large)],
            [node("Split", ["a", "b"], ["hostile_out", "hostile_rest"])],
        ),
        "product": (
            [whole("a", 1), whole("b", small), whole("c", small, 1), whole("d", 1, small)],
            [node("Expand", ["a", "c"], ["e"]), node("Expand", ["a", "d"], ["f"]), node("Mul", ["e", "f"], out)],
        ),
    }
    kinds["matmul"] = (
        [numpy_helper.from_array(np.ones(1, np.float32), "a"), whole("c", small, 1), whole("d", 1, small)],
        [node("Expand", ["a", "c"], ["e"]), node("Expand", ["a", "d"], ["f"]), node("MatMul", ["e", "f"], out)],
    )
    kinds["sum along"] = ([whole("a", 1, 2), whole("b", large)], [node("CumSum", ["a", "b"], out)])
    if way in kinds:
        return kinds[way]
    if way == "divide late":
        last = graph.input[-1].name  # a divisor that is -1, and known only when the graph runs
        nodes = [node("Sub", [last, last], ["z"]), node("Sub", ["z", "o"], ["m"]), node("Div", ["a", "m"], out)]
        return [whole("a", LEAST), whole("o", 1)], nodes
    if way == "double":
        times = int(rng.integers(20, 45))
        nodes = [node("Concat", [f"x{n}", f"x{n}"], [f"x{n + 1}"], axis=0) for n in range(times)]
        return [whole("x0", 1)], [*nodes, node("Identity", [f"x{times}"], out)]
    if way == "shift":
        constants = [
            numpy_helper.from_array(np.array([value], np.uint32), name) for name, value in (("a", 1), ("b", 255))
        ]
        return constants, [node("BitShift", ["a", "b"], out, direction="LEFT")]
    if way in ("loop", "scan", "nested"):
        return _bodies(way, large, rng)
    return None


def _bodies(way: str, large: int, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    node, boolean = helper.make_node, TensorProto.BOOL
    if way == "nested":
        body = helper.make_graph(
            [node("Identity", ["a"], ["y0"])], "g", [], [helper.make_tensor_value_info("y0", TensorProto.INT64, [1])]
        )
        for depth in range(1, int(rng.integers(2, 20))):
            inner = node("If", ["t"], [f"y{depth}"], then_branch=body, else_branch=body if depth < 6 else _leaf(depth))
            info = helper.make_tensor_value_info(f"y{depth}", TensorProto.INT64, [1])
            body = helper.make_graph([inner], "g", [], [info])
        truth = numpy_helper.from_array(np.array(True), "t")
        return [whole("a", 1), truth], [node("If", ["t"], ["hostile_out"], then_branch=body, else_branch=_leaf(0))]
    value = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in ("v", "w", "s")]
    if way == "scan":
        body = helper.make_graph([node("Identity", ["v"], ["w"])], "g", value[:1], value[1:2])
        nodes = [
            node("Expand", ["a", "b"], ["many"]),
            node("Scan", ["many"], ["hostile_out"], body=body, num_scan_inputs=1),
        ]
        return [whole("a", 1), whole("b", min(large, 2**33), 1)], nodes
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go_on, done = (helper.make_tensor_value_info(name, boolean, []) for name in ("c", "d"))
    steps = [node("Identity", ["c"], ["d"]), node("Identity", ["v"], ["w"]), node("Identity", ["v"], ["s"])]
    body = helper.make_graph(steps, "g", [count, go_on, value[0]], [done, value[1], value[2]])
    times = numpy_helper.from_array(np.array(large, np.int64), "n")
    truth = numpy_helper.from_array(np.array(True), "t")
    return [whole("a", 1), times, truth], [node("Loop", ["n", "t", "a"], ["hostile_end", "hostile_out"], body=body)]


def _leaf(depth: int) -> Any:
    info = helper.make_tensor_value_info(f"l{depth}", TensorProto.INT64, [1])
    return helper.make_graph([helper.make_node("Identity", ["a"], [f"l{depth}"])], "g", [], [info])


def _edit(graph: Any, way: str, large: int, rng: np.random.Generator) -> None:
    node = graph.node[int(rng.integers(len(graph.node)))]
    if way == "replace operator":
        node.op_type = str(rng.choice([one.op_type for one in graph.node] + ["Div", "Mod", "Range", "Expand", "Loop"]))
    elif way == "drop node":
        graph.node.remove(node)
    elif way == "swap inputs":
        node.input[:] = node.input[::-1] if rng.random() < 0.5 else [str(rng.choice(graph.node[0].input or [""]))] * 3
    elif way == "edit attribute" and node.attribute:
        attribute = node.attribute[int(rng.integers(len(node.attribute)))]
        attribute.i = int(rng.choice([-1, 0, 1, 5, large, -large]))
    else:
        own = [
            one
            for one in graph.initializer
            if one.data_location != TensorProto.EXTERNAL and one.data_type == TensorProto.INT64
        ]
        if own:
            chosen = own[int(rng.integers(len(own)))]
            values = numpy_helper.to_array(chosen).copy()
            if values.size:
                values.flat[int(rng.integers(values.size))] = int(rng.choice([LEAST, -1, 0, large, -large, 2**31]))
            chosen.CopyFrom(numpy_helper.from_array(values, chosen.name))

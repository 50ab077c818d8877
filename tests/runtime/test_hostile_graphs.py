"""Graphs from anywhere: what they may not do is found before onnxruntime sees them, or fails and harms nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgerec.errors import BundleError
from edgerec.runtime import Recommender
from edgerec.runtime import bundle as bundle_module
from edgerec.runtime.graph_check import graph_fault
from edgerec.runtime.manifest import OPERATORS, read_manifest
from tests.loops import REFUSED, TAKEN, loops
from tests.runtime.conftest import edited
from tests.vectors.make import FOLDER as VECTORS

Change = Callable[[onnx.ModelProto], None]


def with_graph(bundle: Path, content: bytes, name: str = "recommend") -> Path:
    """Another graph in the bundle, whole by the manifest's account."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    file = f"{name}-{digest[:12]}.onnx"
    manifest["graphs"][name] |= {"file": file, "bytes": len(content), "sha256": digest}
    (bundle / file).write_bytes(content)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def graph_of(bundle: Path, name: str = "recommend") -> onnx.ModelProto:
    path = bundle / read_manifest(bundle).graphs[name].file.name
    return onnx.load(path, load_external_data=False)


def external(model: onnx.ModelProto) -> TensorProto:
    return next(one for one in model.graph.initializer if one.external_data)


def placed(key: str, value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for entry in external(model).external_data:
            if entry.key == key:
                entry.value = value

    return change


def with_node(node: onnx.NodeProto) -> Change:
    return lambda model: model.graph.node.append(node)


def looping(count: int | None) -> Change:
    """A loop of so many rounds, or of as many as an input says."""

    def change(model: onnx.ModelProto) -> None:
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"])],
            "body",
            [helper.make_tensor_value_info("n", 7, []), helper.make_tensor_value_info("c", 9, [])],
            [helper.make_tensor_value_info("d", 9, [])],
        )
        if count is not None:
            model.graph.initializer.append(numpy_helper.from_array(np.array(count), "rounds"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
        trips = "k" if count is None else "rounds"
        model.graph.node.append(helper.make_node("Loop", [trips, "go"], [], body=body))

    return change


def shadowed(model: onnx.ModelProto) -> None:
    """The name of a loop's constant count is given to something else inside a branch."""
    looping(3)(model)
    other = helper.make_graph(
        [helper.make_node("Identity", ["k"], ["rounds"])], "o", [], [helper.make_tensor_value_info("rounds", 7, [])]
    )
    model.graph.node.append(helper.make_node("If", ["go"], ["x"], then_branch=other, else_branch=other))


def nested(levels: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        graph = helper.make_graph([], "g", [], [])
        for _ in range(levels):
            graph = helper.make_graph([helper.make_node("If", ["k"], [], then_branch=graph)], "g", [], [])
        model.graph.node.extend(graph.node)

    return change


def loops_inside(kinds: tuple[str, ...]) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(3), "rounds"))
        model.graph.node.append(loops(kinds, "rounds", "k"))

    return change


def tensor_of(**fields: Any) -> Change:
    return lambda model: model.graph.initializer.append(TensorProto(name="extra", **fields))


def dividing(operator: str, by: int | None, *, cast: bool = False) -> Change:
    """Whole numbers divided by a constant, or by what a node makes or an input is."""

    def change(model: onnx.ModelProto) -> None:
        initializers = {"least": -(1 << 63), "by": -1 if by is None else by}
        for name, value in initializers.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        divisor = "by" if by is not None else "made" if cast else "k"
        # A second 'to' would have readers differ in which one they believe.
        made = helper.make_node("Cast", ["by"], ["made"], to=TensorProto.FLOAT)
        made.attribute.append(helper.make_attribute("to", TensorProto.INT64))
        model.graph.node.extend([made] * cast)
        model.graph.node.append(helper.make_node(operator, ["least", divisor], ["divided"]))

    return change


HOSTILE: dict[str, tuple[Change, str]] = {
    "an absolute path": (placed("location", "/etc/passwd"), "lies elsewhere"),
    "a path upwards": (placed("location", "../tables.bin"), "lies elsewhere"),
    "another file of the bundle": (placed("location", "manifest.json"), "lies elsewhere"),
    "another offset": (placed("offset", "64"), "lies elsewhere"),
    "another length": (placed("length", "999999999999"), "lies elsewhere"),
    "an offset below 0": (placed("offset", "-64"), "lies elsewhere"),
    "a place told twice": (
        lambda model: external(model).external_data.add(key="location", value="/etc/passwd"),
        "lies elsewhere",
    ),
    "a checksum beside the place": (lambda model: external(model).external_data.add(key="checksum"), "lies elsewhere"),
    "another shape": (lambda model: external(model).dims.append(1), "lies elsewhere"),
    "another type": (lambda model: setattr(external(model), "data_type", TensorProto.INT32), "lies elsewhere"),
    "a table that the manifest does not name": (
        lambda model: setattr(external(model), "name", "mine"),
        "lies elsewhere",
    ),
    "an operator of another domain": (
        with_node(helper.make_node("MatMulNBits", ["k"], ["x"], domain="com.microsoft")),
        "field 7 of a node",
    ),
    "an operator that no bundle has": (with_node(helper.make_node("RandomNormal", [], ["x"])), "RandomNormal"),
    "an operator set of another domain": (
        lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3)),
        "ai.onnx.ml",
    ),
    "a function": (
        lambda model: model.functions.append(helper.make_function("local", "f", [], [], [], [])),
        "field 25 of a model",
    ),
    "training": (lambda model: model.training_info.add(), "field 20 of a model"),
    "a sparse tensor": (lambda model: model.graph.sparse_initializer.add(), "field 15 of a graph"),
    "a tensor in an attribute": (
        with_node(helper.make_node("Shape", ["k"], ["x"], value=numpy_helper.from_array(np.zeros(2)))),
        "field 5 of a attribute",
    ),
    "a tensor that is larger than its bytes": (
        tensor_of(data_type=1, dims=[1 << 40], raw_data=b"1234"),
        "4 bytes where 4398046511104 are promised",
    ),
    "a tensor of a shape below 0": (tensor_of(data_type=1, dims=[-1], raw_data=b""), "type or shape"),
    "a tensor of text": (tensor_of(data_type=8, dims=[1], raw_data=b"x"), "type or shape"),
    "two tensors of one name": (
        lambda model: model.graph.initializer.append(model.graph.initializer[0]),
        "two of its tensors|lies elsewhere",
    ),
    "a name that no bundle has": (with_node(helper.make_node("Shape", ["k"], ["é"])), "a name"),
    "a loop without an end": (looping(None), "loop without a known end"),
    "a loop of a year": (looping(1 << 62), "loop without a known end"),
    "a loop of less than nothing": (looping(-1), "loop without a known end"),
    "a loop whose count is shadowed": (shadowed, "loop without a known end"),
    **{" in ".join(kinds[::-1]): (loops_inside(kinds), "a loop inside a loop") for kinds in REFUSED},
    "graphs inside graphs": (nested(20), "nested too deeply"),
    **{
        f"{operator} by {by}": (dividing(operator, by), "divides whole numbers")
        for operator in ("Div", "Mod")
        for by in (0, -1, None)
    },
    "Div by what two types are told of": (dividing("Div", None, cast=True), "divides whole numbers"),
    "messages without number": (
        lambda model: model.graph.node.extend([onnx.NodeProto()] * 70_000),
        "more than 65536 messages",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_before_onnxruntime_sees_it(
    bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("onnxruntime was asked")

    monkeypatch.setattr(bundle_module, "onnxruntime", never)
    change, said = HOSTILE[name]
    model = graph_of(bundle, "similar")
    change(model)
    with_graph(bundle, model.SerializeToString(), "similar")
    with pytest.raises(BundleError, match=said) as refusal:
        Recommender.load(bundle)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kinds", TAKEN)
def test_a_loop_may_scan(bundle: Path, kinds: tuple[str, ...]) -> None:
    manifest, model = read_manifest(bundle), graph_of(bundle, "similar")
    loops_inside(kinds)(model)
    graph = manifest.graphs["similar"]
    content = model.SerializeToString()
    assert graph_fault(content, manifest.tables.name, graph.tensors, manifest.items.rows) is None


@pytest.mark.parametrize("operator", ["Div", "Mod"])
def test_whole_numbers_are_divided_by_other_constants(bundle: Path, operator: str) -> None:
    manifest, model = read_manifest(bundle), graph_of(bundle, "similar")
    dividing(operator, 128)(model)
    graph = manifest.graphs["similar"]
    assert graph_fault(model.SerializeToString(), manifest.tables.name, graph.tensors, manifest.items.rows) is None


LOADED = (
    "import sys; from edgerec import Recommender; from edgerec.runtime.memory import memory_kib\n"
    "Recommender.load(sys.argv[1])._current.bundle.session('similar'); print(memory_kib()['VmHWM'])"
)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read in /proc")
def test_constants_are_not_made_larger_when_a_graph_is_opened(bundle: Path) -> None:
    """A graph of a few KB would take what it likes, 400 MB here, before any limit of its arena holds."""
    model = graph_of(bundle, "similar")
    model.graph.initializer.append(numpy_helper.from_array(np.array([50_000_000]), "many"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "nothing"))
    for node in model.graph.node:
        node.input[:] = ["number" if name == "k" else name for name in node.input]
    made = [
        helper.make_node("Expand", ["nothing", "many"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0),
        helper.make_node("Add", ["k", "largest"], ["number"]),
    ]
    for place, node in enumerate(made):
        model.graph.node.insert(place, node)
    with_graph(bundle, model.SerializeToString(), "similar")
    done = subprocess.run([sys.executable, "-c", LOADED, str(bundle)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250_000


def test_what_the_exporter_writes_is_taken() -> None:
    """Of every layout, precision and subject: each operator that is allowed has a use, and Pad and Relu a reason."""
    used = set()
    for folder in sorted((VECTORS / "bundles").iterdir()):
        manifest = read_manifest(folder)
        for graph in manifest.graphs.values():
            content = (folder / graph.file.name).read_bytes()
            assert graph_fault(content, manifest.tables.name, graph.tensors, manifest.items.rows) is None
            used |= operators(onnx.load_from_string(content).graph)
    assert used <= OPERATORS
    assert OPERATORS - used <= {"Pad", "Relu"}  # NCF's layers; chunks of bundles of the first days


def operators(graph: onnx.GraphProto) -> set[str]:
    found = {node.op_type for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= operators(attribute.g)
    return found


def test_a_graph_that_is_cut_anywhere_is_refused(folder: Path) -> None:
    manifest = read_manifest(folder)
    graph = manifest.graphs["recommend"]
    content = (folder / graph.file.name).read_bytes()
    for end in range(0, len(content), 7):
        assert graph_fault(content[:end], manifest.tables.name, graph.tensors, 500) is not None


def test_graphs_that_changed_places_are_refused(bundle: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        graphs = manifest["graphs"]
        graphs["recommend"], graphs["similar"] = graphs["similar"], graphs["recommend"]

    with pytest.raises(BundleError, match=r"takes and gives .* where .* is promised"):
        Recommender.load(edited(bundle, swap))


def test_a_graph_that_would_take_all_memory_fails_and_the_process_goes_on(bundle: Path) -> None:
    model = graph_of(bundle, "similar")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 45]), "many"))
    first = model.graph.node[0]
    model.graph.node.insert(0, helper.make_node("Expand", ["k", "many"], ["large"]))
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0))
    for node in model.graph.node[2:]:
        for number, name in enumerate(node.input):
            node.input[number] = "largest" if name == "k" else name
    assert first in model.graph.node
    with_graph(bundle, model.SerializeToString(), "similar")
    recommender = Recommender.load(bundle)
    with pytest.raises(BundleError, match="'similar' graph"):
        recommender.similar(7, 3)
    assert len(recommender.recommend(5, 3)) == 3


def test_answers_that_are_not_in_the_bundle_are_refused(bundle: Path) -> None:
    model = graph_of(bundle)
    (last,) = [node for node in model.graph.node if "items" in node.output]
    last.output[list(last.output).index("items")] = "below"
    model.graph.initializer.append(numpy_helper.from_array(np.array(10**6), "more"))
    model.graph.node.append(helper.make_node("Add", ["below", "more"], ["items"]))
    with_graph(bundle, model.SerializeToString())
    with pytest.raises(BundleError, match="answers what is not in the bundle"):
        Recommender.load(bundle).recommend(5, 3)

"""What the tests of browsers and Node share: their parts, and the test vectors as questions in bundle rows."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import onnx
import pytest

from edgerec.errors import BenchError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable
from edgerec_bench import Result, Settings, bench_request
from edgerec_devices import Device
from edgerec_devices.protocol import silent
from edgerec_devices.web import files as web_files
from edgerec_devices.web.files import Package
from edgerec_export import ExportRequest, Source, export, export_request, from_arrays
from edgerec_export.patch import diff
from tests.devices.android.parts import kept
from tests.loops import REFUSED, loops
from tests.patches import Kind, bundles
from tests.vectors.check import FOLDER, ranking_failure, values_failure

BUNDLES = FOLDER / "bundles"
PATCHES = {
    "mixed int8": Kind(ExportRequest(layout="mixed", precision="int8", verify=False)),
    "dense int4": Kind(ExportRequest(layout="dense", precision="int4", verify=False), "linear", "str"),
    "csr fp16": Kind(ExportRequest(layout="csr", precision="fp16", verify=False), "ials", "str", titles=True),
    "ell fp32": Kind(ExportRequest(layout="ell", precision="fp32", verify=False, titles=True), "linear", titles=True),
    "csc int8": Kind(ExportRequest(layout="csc", precision="int8", verify=False), "users", "str"),
    "bitmask int4": Kind(ExportRequest(layout="bitmask", precision="int4", verify=False), "ials"),
    "other scales": Kind(ExportRequest(layout="mixed", precision="int4", verify=False), "linear", like=False),
}
"""Of what patches are made, for whoever applies them: every layout, every precision, both kinds of ids."""
NATIVE = Package(
    *("onnxruntime-node", "1.30.0"),
    "sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==",
)
"""The oldest that the npm package takes. Not among its own packages: it brings 113 MB for all systems."""
PROCESSORS = {"x86_64": "x64", "aarch64": "arm64"}
"""Those of Linux that it is built for, as Node calls them."""
QUICK = {"calls": 5, "seconds": 0, "k": 10, "exclude": 5, "history": 5, "candidates": [20], "threads": 1, "seed": 0}


def need_programs(*programs: str) -> None:
    """CI installs everything: there, a test that cannot run has failed."""
    if missing := [name for name in programs if shutil.which(name) is None]:
        lacking(f"there is no {' and no '.join(missing)} on this machine: apt install chromium nodejs npm")


def need(*programs: str) -> None:
    """Programs, and onnxruntime-web."""
    need_programs("npm", *programs)
    try:
        web_files.set_up(silent)
    except BenchError as error:
        lacking(str(error))


def native() -> Path:
    """node_modules with onnxruntime-node for this machine; fetched once for all runs. None of its scripts runs: the one
    of its installation looks for CUDA."""
    need_programs("npm", "node")
    if platform.system() != "Linux" or platform.machine() not in PROCESSORS:
        lacking(f"onnxruntime-node is not tested on {platform.system()} {platform.machine()}")
    return kept(f"{NATIVE.name}-{NATIVE.version}", _fetch_native) / "node_modules"


def _fetch_native(target: Path) -> None:
    library = f"bin/napi-v6/linux/{PROCESSORS[platform.machine()]}/"
    (common,) = (package for package in web_files.packages() if package.name == "onnxruntime-common")
    for package, wanted in ((NATIVE, ("package.json", "dist/", library)), (common, ("package.json", "dist/cjs/"))):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                archive = web_files.fetch(package, Path(scratch))
            except BenchError as error:
                lacking(str(error))
            with tarfile.open(archive) as opened:
                for member in opened:
                    path, stream = member.name.removeprefix("package/"), opened.extractfile(member)
                    if path.startswith(wanted) and stream is not None:
                        place = target / "node_modules" / package.name / path
                        place.parent.mkdir(parents=True, exist_ok=True)
                        with place.open("wb") as out:
                            shutil.copyfileobj(stream, out)


def lacking(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(f"NOT TESTED: {reason}")


def benched(device: Device, name: str, *more: str) -> Result:
    """A short bench of a bundle of the vectors in one process: the usual calls, `more`, and sustained ones."""
    scenarios = ("recommend", "score", "lookup", "history", *more, "sustained")
    settings = Settings(1, 5, 0.0, 10, 5, 5, (20,), scenarios=scenarios, sustained_seconds=0.1)
    result = bench_request(BUNDLES / name, settings, device=device)
    encodes = name.endswith("ials")
    assert result.measured.scenarios == ("recommend", "score 20", "lookup", *(["history"] if encodes else []))
    (process,) = result.measured.processes
    assert process.sustained[0].count > 0
    return result


class Question(NamedTuple):
    """A question of the test vectors, in bundle rows, and the request that tells the right answer."""

    asked: dict[str, Any]
    request: dict[str, Any]
    model: Recommender

    def failure(self, answer: dict[str, Any]) -> str | None:
        """What is wrong with an answer; None where it is right."""
        call = self.request["call"]
        if call == "encode":
            return values_failure(answer["vector"][0], self.request)
        scores = answer["scores"][0]
        if call == "score":
            return values_failure(scores, self.request)
        rows = [row for row in answer["items"][0] if row >= 0]
        items = self.model.item_ids(rows)
        return ranking_failure(list(zip(items, scores, strict=False)), self.request)


def questions(name: str) -> Iterator[Question]:
    """Yield what a graph can answer: errors, lists of similar items, rarities and empty histories are the reader's."""
    model = Recommender.load(BUNDLES / name)
    content = json.loads((FOLDER / "requests" / f"{name}.json").read_text(encoding="utf-8"))
    for request in content["requests"]:
        asked = request["call"] in ("recommend", "score", "similar", "encode")
        own = {"allow", "error", "on_unknown", "rarity"} & request.keys()
        of_reader = own or ("exclude" in request and "item" in request) or request.get("history") == []
        no_vector = "vector" not in request or request["call"] == "encode" or not model.n_users
        if asked and not of_reader and no_vector:
            yield Question(
                {"bundle": str(BUNDLES / name), "graph": request["call"], "feed": _feed(model, request)}, request, model
            )


def _feed(model: Recommender, request: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a graph: repetitions in a history out, and the history excluded by the agent."""
    feed: dict[str, Any] = {}
    if "user" in request:
        feed["user"] = [int(model.user_rows([request["user"]])[0])]
    if "history" in request:
        feed["history"] = [list(dict.fromkeys(model.item_rows(request["history"]).tolist()))]
    if "vector" in request and request["call"] != "encode":
        feed["vector"] = [request["vector"]]
    if request["call"] == "recommend":
        feed["exclude"] = [model.item_rows(request.get("exclude", [])).tolist()]
    if "items" in request:
        feed["candidates"] = [model.item_rows(request["items"]).tolist()]
    if "item" in request:
        feed["item"] = model.item_rows([request["item"]]).tolist()
    return feed | ({"k": request["k"]} if "k" in request else {})


def damaged(folder: Path, name: str) -> Path:
    """A copy of a bundle, to be changed."""
    return Path(shutil.copytree(BUNDLES / name, folder / name))


def films(folder: Path) -> Path:
    """One without users, as the pages on runtimes have it: a hundred titles, numbers for ids."""
    rng = np.random.default_rng(0)
    titles = np.array([f"Film {n}" for n in range(100)])
    items = DenseTable(rng.standard_normal((100, 8), np.float32))
    encoder, popularity = LinearEncoder(np.ones(100, np.float32)), np.arange(100)[::-1]
    source = Source(items, np.arange(100), encoder=encoder, item_counts=popularity, titles=titles)
    return export(source, folder / "films.bundle", titles=True, verify=False).folder


def hostile_graphs() -> dict[str, tuple[bytes, str]]:
    """Graphs that do what no bundle's do, and what JavaScript says of them."""
    helper, types = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info("user", types.INT64, [None])]
    outputs = [helper.make_tensor_value_info("items", types.INT64, [None])]

    def graph(*nodes: Any, tensors: Any = (), domain: str = "") -> bytes:
        made = helper.make_graph(list(nodes), "g", inputs, outputs, list(tensors))
        imports = [helper.make_opsetid("", 21), *([helper.make_opsetid(domain, 1)] if domain else [])]
        content: bytes = helper.make_model(made, opset_imports=imports).SerializeToString()
        return content

    def elsewhere(**place: str) -> Any:
        tensor = types(name="i", data_type=types.FLOAT, dims=[1], data_location=types.EXTERNAL)
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    node = helper.make_node
    inner = helper.make_graph([node("RandomNormal", [], ["x"], shape=[1])], "inner", [], outputs)
    quiet = helper.make_graph([node("Identity", ["user"], ["x"])], "quiet", [], outputs)
    three, many = (
        helper.make_tensor("n", types.INT64, [], raw=True, vals=n.to_bytes(8, "little")) for n in (3, 1 << 40)
    )
    numbers = [
        helper.make_tensor(name, types.INT64, [], raw=True, vals=value.to_bytes(8, "little", signed=True))
        for name, value in (("zero", 0), ("least", -1), ("one", 1))
    ]
    number = helper.make_tensor("float", types.FLOAT, [], raw=True, vals=bytes(4))
    shadow = helper.make_graph([node("Identity", ["user"], ["one"])], "shadow", [], outputs)
    cast = node("Cast", ["user"], ["x"], to=types.FLOAT)
    cast.attribute.append(helper.make_attribute("to", types.INT64))
    return {
        "an unknown operator": (
            graph(node("Identity", ["user"], ["x"]), node("Mystery", ["x"], ["items"])),
            "calls  Mystery",
        ),
        "another domain": (
            graph(node("Gelu", ["user"], ["items"], domain="com.microsoft"), domain="com.microsoft"),
            "calls com.microsoft Gelu",
        ),
        "inside an If": (
            graph(node("If", ["user"], ["items"], then_branch=inner, else_branch=inner)),
            "calls  RandomNormal",
        ),
        "a path outside": (
            graph(
                node("Identity", ["i"], ["items"]),
                tensors=[elsewhere(location="../../etc/passwd", offset="0", length="4")],
            ),
            "lies elsewhere",
        ),
        "an absolute path": (
            graph(node("Identity", ["i"], ["items"]), tensors=[elsewhere(location="/etc/passwd")]),
            "lies elsewhere",
        ),
        "in a constant": (
            graph(node("Identity", ["user"], ["items"], value=elsewhere(location="/etc/passwd"))),
            "lies elsewhere",
        ),
        "a loop without end": (graph(node("Loop", ["user"], ["items"], body=inner)), "a loop without end"),
        "a loop inside a branch": (graph(loops(("If", "Loop"), "n", "user"), tensors=[three]), "a loop without end"),
        **{
            " in ".join(kinds[::-1]): (graph(loops(kinds, "n", "user"), tensors=[three]), "a loop without end")
            for kinds in REFUSED
        },
        "a loop of too many rounds": (
            graph(node("Loop", ["n"], ["items"], body=quiet), tensors=[many]),
            "a loop without end",
        ),
        "a loop whose end is elsewhere's": (
            graph(
                node(
                    "Identity",
                    ["user"],
                    ["m"],
                    value=helper.make_tensor("n", types.INT64, [], raw=True, vals=b"\3" + bytes(7)),
                ),
                node("ReduceSum", ["user"], ["n"]),
                node("Loop", ["n"], ["items"], body=quiet),
            ),
            "a loop without end",
        ),
        **{
            f"{operator} by {name}": (
                graph(node(operator, ["user", name], ["items"]), tensors=[*numbers, number]),
                "divides whole numbers",
            )
            for operator in ("Div", "Mod")
            for name in ("zero", "least", "user", "float")
            if (operator, name) != ("Div", "float")
        },
        "a division by what a branch makes": (
            graph(
                node("If", ["user"], ["x"], then_branch=shadow, else_branch=shadow),
                node("Div", ["user", "one"], ["items"]),
                tensors=numbers,
            ),
            "divides whole numbers",
        ),
        "a division by what is cast twice": (
            graph(cast, node("Div", ["x", "user"], ["items"])),
            "divides whole numbers",
        ),
        "messages without number": (graph(*[onnx.NodeProto(op_type="Abs")] * 66_000), "it is damaged"),
        "cut": (graph(node("Identity", ["user"], ["items"]))[:-3], "it is damaged"),
    }


def make_patches(folder: Path) -> Path:
    """NAME/{old.bundle,new.bundle,patch} of each kind."""
    for name, kind in PATCHES.items():
        (folder / name).mkdir()
        old, new = bundles(kind, folder / name)
        diff(old, new, folder / name / "patch", verify=False)
    return folder


def not_finite(folder: Path) -> None:
    """Write bundles of 20 items whose answers are not finite, in folders of these names, into `folder`: nan (both
    users, and all cosines), beyond (scores beyond float32, all negative), encoded (the vectors of histories)."""
    rng = np.random.default_rng(0)
    items = np.abs(rng.standard_normal((20, 4), np.float32)) + 1
    options = ExportRequest(similar=True, verify=False)
    whole = export_request(from_arrays(items, items[:2]), folder / "users", options).folder
    histories = from_arrays(items, None, encoder=LeastSquaresEncoder(3.0, 2.0), item_counts=np.arange(20))
    solved = export_request(histories, folder / "histories", options).folder
    for name, bundle, changes in (
        ("nan", whole, {"u": np.nan, "n": np.nan}),
        ("beyond", whole, {"u": -3e38}),
        ("encoded", solved, {"g": np.nan}),
    ):
        place = Path(shutil.copytree(bundle, folder / name))
        manifest = Recommender.load(place).manifest
        content = bytearray((place / manifest.tables.name).read_bytes())
        for section, value in changes.items():
            entry = manifest.sections[section]
            np.frombuffer(content, entry.dtype, int(np.prod(entry.shape)), entry.offset).fill(value)
        (place / manifest.tables.name).write_bytes(content)


def large_bundle(folder: Path) -> Path:
    """One whose tables are 12 MiB."""
    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((rows, 64), np.float32) for rows in (50_000, 40))
    return export(from_arrays(items, users), folder / "large.bundle", verify=False).folder

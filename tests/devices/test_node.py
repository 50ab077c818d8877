"""onnxruntime-web in Node: the test vectors' answers, real measurements, and one line for all that can be wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec.runtime import Recommender
from edgerec_bench import bench
from edgerec_devices import open_device
from edgerec_devices.web import files as web_files
from edgerec_devices.web.files import Package, packages, runtime_folder, set_up
from edgerec_devices.web.node import Node
from edgerec_export import export
from tests.conftest import random_source
from tests.devices.conftest import write_script
from tests.devices.exchanges import CheckedNode
from tests.devices.web import BUNDLES, QUICK, benched, damaged, large_bundle, need, questions
from tests.vectors.check import names

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "devices" / "web"
SPEC = ROOT / "edgerec" / "runtime" / "bundle-spec.json"


@pytest.fixture(scope="module")
def node() -> Node:
    need("node")
    return CheckedNode()


@pytest.mark.slow
def test_every_layout_and_precision_answers_as_numpy_does(node: Node) -> None:
    asked = [(name, question) for name in names() for question in questions(name)]
    assert {name for name, _ in asked} == set(names())
    answers = node.run({"task": "answers", "questions": [question.asked for _, question in asked]})["answers"]
    said = [
        f"{name}: {question.request}: {failure}"
        for (name, question), answer in zip(asked, answers, strict=True)
        if (failure := question.failure(answer))
    ]
    assert not said


@pytest.mark.slow
def test_a_real_bench(node: Node) -> None:
    result = benched(node, "csr-fp32-ials", "load")
    (process,) = result.measured.processes
    assert process.memory["wasm_heap"] >= process.bare["wasm_heap"] > 0
    assert process.verify_ms is not None
    assert process.warm_because
    device = result.device
    assert (device["runtime"], device["provider"], device["ort_telemetry"]) == ("node", "wasm", "off")
    assert device["onnxruntime"] == web_files.version()
    assert device["cores"] == os.cpu_count()
    assert "python" not in device


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_those_of_this_machine(node: Node, threads: int) -> None:
    bundle, users = BUNDLES / "mixed-fp32-users", [0, 1, 7]
    request = {**QUICK, "task": "bundle", "bundle": str(bundle), "scenarios": ["recommend"], "threads": threads}
    expected, _ = Recommender.load(bundle).recommend_rows({"user": np.array(users)}, np.empty((3, 0)), QUICK["k"])
    assert node.run({**request, "ask": users})["rows"] == expected.tolist()


@pytest.mark.slow
def test_a_bundle_that_does_not_fit(node: Node, tmp_path: Path) -> None:
    bundle = large_bundle(tmp_path)
    with pytest.raises(DoesNotFitError, match=r"WebAssembly's heap of \d+ MiB could not grow as the bundle needs"):
        bench(bundle, processes=1, calls=5, seconds=0.0, device=Node(heap=20 << 20))
    wide = Node(heap=64 << 20)
    request = {**QUICK, "task": "bundle", "bundle": str(bundle), "scenarios": ["recommend"]}
    assert wide.run(request)["memory"]["wasm_heap"] <= 64 << 10
    assert wide.info()["heap_limit_bytes"] == 64 << 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("manifest.json", None, "manifest.json cannot be read .ENOENT.; export the bundle or copy it again"),
        ("manifest.json", b"{}", "describes no bundle of EdgeRec"),
        ("manifest.json", b'{"format": "edgerec.bundle", "version": "3.0"}', "has version 3.0, this reader knows 2.x"),
        ("manifest.json", b'{"format": "edgerec.bundle", "version": "1.0"}', "manifest.json is damaged at 'tables'"),
        ("tables", b"cut", "has 3 bytes where manifest.json says"),
        ("recommend", "flip", "is not the file that manifest.json describes .sha256 differs."),
    ],
)
def test_damaged_bundles(node: Node, tmp_path: Path, name: str, change: bytes | str | None, said: str) -> None:
    bundle = damaged(tmp_path, "mixed-fp32-users")
    (path,) = bundle.glob(f"{name}*")
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        # The name of the graph's producer: onnxruntime reads it and does not care.
        path.write_bytes(content.replace(b"edgerec", b"edgeRec", 1) if isinstance(change, str) else change)
    with pytest.raises(BenchError, match=said):
        node.run({**QUICK, "task": "bundle", "bundle": str(bundle)})


def test_a_bundle_in_one_file_is_read_by_a_part_of_the_library(node: Node, tmp_path: Path) -> None:
    source = random_source(200, 120)
    places = [export(source, tmp_path / name, precision="fp32", verify=False).folder for name in ("b", "b.edgerec")]
    answers = [
        one.run({"task": "bundle", "bundle": str(place), "scenarios": ["recommend"], "ask": [3], **QUICK})["rows"]
        for one in (node, CheckedNode(kernel=True))
        for place in places
    ]
    assert answers == [answers[0]] * 4


def test_every_file_that_a_built_file_imports_is_there() -> None:
    files = sorted(web_files.DIST.glob("*.mjs"))
    imported = {name for path in files for name in re.findall(r'(?:from|import\()"\./([\w.-]+)"', path.read_text())}
    assert {"agent-chunk.mjs", "edgerec-packed.mjs", "edgerec-signature.mjs"} <= imported
    assert imported <= {path.name for path in files}


def test_what_it_does_not_do(node: Node) -> None:
    with pytest.raises(BenchError, match="Node measures bundles only, no task 'plain'; measure with --device local"):
        node.run({"task": "plain"})
    with pytest.raises(BenchError, match="k is 61 and the bundle has 60 items"):
        node.run({**QUICK, "task": "bundle", "bundle": str(BUNDLES / "mixed-fp32-users"), "k": 61})
    with pytest.raises(BenchError, match="leave --offline out"), open_device("node", offline=True):
        pass
    node.timeout = 0.01
    with pytest.raises(BenchError, match=r"took longer than 0\.01 s and was stopped"):
        node.run({"task": "bare"})
    node.timeout = 600


def test_files_come_back(node: Node, tmp_path: Path) -> None:
    bundle = BUNDLES / "mixed-fp32-users"
    node.pull(node.push(bundle), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in bundle.iterdir()}


def test_no_node_and_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match=r"no Node\.js on this machine; install it: sudo apt-get install nodejs npm"):
        Node()
    write_script(tmp_path / "node", "echo v16.20.2")
    with pytest.raises(BenchError, match=r"node is v16.20.2, and EdgeRec needs Node.js 18 or newer"):
        Node()


def test_not_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("node")
    monkeypatch.setattr(web_files, "setup_folder", tmp_path.joinpath)
    with pytest.raises(BenchError, match=r"onnxruntime-web \S+ is not here; fetch it: edgerec devices setup browser"):
        Node()
    assert [part.fix for part in web_files.missing()] == ["edgerec devices setup browser"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(web_files.missing()) == 2
    with pytest.raises(BenchError, match=r"there is no npm on this machine, .*: sudo apt-get install npm"):
        set_up(lambda _: None)


@pytest.mark.slow
def test_setting_up_takes_the_expected_bytes_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("node")
    monkeypatch.setattr(web_files, "setup_folder", tmp_path.joinpath)
    wrong = [Package(name, version, f"sha512-{64 * 'A'}") for name, version, _ in packages()]
    with monkeypatch.context() as patch:
        patch.setattr(web_files, "packages", lambda: wrong)
        with pytest.raises(BenchError, match=r"what npm fetched as onnxruntime-web@\S+ is another file"):
            set_up(lambda _: None)
    with monkeypatch.context() as patch:
        patch.setenv("npm_config_registry", "http://127.0.0.1:1")
        patch.setenv("npm_config_fetch_retries", "0")
        patch.setenv("npm_config_cache", str(tmp_path / "npm"))
        with pytest.raises(BenchError, match=r"npm could not fetch onnxruntime-web@\S+: .*127.0.0.1:1"):
            set_up(lambda _: None)
    assert not runtime_folder().exists()
    assert not list(tmp_path.glob("browser/.fetched-*"))
    told: list[str] = []
    set_up(told.append)
    set_up(told.append)
    assert [line.partition(" 1.")[0] for line in told] == ["fetching onnxruntime-web", "onnxruntime-web"]
    assert {path.name for path in runtime_folder().iterdir()} == {*web_files.RUNTIME, "node_modules"}
    assert Node().run({"task": "bare"})["memory"]


@pytest.mark.slow
def test_what_ships_is_built_from_these_sources(tmp_path: Path) -> None:
    need("node")
    copy = tmp_path / "devices" / "web"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(SOURCES.parent / "kernel", copy.parent / "kernel")
    spec = SPEC.relative_to(ROOT)
    (tmp_path / spec.parent).mkdir(parents=True)
    shutil.copyfile(SPEC, tmp_path / spec)

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    run("npm", "run", "check")
    run("npm", "run", "build", "--", str(tmp_path / "dist"))
    run(sys.executable, "build_wasm.py", str(tmp_path / "dist"))
    built = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    assert built == {path.name: path.read_bytes() for path in web_files.DIST.iterdir()}
    assert sum(map(len, built.values())) < 240 << 10

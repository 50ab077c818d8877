"""The native runner answers the test vectors, tells what it measures, and refuses what is damaged, under sanitizers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.runtime.bundle import Bundle
from tests.devices.exchanges import checked as checked_answer
from tests.vectors.check import FOLDER, names, ranking_failure, values_failure

Request = dict[str, Any]
QUESTION = {
    **{"task": "bundle", "calls": 5, "seconds": 0, "k": 10, "exclude": 5, "history": 5, "candidates": [1, 7]},
    **{"threads": 1, "seed": 0},
}
BUNDLES = FOLDER / "bundles"
BARE = {"task": "bare", "threads": 1}
VERSION = "1.29.0"
"""Of onnxruntime for Android."""


def ran(runner: Path, library: Path, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What became of a request."""
    command = [str(runner), str(library)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, input=line + "\n", capture_output=True, text=True, check=False, env=environment)


def answered(runner: Path, library: Path, request: Request, **variables: str) -> Any:
    """The answer to a request that is right; it follows the agents' protocol."""
    done = ran(runner, library, json.dumps(request), **variables)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return checked_answer(request, json.loads(done.stdout))


def refused(runner: Path, library: Path, request: Request | str) -> str:
    """The one line that is said of a request that is wrong."""
    done = ran(runner, library, request if isinstance(request, str) else json.dumps(request))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line


class Rows:
    """Requests of the vectors as questions in bundle rows."""

    def __init__(self, folder: Path) -> None:
        bundle = Bundle(folder)
        self._items, users = bundle.ids("item", bundle.manifest.items), bundle.manifest.users
        self._users = None if users is None else bundle.ids("user", users)
        self._encoder = (json.loads((folder / "manifest.json").read_text()).get("encoder") or {}).get("kind")

    def asked(self, request: Request) -> Request | None:
        """None for what only a reader of raw ids can be asked, or answers itself."""
        if request["call"] in ("load", "title", "popular") or request.get("history") == []:
            return None
        of_reader = {"allow", "error", "on_unknown", "rarity"} & request.keys()
        if of_reader or (request["call"] == "similar" and "exclude" in request):
            return None
        if "vector" in request and request["call"] != "encode" and self._encoder != "ials":
            return None
        question: Request = {name: request[name] for name in ("k", "vector") if name in request}
        if request["call"] == "encode":
            question = {}
        for name, other in (("history", "history"), ("exclude", "exclude"), ("items", "candidates")):
            if name in request:
                rows = self._items.rows(request[name]).tolist()
                question[other] = list(dict.fromkeys(rows)) if name == "history" else rows
        for name, ids in (("item", self._items), ("user", self._users)):
            if name in request and ids is not None:
                question[name] = int(ids.rows([request[name]])[0])
        return question

    def failure(self, request: Request, answer: Request) -> str | None:
        """What is wrong with an answer."""
        if "items" not in answer:
            values: list[float] = answer["vector" if request["call"] == "encode" else "scores"]
            return values_failure(values, request)
        items = self._items.raw(np.array(answer["items"], np.int64))
        return ranking_failure(list(zip(items, answer["scores"], strict=True)), request)


def failures(name: str, runner: Path, library: Path, **variables: str) -> Iterator[str]:
    """What is wrong with the answers to one vector."""
    content = json.loads((FOLDER / "requests" / f"{name}.json").read_text())
    folder = FOLDER / content["bundle"]
    rows = Rows(folder)
    pairs = [(one, question) for one in content["requests"] if (question := rows.asked(one)) is not None]
    assert len(pairs) > 5
    request = {"task": "answer", "bundle": str(folder), "threads": 1, "questions": [question for _, question in pairs]}
    answers = answered(runner, library, request, **variables)["answers"]
    for (one, _), answer in zip(pairs, answers, strict=True):
        if said := rows.failure(one, answer):
            yield f"{json.dumps(one)[:200]}: {said}"


@pytest.mark.parametrize("name", names())
def test_it_answers_the_vectors(name: str, checked: Path, pip_library: Path) -> None:
    assert not list(failures(name, checked, pip_library))


@pytest.mark.slow
def test_it_answers_them_with_the_library_of_android(runner: Path, android_library: Path, shim: Path) -> None:
    told = answered(runner, android_library, {"task": "info"}, LD_LIBRARY_PATH=str(shim))
    assert told["onnxruntime"] == VERSION
    found = {name: list(failures(name, runner, android_library, LD_LIBRARY_PATH=str(shim))) for name in names()}
    assert not {name: said for name, said in found.items() if said}


@pytest.mark.parametrize(
    ("name", "scenarios"),
    [
        ("mixed-int8-users", {"recommend", "score 1", "score 7", "lookup"}),
        ("dense-fp32-ials", {"recommend", "score 1", "score 7", "lookup", "history"}),
        ("csr-fp16-linear", {"recommend", "score 1", "score 7", "lookup"}),
    ],
)
def test_it_tells_what_it_measured(name: str, scenarios: set[str], checked: Path, pip_library: Path) -> None:
    wanted = ["recommend", "score", "lookup", "history"]
    answer = answered(checked, pip_library, {**QUESTION, "bundle": str(BUNDLES / name), "scenarios": wanted})
    assert answer["scenarios"].keys() == scenarios
    for figures in answer["scenarios"].values():
        assert len(figures["times_ns"]) >= 2 * QUESTION["calls"]  # type: ignore[operator]
        assert min(figures["first_ns"], *figures["times_ns"], figures["cpu_share"]) > 0
    assert answer["load_ms"] > 0
    assert answer["verify_ms"] is None
    assert answer["yardstick_ms"] > 0
    assert answer["memory"]["VmHWM"] >= answer["memory"]["RssAnon"] > 0
    assert {"VmRSS", "RssFile", "RssShmem", "VmSwap", "Pss", "Pss_Anon", "Pss_File"} < answer["memory"].keys()
    assert answer["faults"].keys() == scenarios | {"load"}
    assert all(cost["instructions"] > 0 for cost in answer["cost"].values() if "instructions" in cost)
    bare = answered(checked, pip_library, BARE)["memory"]
    assert bare.keys() == answer["memory"].keys()


@pytest.mark.slow
def test_scenarios_that_have_a_process_of_their_own(checked: Path, pip_library: Path) -> None:
    for name in ("dense-fp32-users", "ell-int4-ials"):
        asked = {**QUESTION, "bundle": str(BUNDLES / name), "sustained_seconds": 0.1}
        cold = answered(checked, pip_library, {**asked, "scenarios": ["load"]})
        assert cold.keys() in ({"cold"}, {"warm_because"})
        if "cold" in cold:
            assert min(cold["cold"]["load_ms"], cold["cold"]["first_ms"]) > 0
        (window,) = answered(checked, pip_library, {**asked, "scenarios": ["sustained"]})["sustained"]
        assert window["at_s"] == 0
        assert min(window["count"], window["p50_ms"]) > 0
        points = answered(checked, pip_library, {**asked, "scenarios": ["offline"]})["offline"]
        assert [point["batch"] for point in points][:3] == [1, 16, 256]
        assert {point["threads"] for point in points} >= {1, len(os.sched_getaffinity(0))}
        assert all(point["users_per_second"] > 0 and point["calls"] >= 3 for point in points)


def test_the_best_for_users_in_rows(checked: Path, pip_library: Path) -> None:
    asked = {**QUESTION, "bundle": str(BUNDLES / "no-similar"), "k": 60, "scenarios": []}
    answer = answered(checked, pip_library, {**asked, "ask": [0, 39]})
    assert [sorted(rows) for rows in answer["rows"]] == [list(range(60))] * 2
    assert "users to ask for" in refused(checked, pip_library, {**asked, "bundle": str(BUNDLES / "no-ids"), "ask": [0]})
    assert "a user is 40, not in 0..39" in refused(checked, pip_library, {**asked, "ask": [40]})


def test_telemetry_is_off(runner: Path, pip_library: Path, tmp_path: Path) -> None:
    answered(runner, pip_library, BARE, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the request is damaged: no JSON value at byte 1"),
        ("{", "a member without a name at byte 2"),
        ('{"task": "bare", "threads": 1}}', "something behind the value at byte 30"),
        ('{"task": "bare", "task": "info"}', "a name that is there twice"),
        ('{"task": "bare",}', "a member without a name at byte 16"),
        ("{'task': 1}", "a member without a name"),
        ('{"task": "ba\\x72e"}', "an unknown escape"),
        ('{"task": "\\ud800"}', "half a character"),
        ('{"task": "\\u0000"}', "no character"),
        ('{"task": "bare', "a text without an end"),
        ('{"task": "bare\\', "a text without an end"),
        ('{"task": "b\tre"}', "a control character in a text"),
        ('{"task": tru}', "no JSON value"),
        ('{"task": 01}', "a list without an end"),
        ('{"task": 1.}', "no JSON value"),
        ('{"task": [1, 2}', "a list without an end"),
        ("[" * 100, "too many levels at byte 32"),
        (json.dumps({str(n): 0 for n in range(4097)}), "an object of too many members"),
        ('{"task": 1}', "the request has no 'task', or not one of its kind"),
        ('{"task": "dance\\n\\u00e9\\ud83d\\ude00"}', "the runner knows no task 'dance é😀'"),
        ('{"task": "bare", "threads": 0}', "threads is 0, not in 1..1024"),
        ('{"task": "bare", "threads": 1.0}', "threads must be a whole number"),
        ('{"task": "bare", "threads": 99999999999999999999}', "threads is 99999999999999999999, not in 1..1024"),
        ('{"task": "bare"}', "threads must be a whole number"),
    ],
)
def test_requests_that_are_none(line: str, said: str, checked: Path, pip_library: Path) -> None:
    assert said in refused(checked, pip_library, line)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 0}, "k is 0, not in 1..60"),
        ({"k": 61}, "k is 61, not in 1..60"),
        ({"exclude": -1}, "exclude is -1"),
        ({"history": 0}, "history is 0"),
        ({"candidates": [0]}, "candidates is 0"),
        ({"calls": 0}, "calls is 0"),
        ({"seconds": "1"}, "seconds must be a number"),
        ({"scenarios": [1]}, "a scenario's name is no text"),
        ({"bundle": "/nowhere"}, "cannot read /nowhere/manifest.json: No such file or directory"),
    ],
)
def test_settings_that_measure_nothing(change: Request, said: str, checked: Path, pip_library: Path) -> None:
    asked = {**QUESTION, "bundle": str(BUNDLES / "dense-fp32-users")}
    assert said in refused(checked, pip_library, {**asked, **change})


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"user": 40, "k": 3}, "a user is 40, not in 0..39"),
        ({"user": -1, "k": 3}, "a user is -1"),
        ({"user": 0, "k": 61}, "k is 61, not in 1..60"),
        ({"user": 0, "k": 3, "exclude": [60]}, "exclude is 60, not in 0..59"),
        ({"user": 0, "candidates": [0, -1]}, "candidates is -1, not in 0..59"),
        ({"item": 60, "k": 3}, "an item is 60, not in 0..59"),
        ({"history": [1], "k": 3}, "the bundle has users; ask with a user"),
        ({"vector": [0], "k": 3}, "the bundle's graphs take no vector"),
        ({"user": 0}, "a question has neither k nor candidates"),
        (1, "the bundle has users; ask with a user"),
    ],
)
def test_questions_outside_of_the_bundle(question: Any, said: str, checked: Path, pip_library: Path) -> None:
    request = {"task": "answer", "bundle": str(BUNDLES / "dense-fp32-users"), "threads": 1, "questions": [question]}
    assert said in refused(checked, pip_library, request)


def set_at(*path: Any) -> Callable[[Any], None]:
    """A change of a manifest: the value at the end of a path of keys."""
    *keys, last, value = path

    def change(manifest: Any) -> None:
        place = manifest
        for key in keys:
            place = next(iter(place.values())) if key is None else place[key]
        place[next(iter(place)) if last is None else last] = value

    return change


TENSOR = ("graphs", "recommend", "tensors", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_at("format", "zip"), "is not the manifest of an EdgeRec bundle"),
        (set_at("version", "3.0"), "has version 3.0, this runner reads up to 2; upgrade EdgeRec"),
        (set_at("requires", ["tiles", "x"]), "requires tiles, which this runner does not know; upgrade EdgeRec"),
        (set_at("requires", [1]), "a required feature is no text"),
        (set_at("requires", "tiles"), "has no 'requires', or not one of its kind"),
        (set_at("d", 0), "the manifest's d is 0"),
        (set_at("items", None), "has no 'items', or not one of its kind"),
        (set_at("items", "rows", -1), "the rows of a side is -1"),
        (set_at("tables", "file", "../tables.bin"), "the file name '../tables.bin' leaves the bundle"),
        (set_at("tables", "file", "/etc/passwd"), "the file name '/etc/passwd' leaves the bundle"),
        (set_at("tables", "file", ".."), "the file name '..' leaves the bundle"),
        (set_at("tables", "file", ""), "the file name '' leaves the bundle"),
        (set_at("tables", "file", "a\\b"), "leaves the bundle"),
        (set_at("tables", "file", "none.bin"), "none.bin: No such file or directory"),
        (set_at("tables", "bytes", 17), "bytes where manifest.json says 17; copy the bundle again"),
        (set_at("tables", "bytes", -1), "the bytes of a file is -1"),
        (set_at("graphs", "recommend", "file", "x/y.onnx"), "the file name 'x/y.onnx' leaves the bundle"),
        (set_at("graphs", {}), "has no 'recommend' graph"),
        (set_at(*TENSOR, [-64, "float32", [1]]), "a section's offset is -64"),
        (set_at(*TENSOR, [1 << 40, "float32", [1]]), "a section's offset is 1099511627776"),
        (set_at(*TENSOR, [0, "float32", [1 << 40]]), "leaves the tables file"),
        (set_at(*TENSOR, [0, "float32", [1 << 32, 1 << 32, 1 << 32]]), "leaves the tables file"),
        (set_at(*TENSOR, [0, "float32", [-1]]), "a section's shape is -1"),
        (set_at(*TENSOR, [0, "float32", [1] * 9]), "a section of 9 dimensions"),
        (set_at(*TENSOR, [2, "float32", [1]]), "a section of float32 at byte 2"),
        (set_at(*TENSOR, [0, "object", [1]]), "a section of type object"),
        (set_at(*TENSOR, [0, "float32"]), "a section is no [offset, dtype, shape]"),
        (set_at(*TENSOR, 7), "a section is no [offset, dtype, shape]"),
        (set_at(*TENSOR, [0, "float32", [1]]), "onnxruntime"),
        (set_at("session", "x", 1), "the session option x is no text"),
        (
            lambda m: m["graphs"].update({str(n): m["graphs"]["score"] for n in range(20)}),
            "graphs where 16 are the most",
        ),
        (lambda m: m["sections"].update({str(n): m["sections"]["i"] for n in range(257)}), "where 256 are the most"),
        (lambda m: m["other_files"].extend([m["tables"]] * 33), "files where 32 are the most"),
        (set_at("graphs", "recommend", "bytes", (1 << 20) + 1), "the bytes of a graph is 1048577, not in 1..1048576"),
        (set_at(*TENSOR, [0, "float32", [1] * 5]), "a section of 5 dimensions"),
        (set_at("about", [[]] * 300_000), "more than 262144 values; copy the bundle again"),
        (set_at("about", " " * (4 << 20)), "has more than 4194304 bytes; copy the bundle again"),
    ],
)
def test_bundles_that_are_damaged(
    change: Callable[[Any], None], said: str, checked: Path, pip_library: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged.bundle"
    shutil.copytree(BUNDLES / "dense-fp32-users", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert said in refused(checked, pip_library, {**QUESTION, "bundle": str(folder)})


def test_options_of_onnxruntime_that_a_bundle_has_no_use_for_are_left_out(
    checked: Path, pip_library: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    shutil.copytree(BUNDLES / "dense-fp32-users", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["session"]["session.load_model_format"] = "ORT"  # of a file that is none: it would be refused
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert answered(checked, pip_library, {**QUESTION, "bundle": str(folder)})


def test_a_bundle_of_version_2(checked: Path, pip_library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(BUNDLES / "dense-fp32-users", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"version": "2.7", "requires": [], "rollback_index": 3}
    manifest["items"]["ids"] = "hash64"  # of ids it reads nothing
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert answered(checked, pip_library, {**QUESTION, "bundle": str(folder)})


def test_a_bundle_in_one_file(checked: Path, pip_library: Path, tmp_path: Path) -> None:
    (tmp_path / "b.edgerec").write_bytes(b"edgerecB")
    said = refused(checked, pip_library, {**QUESTION, "bundle": str(tmp_path / "b.edgerec")})
    assert said == f"{tmp_path}/b.edgerec is a file, and the runner opens folders; unpack it with 'edgerec unpack'"


def test_a_graph_that_is_cut(checked: Path, pip_library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut.bundle"
    shutil.copytree(BUNDLES / "dense-fp32-users", folder)
    (graph,) = folder.glob("recommend-*")
    content = graph.read_bytes()
    graph.write_bytes(content[:-9])
    assert "bytes where manifest.json says" in refused(checked, pip_library, {**QUESTION, "bundle": str(folder)})
    graph.write_bytes(bytes(len(content)))
    assert f"{graph.name}: " in refused(checked, pip_library, {**QUESTION, "bundle": str(folder)})


def test_libraries_that_are_none(checked: Path, tmp_path: Path) -> None:
    assert "cannot open onnxruntime's library" in refused(checked, tmp_path / "none.so", BARE)
    (tmp_path / "text.so").write_text("text")
    assert "cannot open onnxruntime's library" in refused(checked, tmp_path / "text.so", BARE)
    assert "libm.so.6 is not onnxruntime's library" in refused(checked, Path("libm.so.6"), BARE)

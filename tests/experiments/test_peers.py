"""Other libraries and other roundings: what is asked of them, and what they find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from bench.experiments.scale import contenders as scale_contenders
from bench.experiments.scale import measure as scale
from bench.experiments.scale.__main__ import PEERS as PEERS_COLUMNS
from bench.experiments.scale.__main__ import main
from bench.experiments.scale.contenders import BASELINE, CONTENDERS, contenders_named, rounded
from bench.experiments.scale.measure import PeersDevice, compare
from bench.experiments.scale.peers import PEERS, Hnswlib, build_index, measure_peer
from bench.experiments.scale.plain import plain_dense
from bench.experiments.scale.tables import TablePair, mixed_items
from edgerec.errors import BenchError, EdgeRecError, MissingExtraError
from edgerec_bench import read_results, write_results
from edgerec_bench.calibrate import dense_users
from edgerec_bench.result.scale import ScaleResult, markdown, scale_rows
from tests.bench.conftest import status_of

ROOT = Path(__file__).parents[2]
K = 20
EXACT = ("faiss IndexFlatIP", "usearch exact", "implicit topk", "OpenVINO fp32", "LiteRT fp32", "ExecuTorch fp32")


def lacking(error: EdgeRecError) -> NoReturn:
    """A library is not here: where everything must be tested that is a failure, but for ExecuTorch's many packages."""
    if "pip install 'edgerec[peers" not in str(error):
        raise error
    if os.environ.get("CI") and "[peers]" in str(error):
        pytest.fail(str(error))
    pytest.skip(f"NOT TESTED: {error}")


@pytest.fixture(scope="module")
def pair() -> TablePair:
    return TablePair(mixed_items(3000, 64), dense_users(40, 64))


@pytest.fixture(scope="module")
def files(pair: TablePair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("matrices")
    np.save(folder / "items.npy", pair.items.dense())
    np.save(folder / "users.npy", pair.users.dense())
    return {side: str(folder / f"{side}.npy") for side in ("items", "users")}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_library_finds_the_best(name: str, pair: TablePair, files: dict[str, str], tmp_path: Path) -> None:
    """In processes of its own, as it is measured: some libraries warn, and one pins its process to a core."""
    asked: dict[str, Any] = {"peer": name, "index": str(tmp_path / "index"), **files, "k": K}
    device = PeersDevice()
    try:
        made = device.run({"task": "index", **asked})
    except BenchError as error:
        lacking(error)
    assert made["nbytes"] == sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    assert made["version"]
    question = {"settings": made["settings"], "calls": 5, "seconds": 0, "threads": 1, "seed": 0, "ask": [0, 3, 39]}
    answer = device.run({"task": "peer", **asked, **question})
    assert answer["scenarios"]["recommend"]["p50_ms"] > 0
    assert answer["load_ms"] > 0
    assert answer["imported"]["VmHWM"] <= answer["memory"]["VmHWM"]
    scores, limit = pair.best([0, 3, 39], K)
    found = np.array(answer["answers"])
    share = float((np.take_along_axis(scores, found, 1) >= limit[:, None] - 1e-4).mean())
    assert share == 1 if name in EXACT else share > 0.8
    assert np.argmax(scores, axis=1).tolist() == found[:, 0].tolist() or name not in EXACT


def test_hnswlib_takes_the_least_effort_that_finds_enough() -> None:
    class Index:
        """Finds a share of the best that grows with ef."""

        def set_ef(self, ef: int) -> None:
            self.ef = ef

        def get_current_count(self) -> int:
            return 1000

        def knn_query(self, asked: Any, k: int) -> tuple[Any, None]:
            wrong = max(0, 3 - self.ef // 20)
            return np.tile(np.r_[np.full(wrong, -1), np.arange(wrong, k)], (len(asked), 1)), None

    chooser = object.__new__(Hnswlib)
    best = np.tile(np.arange(K), (2, 1))
    assert chooser._choose_ef(Index(), np.zeros((2, 4), np.float32), best) == {"ef": 40, "recall": 0.95}


@pytest.mark.parametrize(("precision", "share", "least"), [("int8", 0.3, 0.9), ("int4", 0.4, 0.7)])
def test_a_plain_model_is_rounded_by_onnxruntimes_tools(
    precision: str, share: float, least: float, pair: TablePair, tmp_path: Path
) -> None:
    whole, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    nbytes = plain_dense(pair.items.dense(), pair.users.dense(), whole, K)
    try:
        assert rounded(whole, precision, small) == small.stat().st_size < share * nbytes
    except MissingExtraError as error:
        lacking(error)
    request = {"task": "plain", "model": str(small), "users": 40, "prepack": True, "calls": 5, "seconds": 0}
    answer = PeersDevice().run({**request, "threads": 1, "seed": 0, "ask": [0, 39]})
    scores, limit = pair.best([0, 39], K)
    assert (np.take_along_axis(scores, np.array(answer["answers"]), 1) >= limit[:, None]).mean() > least


def test_peers_are_the_rival_bundles_and_every_library() -> None:
    specs = contenders_named([], peers=True)
    assert specs[0] == BASELINE
    assert {spec.name for spec in specs if spec.kind == "peer"} == set(PEERS)
    assert {spec.name for spec in specs if spec.kind == "bundle"} == {
        "EdgeRec dense int8", "EdgeRec mixed fp32", "EdgeRec mixed int8"
    }  # fmt: skip
    assert contenders_named([]) == CONTENDERS
    assert [spec.name for spec in contenders_named(["hnswlib"], peers=True)] == [BASELINE.name, "hnswlib"]


@pytest.mark.slow
def test_a_table_of_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a library that is not there the table says which command brings it."""
    monkeypatch.setattr(scale, "CALL_SETTINGS", {**scale.CALL_SETTINGS, "seconds": 0.0})
    monkeypatch.setattr(scale_contenders, "CALLS", 5)

    class Without(PeersDevice):
        def run(self, request: dict[str, Any]) -> dict[str, Any]:
            if request["task"] == "index" and request["peer"] != "implicit topk":
                raise BenchError("the measuring process failed: it is not installed: pip install 'edgerec[peers]'")
            return super().run(request)

    only = ["mixed int8", "implicit topk", "LiteRT fp32"]
    result = compare(500, dimensions=16, users=40, rounds=1, only=only, peers=True, device=Without())
    assert result.left_out == (("LiteRT fp32", "it is not installed: pip install 'edgerec[peers]'"),)
    assert "--peers --only" in result.command
    assert [one.built_with for one in result.contenders][:2] == [{}, {}]
    assert result.contenders[-1].built_with["version"]
    write_results(tmp_path / "peers.json", [result])
    assert read_results(tmp_path / "peers.json") == [result]
    assert status_of(main, ["--show", str(tmp_path / "peers.json"), "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("|  | ms a call |")
    assert "| LiteRT fp32 | it is not installed" in shown
    assert all(len(row) == len(scale_rows(result)[0]) for row in scale_rows(result))
    assert status_of(main, [*2 * ["--show", str(tmp_path / "peers.json")]]) == 0


def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(BenchError, match="unknown library 'annoy'"):
        measure_peer({"peer": "annoy"})
    with pytest.raises(BenchError, match="unknown library 'annoy'"):
        build_index({"peer": "annoy", "index": "x"})


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("peers-*.json")), ids=lambda path: path.stem)
def test_a_table_of_the_page_is_that_of_the_result(path: Path) -> None:
    (result,) = read_results(path)
    assert isinstance(result, ScaleResult)
    _, marked, table = (ROOT / "docs" / "research" / "speed.md").read_text().partition(f"<!-- {path.stem} -->\n\n")
    assert not marked or table.startswith(markdown(PEERS_COLUMNS, scale_rows(result, PEERS_COLUMNS)) + "\n\n")
    assert all(one.same_top == 1 for one in result.contenders if one.name in EXACT)

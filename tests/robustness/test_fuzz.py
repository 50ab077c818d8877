"""Corrupted bundles: a few hundred of the committed run's, and that a fault of each kind is found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.experiments import fuzz as fuzz_module
from bench.experiments.fuzz import Tally, bundles, fuzz
from bench.experiments.fuzz_worker import REHASHED, UNHASHED, answers, dump, mutant, parse
from tests.runtime.test_recommender import damaged


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return bundles(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
def test_corrupted_bundles_are_refused_or_are_bundles() -> None:
    tally = fuzz(400, seed=1)
    assert tally.faults == []
    assert sum(counts.total() for counts in tally.outcomes.values()) == 400
    kept = [counts for (_, rehashed), counts in tally.outcomes.items() if not rehashed]
    assert all(counts.total() == counts["refused"] for counts in kept)
    assert {way for way, rehashed in tally.outcomes if not rehashed} == set(UNHASHED)
    assert {way for way, rehashed in tally.outcomes if rehashed} == set(REHASHED)
    assert set(tally.errors) <= {"BundleError", "RequestError"}


def test_the_bundles_answer_before_they_are_corrupted(sources: list[Path], tmp_path: Path) -> None:
    for source in sources:
        expected = answers(source)
        assert answers(damaged(source, tmp_path / source.name)) == expected
        assert len(expected[4]) == 7


def test_a_mutant_follows_from_its_number(sources: list[Path], tmp_path: Path) -> None:
    def files(number: int, name: str) -> dict[str, Any]:
        folder = mutant(number, 3, sources, tmp_path / name).folder
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.is_symlink()}

    for number in range(30):
        assert files(number, "a") == files(number, "b")


def test_graphs_are_read_and_written_as_they_are(sources: list[Path]) -> None:
    for path in (path for source in sources for path in source.glob("*.onnx")):
        assert dump(parse("model", path.read_bytes())) == path.read_bytes()


def worker(monkeypatch: pytest.MonkeyPatch, code: str) -> Tally:
    """A run whose workers do something else."""
    real = fuzz_module.subprocess.Popen
    monkeypatch.setattr(
        fuzz_module.subprocess, "Popen", lambda command, **how: real([sys.executable, "-c", code, *command[3:]], **how)
    )
    monkeypatch.setattr(fuzz_module, "HANGS_S", 1.0)
    return fuzz(3, seed=0)


TELL = "import json, os, sys, time; number = int(sys.argv[2]); print(json.dumps({'begin': number}), flush=True)\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.abort()", "ends the process with status -6"),
        ("time.sleep(600)", "hangs for 1 s"),
    ],
)
def test_a_crash_and_a_hang_are_found_and_the_rest_is_tried(
    code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker(monkeypatch, TELL + code).faults == [f"mutant {number} {said}" for number in range(3)]


def test_other_faults_are_found() -> None:
    tally, line = Tally(), {"end": 4, "way": "cut", "rehashed": False}
    for outcome in (
        {"unnamed": "KeyError: 'i'"},
        {"answers": "others"},
        {"refused": "BundleError", "lines": 2},
        {"refused": "BundleError", "lines": 1},
        {"rehashed": True, "answers": "others"},
    ):
        tally.add(json.loads(json.dumps({**line, **outcome})))
    assert tally.faults == [
        "mutant 4 (cut) ends in KeyError: 'i'",
        "mutant 4 (cut) answers from a file that is not its manifest's",
        "mutant 4 (cut) is refused in 2 lines",
    ]

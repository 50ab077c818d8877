"""The attack of `bench/experiments/attack` in short: tables, commands and mutants in which nothing is found.

The long run is `python -m bench.experiments.attack`; a fault that it finds gets a test of its own where the fault was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.attack.mutants import Base, make_bases, mutant
from bench.experiments.attack.oracle import Oracle, SpecificationError
from bench.experiments.attack.requests import ask
from bench.experiments.attack.runtimes import Reply, findings, python
from edgerec import Recommender
from edgerec_export import export, from_arrays

ROOT = Path(__file__).parents[2]


def attacked(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Run a part in a process of its own and return its result."""
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "bench.experiments.attack", *words, "--out", str(out), "--scratch", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.mark.slow
def test_tables_answer_as_the_specification_says(tmp_path: Path) -> None:
    result = attacked(tmp_path, "tables", "--from", "65", "--count", "30")
    assert result["findings"] == {}
    assert result["outcomes"]["answered"] > 10


@pytest.mark.slow
def test_odd_command_lines_end_in_one_line(tmp_path: Path) -> None:
    result = attacked(tmp_path, "commands", "--seed", "1", "--count", "24")
    assert result["findings"] == {}
    assert result["outcomes"]["exit status 2"] > 10


@pytest.mark.slow
def test_mutants_are_refused_or_are_bundles(tmp_path: Path) -> None:
    result = attacked(tmp_path, "mutants", "--seed", "32", "--count", "250")
    assert result["findings"] == {}
    assert result["outcomes"]["damage, does not fit: refused"] > 40
    assert result["outcomes"]["graph, fits: refused"] > 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((rows, 8)).astype(np.float32) for rows in (40, 9))
    out = tmp_path_factory.mktemp("attack") / "bundle"
    export(from_arrays(items, users), out, layout="mixed", verify=False)
    return out


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"score": lambda right: right + 1e-3}, "score differs from the oracle"),
        ({"recommend": lambda right: right[::-1]}, "recommend is not in order"),
        ({"recommend": lambda right: right[1:]}, "recommend gives another number of items"),
        ({"similar": lambda right: right[1:]}, "similar gives itself, repeats, or another number"),
        ({"score": lambda right: right * np.nan}, "a score is NaN"),
    ],
)
def test_the_oracle_finds_wrong_answers(
    answers: dict[str, Any], found: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(bundle)
    oracle.decode(None, None)
    model = Recommender.load(bundle)
    assert list(ask(model, oracle, True, np.random.default_rng(1))) == []
    for name, change in answers.items():
        real = getattr(Recommender, name)
        monkeypatch.setattr(
            Recommender, name, lambda *args, real=real, change=change, **how: change(real(*args, **how))
        )
    assert found in {kind for kind, _ in ask(model, oracle, True, np.random.default_rng(1))}


def test_the_oracle_finds_a_file_that_is_not_the_manifests(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    next(tmp_path.glob("tables-*")).write_bytes(b"")
    with pytest.raises(SpecificationError, match="is not the manifest's"):
        Oracle(tmp_path)


def test_crashes_and_answers_from_tampered_files_are_findings(tmp_path: Path) -> None:
    bases: list[Base] = make_bases(tmp_path)
    whole: dict[str, dict[str, str]] = {base.name: {} for base in bases}
    numbers = iter(range(100))
    one = next(made for n in numbers if not (made := mutant(0, n, bases, tmp_path / "m")).fits and made.patch is None)
    for reply, kind in (
        (Reply("killed", "status -8", ""), f"status -8 by {one.way}"),
        (Reply("answer", "", "[]"), f"a tampered file is answered from: {one.way}"),
        (Reply("unnamed", "KeyError", ""), f"unnamed KeyError by {one.way}"),
        (
            Reply("refused", "BundleError", "a\nb"),
            "an error of several lines, control characters or 0 thousand characters",
        ),
        (Reply("refused", "BundleError", "", 1 << 30), f"memory by {one.way}"),
    ):
        assert kind in {found for found, _ in findings(one, reply, {}, whole)}


def test_a_process_that_ends_is_started_again() -> None:
    runtime = python()
    try:
        runtime.start().kill()
        assert runtime.ask("0\tnowhere\t-\t-\tuser\ti1,i2").outcome in ("killed", "refused")
        assert runtime.ask("1\tnowhere\t-\t-\tuser\ti1,i2").outcome == "refused"
    finally:
        runtime.close()

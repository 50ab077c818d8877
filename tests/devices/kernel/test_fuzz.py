"""Corrupted bundles under the sanitizers: the short form of bench/experiments/kernel_fuzz.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.experiments.kernel_fuzz import build, fuzz, originals
from tests.devices.conftest import lacking


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        lacking("gcc", "apt-get install gcc libc6-dev")
    return build(tmp_path_factory.mktemp("fuzz") / "fuzz")


def test_corrupted_bundles_are_refused_or_answered(program: Path, tmp_path: Path) -> None:
    outcomes, faults = fuzz(program, originals(tmp_path), seed=1, first=0, count=6000)
    assert faults == []
    assert outcomes.total() == 6000
    assert 0 < outcomes["answered"] < 2000
    assert len(outcomes) > 8


def test_a_mutant_follows_from_its_number(program: Path, tmp_path: Path) -> None:
    paths = originals(tmp_path)
    whole = fuzz(program, paths, seed=2, first=0, count=300)[0]
    parts = [fuzz(program, paths, seed=2, first=first, count=100)[0] for first in (0, 100, 200)]
    assert whole == sum(parts[1:], parts[0])


def test_a_process_that_ends_badly_is_reported(program: Path, tmp_path: Path) -> None:
    _, faults = fuzz(program, [tmp_path / "nothing"] * 300, seed=0, first=0, count=10)
    assert faults == ["of mutants 0 to 9: status 2"]

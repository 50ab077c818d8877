"""Small real bundles, and one real measurement of them that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.tables import DenseTable
from edgerec_bench import Result, Settings, bench_all, bench_request
from edgerec_bench.result.result import SCENARIOS
from edgerec_export import Source, export, from_arrays

QUICK = Settings(processes=2, calls=20, seconds=0.0, candidates=(50,))
EVERYTHING = replace(QUICK, scenarios=SCENARIOS, sustained_seconds=2.0)

ABOUT = {"data": "random", "method": "own", "metrics": {"test": {"ndcg@20": 0.25, "recall@20": 0.5}}}


def status_of(command: click.Command, words: Sequence[str]) -> int:
    """The exit status of a command of the bench."""
    with pytest.raises(SystemExit) as ended:
        command.main(list(words), prog_name="python -m edgerec_bench")
    return int(ended.value.code or 0)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dense bundle with users, and a mixed int8 one without."""
    folder = tmp_path_factory.mktemp("bundles")
    rng = np.random.default_rng(0)
    items = rng.standard_normal((500, 16)).astype(np.float32)
    users = rng.standard_normal((40, 16)).astype(np.float32)
    dense, mixed = folder / "dense.bundle", folder / "mixed.bundle"
    export(from_arrays(items, users, about=ABOUT), dense, layout="dense", verify=False)
    items[np.arange(16) >= rng.choice([2, 4, 16], 500)[:, None]] = 0
    weights = np.ones(500, np.float32)
    source = Source(DenseTable(items), np.arange(500), encoder=LinearEncoder(weights), about=ABOUT)
    export(source, mixed, precision="int8", users=False, verify=False)
    return dense, mixed


@pytest.fixture(scope="session")
def results(bundles: tuple[Path, Path]) -> list[Result]:
    """Both bundles, measured in turns in fresh processes."""
    return bench_all(bundles, QUICK)


@pytest.fixture(scope="session")
def everything(bundles: tuple[Path, Path]) -> Result:
    """The bundle of a solved-for user, in every scenario."""
    folder = bundles[0].parent / "solved.bundle"
    items = np.random.default_rng(0).standard_normal((300, 8))
    export(from_arrays(items, None, encoder=LeastSquaresEncoder(3.0, 20.0)), folder, verify=False)
    return bench_request(folder, EVERYTHING)

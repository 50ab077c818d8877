"""Memory that a request takes, in bytes: bundles are read where they lie, and scores are never whole in memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgerec.models.encoder import LinearEncoder
from edgerec.runtime.stored import pack
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec_export import ExportRequest, Source, export_request
from tests.devices.kernel.conftest import compiled

ITEMS, DIMENSIONS, K = 70_000, 32, 20
SCORED = {"dense": 8192, "mixed": 8192, "ell": 1024, "csc": 1 << 16}
"""Rows whose scores are in memory: the kernel's ER_TILE, ER_TILE_OF_ROWS and ER_STRETCH."""
STACK = 4096
"""Most bytes of the stack that a request takes, in a build for speed."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Names are bound at the start: the linker would do so on the stack of the first request, in about 2.5 KB of it.
    options = ("-std=c11", "-O3", "-pthread", "-Wl,-z,now")
    return compiled(tmp_path_factory.mktemp("memory") / "memory", "memory.c", options)


def bundle(layout: str, precision: str, users: bool, folder: Path) -> Path:
    """Export a bundle in one file, with users or with an encoder of histories."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((ITEMS, DIMENSIONS), dtype=np.float32)
    mask = rng.random(values.shape) < 0.1
    mask[:, 0] = True
    table = {
        "dense": lambda: DenseTable(values),
        "mixed": lambda: PrefixTable.from_dense(values, rng.choice([4, 8, 32], ITEMS)),
    }.get(layout, lambda: SparseTable.from_dense(values, mask))()
    ids = np.arange(ITEMS)
    if users:
        source = Source(table, ids, DenseTable(values[:50]), np.arange(50), about={})
    else:
        counts = rng.integers(0, 99, ITEMS)
        source = Source(
            table, ids, encoder=LinearEncoder(rng.random(ITEMS, dtype=np.float32)), item_counts=counts, about={}
        )
    export_request(source, folder / "b", ExportRequest(layout, precision, similar=False, verify=False))
    pack(folder / "b", folder / "b.edgerec")
    return folder / "b.edgerec"


def memory(program: Path, file: Path, *rows: int) -> list[int]:
    """Return bytes of arena, work and stack."""
    done = subprocess.run(
        [program, file, str(K), *map(str, rows)], capture_output=True, text=True, timeout=60, check=True
    )
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize(
    ("layout", "precision", "users"),
    [("dense", "int8", True), ("mixed", "fp32", False), ("ell", "int4", True), ("csc", "int8", True)],
)
def test_a_request_takes_less_than_the_scores(
    program: Path, layout: str, precision: str, users: bool, tmp_path: Path
) -> None:
    file = bundle(layout, precision, users, tmp_path)
    arena, work, stack = memory(program, file, *range(100))
    assert work <= ITEMS / 8 + 29 * DIMENSIONS + 4 * SCORED[layout] + 64
    assert stack <= STACK
    manifest = (tmp_path / "b" / "manifest.json").read_bytes()
    blocks = len(json.loads(manifest)["items"]["blocks"])
    assert arena <= 1500 + 2 * 80 * (blocks + 1) + 8 * (ITEMS + 50) / 16 + len(manifest)
    assert work + stack + 8 * K < 4 * ITEMS, "a float an item"


def test_a_longer_history_takes_no_more(program: Path, tmp_path: Path) -> None:
    file = bundle("mixed", "fp32", False, tmp_path)
    assert memory(program, file, *range(3000)) == memory(program, file, 5)

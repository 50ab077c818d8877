"""Grids: killed at random they end with the same file; a failure is told, tried again and never a row."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edgerec.errors import BenchError, BudgetError, DataError, EdgeRecError, StorageError, UnsupportedError
from edgerec.files import to_json
from edgerec.runtime import Recommender
from edgerec_bench.grid.plan import GridPlan
from edgerec_bench.grid.rows import FORMAT, GridFile, read_rows
from edgerec_bench.grid.run import GridStatus, run_grid
from edgerec_export.layouts import LAYOUTS
from tests.conftest import CommandLine, interrupted

DATA = "synthetic:120x80x2400"
EIGHT = f"""
data = ["{DATA}"]
backbone = ["svd", "ials"]
method = ["uniform", "popularity"]
budget = ["50%"]
precision = ["int8"]
seed = [0, 1]
dimensions = 8
epochs = 3
"""
SMALL: dict[str, Any] = {"data": DATA, "backbone": "svd", "method": "uniform", "budget": "50%", "dimensions": 8}


def grid_command(folder: Path, out: str) -> list[str | Path]:
    (folder / "plan.toml").write_text(EIGHT)
    return ["grid", folder / "plan.toml", "--out", folder / out, "--workers", "2", "--no-verify", "--json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, command_line: CommandLine) -> Path:
    """The result file of a grid of eight cells that nothing interrupted."""
    folder = tmp_path_factory.mktemp("grid")
    done = command_line(*grid_command(folder, "whole.jsonl"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["failures"] == {}
    return folder / "whole.jsonl"


def killed_once(command: list[str | Path], out: Path, rows: int, delay: float) -> None:
    """Start the grid, let it make so many rows in all and go on for a moment, and kill it with all its processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgerec.cli", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and rows_in(out) < rows:
        time.sleep(0.01)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_grid_killed_twice_ends_with_the_file_of_one_that_was_not(
    whole: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    command, out, rng = grid_command(tmp_path, "killed.jsonl"), tmp_path / "killed.jsonl", random.Random()
    for rows in (0, 3):
        killed_once(command, out, rows, rng.uniform(0, 0.6))
        lines = out.read_bytes().splitlines(keepends=True) if out.exists() else []
        assert {line for line in lines if line.endswith(b"\n")} <= set(whole.read_bytes().splitlines(keepends=True))
    out.write_bytes(out.read_bytes() + whole.read_bytes()[:100])  # as a kill inside a write leaves it
    done = command_line(*command)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"plan.toml", "killed.jsonl", "killed.timings.jsonl"}


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_cells_and_the_same_command_goes_on(
    whole: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    command, out = grid_command(tmp_path, "stopped.jsonl"), tmp_path / "stopped.jsonl"
    rows = set(whole.read_bytes().splitlines())
    before = 0
    for wanted in (0, 3):  # 0: while it starts the first cells
        stopped = interrupted(command, lambda wanted=wanted: started(out) and rows_in(out) >= wanted)
        assert stopped.returncode == 130
        assert "the same command resumes" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert stopped.stdout == ""
        assert before <= rows_in(out) < 8
        assert not out.exists() or set(out.read_bytes().splitlines()) <= rows
        before = rows_in(out)
    done = command_line(*command)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"plan.toml", "stopped.jsonl", "stopped.timings.jsonl"}


HEAD = ("format", "version", "key")


def rows_in(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def started(out: Path) -> bool:
    """Whether the grid has cells of its own in work."""
    return any(out.with_name(f"{out.stem}.work").glob("*/cell.json"))


@pytest.mark.slow
def test_a_finished_grid_makes_nothing_again(whole: Path, command_line: CommandLine) -> None:
    before, timings = whole.read_bytes(), whole.with_name("whole.timings.jsonl").read_bytes()
    done = command_line(*grid_command(whole.parent, "whole.jsonl"))
    assert done.returncode == 0, done.stderr
    assert whole.read_bytes() == before
    assert whole.with_name("whole.timings.jsonl").read_bytes() == timings


def test_a_row_says_what_was_made(whole: Path) -> None:
    rows = read_rows(whole)
    assert len(rows) == 8
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    for row in rows:
        assert row["metrics"]["bundle"]["ndcg@20"] == pytest.approx(row["metrics"]["run"]["ndcg@20"], rel=0.1)
        assert row["table_bytes"] > 0
        assert row["layout"] in LAYOUTS
        assert row["cell"]["data_fingerprint"]
    assert {"a", "b", "c", "power", "steps"} == set(
        next(row for row in rows if row["cell"]["backbone"] == "svd")["chosen_settings"]
    )
    timings = [json.loads(line) for line in whole.with_name("whole.timings.jsonl").read_text().splitlines()]
    assert {timing["key"] for timing in timings} == {row["key"] for row in rows}
    assert all(timing["machine"]["python"] and timing["parts"]["train"] >= 0 for timing in timings)


@pytest.mark.slow
def test_a_half_trained_cell_goes_on(tmp_path: Path) -> None:
    """The grid's process alone is killed: its cell ends with it, and the next call takes up its checkpoint."""
    plan = {**SMALL, "backbone": "ials", "epochs": 100_000, "patience": 100_000}
    (tmp_path / "plan.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in plan.items()))
    command = [sys.executable, "-m", "edgerec.cli", "grid", str(tmp_path / "plan.toml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and epoch_in(tmp_path) < 100:
        time.sleep(0.01)
    (cell,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    cell.wait(60)
    reached = epoch_in(tmp_path)

    def interrupt(status: GridStatus) -> None:
        if epoch_in(tmp_path) != reached:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(GridPlan.parse(plan), tmp_path / "plan.jsonl", progress=interrupt)
    assert epoch_in(tmp_path) > reached
    assert not (tmp_path / "plan.jsonl").exists()


def epoch_in(folder: Path) -> int:
    """The epoch of the only checkpoint in a grid's work folder; 0 where there is none."""
    for path in folder.glob("plan.work/*/run/checkpoint.npz"):
        with np.load(path) as archive:
            return int(json.loads(archive["loop"].tobytes())["loop"]["epoch"])
    return 0


def test_a_failure_is_told_and_tried_again(tmp_path: Path) -> None:
    out, seen = tmp_path / "out.jsonl", []
    plan = GridPlan.parse({**SMALL, "budget": ["1KiB", "50%"]})  # less than ids and graphs take
    for _ in range(2):
        grid = run_grid(plan, out, workers=2, verify=False, progress=seen.append)
        ((name, reason),) = grid.failures.items()
        assert "1KiB" in name
        assert "smallest budget" in reason
        assert len(grid.rows) == len(read_rows(out)) == 1
    assert seen[-1].done == seen[-1].failed == 1
    late = replace(GridPlan.parse({**SMALL, "seed": 7}), timeout_minutes=1e-4)
    (reason,) = run_grid(late, out, verify=False).failures.values()
    assert "took longer" in reason


def test_failures_are_one_line_and_status_2(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "plan.toml").write_text(f'data="{DATA}"\nbackbone="svd"\nmethod="uniform"\nbudget="1KiB"\n')
    done = command_line("grid", "plan.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "smallest budget" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bundles_are_kept_where_wanted_and_verified(tmp_path: Path) -> None:
    grid = run_grid(GridPlan.parse(SMALL), tmp_path / "out.jsonl", bundles=tmp_path / "bundles")
    (bundle,) = (tmp_path / "bundles").iterdir()
    assert Recommender.load(bundle).manifest.nbytes == grid.rows[0]["bundle_bytes"]


def test_a_plan_spans_what_exists() -> None:
    plan = GridPlan.parse(
        {
            "data": [DATA],
            "backbone": ["svd", "ials"],
            "method": ["dense", "uniform"],
            "budget": ["50%", "25 %"],
            "precision": ["fp32", "int8"],
            "settings": {"ials": {"alpha": "none"}},
            "skip": [{"backbone": "svd", "budget": ["25%"]}, {"method": "dense", "precision": "int8"}],
        }
    )
    cells, notes = plan.cells()
    assert [cell.name.removeprefix(f"{DATA}/") for cell in cells] == [
        "svd/dense/full/fp32/0",
        "svd/uniform/50%/fp32/0",
        "svd/uniform/50%/int8/0",
        "ials/dense/full/fp32/0",
        "ials/uniform/50%/fp32/0",
        "ials/uniform/50%/int8/0",
        "ials/uniform/25%/fp32/0",
        "ials/uniform/25%/int8/0",
    ]
    assert notes == []
    assert cells[-1].settings == {"alpha": None}
    assert len({cell.key for cell in cells}) == len(cells)
    assert replace(cells[0], shared=replace(cells[0].shared, dimensions=9)).key != cells[0].key


def test_the_pages_plan_and_code_run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "grid.md").read_text()
    (tmp_path / "plan.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    cells, notes = GridPlan.read(tmp_path / "plan.toml").cells()
    assert notes == []
    assert len(cells) == 2 * 5 * 3 * 3  # backbones, methods with budgets, data with precisions but for one pair, seeds
    (tmp_path / "results.jsonl").write_bytes(whole.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(page.partition("```python\n")[2].partition("```")[0], {})


def test_a_pair_that_does_not_exist_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgerec.methods.rules import Uniform

    monkeypatch.setattr(Uniform, "backbones", frozenset({"ials"}))
    cells, notes = GridPlan.parse({**SMALL, "backbone": ["svd", "ials"]}).cells()
    assert [cell.backbone for cell in cells] == ["ials"]
    (note,) = notes
    assert "does not work with the backbone 'svd'" in note


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"speed": 1}, BenchError, "no speed"),
        ({"data": []}, BenchError, "lists no data"),
        ({"seed": "0"}, BenchError, "seed takes int"),
        ({"dimensions": 0}, BenchError, "from 1 up"),
        ({"timeout_minutes": 0}, BenchError, "above 0"),
        ({"settings": {"mf": {"lr": 1}}}, BenchError, "settings of mf"),
        ({"method_settings": {"fast": {}}}, BenchError, "method_settings of fast"),
        ({"settings": {"lr": 1}}, BenchError, r"\[settings.NAME\]"),
        ({"skip": [{"speed": 1}]}, BenchError, "skip"),
        ({"budget": []}, BenchError, "needs a budget"),
        ({"budget": "10 cows"}, BudgetError, "10 cows"),
        ({"method": "fast"}, UnsupportedError, "no method 'fast'"),
        ({"backbone": "fast"}, UnsupportedError, "no backbone 'fast'"),
        ({"precision": "fp8"}, UnsupportedError, "fp8"),
        ({"layout": "mixd"}, UnsupportedError, "no layout 'mixd'"),
        ({"data": "nowhere"}, DataError, "named sets"),
        ({"settings": {"svd": {"lr": 1}}}, UnsupportedError, "no setting lr"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_made(
    change: dict[str, Any], error: type[EdgeRecError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        run_grid(GridPlan.parse({**SMALL, **change}), tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_plan_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"plan\.toml"):
        GridPlan.read(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_text("data = [")
    with pytest.raises(BenchError, match=r"plan\.toml is not valid TOML"):
        GridPlan.read(tmp_path / "plan.toml")


def test_workers_and_threads_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="--workers 1"):
        run_grid(GridPlan.parse({**SMALL, "threads": 2}), tmp_path / "out.jsonl", workers=2)


@cache
def whole_row() -> dict[str, Any]:
    """The first row of a committed grid."""
    path = Path(__file__).parents[2] / "bench" / "results" / "reproduce-bet-gowalla.cells.jsonl"
    return dict(read_rows(path)[0])


def row(key: str) -> dict[str, Any]:
    return {"format": FORMAT, "version": 1, "key": key, **{n: v for n, v in whole_row().items() if n not in HEAD}}


@pytest.mark.slow
def test_a_torn_last_line_is_dropped_at_every_byte(tmp_path: Path) -> None:
    path, lines = tmp_path / "r.jsonl", [to_json(row(key), compact=True) for key in ("b", "a")]
    for length in range(1, len(lines[1])):
        path.write_bytes(lines[0] + lines[1][:length])
        assert [one["key"] for one in read_rows(path)] == ["b"]
        with GridFile(path) as file:
            file.add(row("a"))
            assert path.read_bytes() == b"".join(lines)
            file.sort()
        assert path.read_bytes() == lines[1] + lines[0]


def test_a_damaged_or_foreign_file_is_refused_and_kept(tmp_path: Path) -> None:
    path, whole = tmp_path / "r.jsonl", to_json(row("a"), compact=True)
    cases = ((b'{"format"\n', "line 2"), (b'{"format":"x","key":"y"}\n', "line 2"), (b"[]\n", "line 2"))
    for line, said in (*cases, (to_json({**row("b"), "version": 99}, compact=True), "newer")):
        path.write_bytes(whole + line)
        with pytest.raises(BenchError, match=said), GridFile(path):
            pass
        assert path.read_bytes() == whole + line


def test_one_grid_writes_a_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with GridFile(path), pytest.raises(BenchError, match="another grid"), GridFile(path):
        pass
    with GridFile(path) as file:
        assert file.rows == {}

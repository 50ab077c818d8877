"""The frontier: which bundles no other beats, how they are shown, and that a stopped one goes on."""

from __future__ import annotations

import csv
import json
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgerec.cli.app import group
from edgerec.errors import EdgeRecError
from edgerec_bench.frontier import (
    COLUMNS,
    Frontier,
    Point,
    commands,
    dominated_rows,
    front,
    front_rows,
    frontier_plan,
    points,
    rival_sentences,
    to_csv,
    to_markdown,
    to_ship,
)
from edgerec_bench.grid.plan import GridPlan
from edgerec_bench.grid.rows import read_rows
from edgerec_bench.grid.run import run_grid
from edgerec_bench.reports.frontier_page import SHAPES, frontier_svg, ship_sentence
from tests.conftest import CommandLine, interrupted

SMALL = ["--backbone", "svd", "--method", "dense", "--method", "popularity", "--budget", "50%", "--precision", "int8"]
SMALL += ["--seeds", "2", "--dimensions", "8"]
ROOT = Path(__file__).parents[2]
DATA = "synthetic:120x80x2400"


def point(nbytes: int, *scores: float, method: str = "popularity", precision: str = "int8") -> Point:
    return Point(method, "10%", precision, "mixed", nbytes, scores)


def test_the_front_is_what_no_other_beats() -> None:
    small, worse, same, better, large = (
        point(10, 0.2), point(12, 0.1), point(12, 0.2), point(20, 0.3, 0.5), point(30, 0.4)
    )  # fmt: skip
    assert front([large, better, same, worse, small]) == [small, better]
    assert front([]) == []
    twins = point(10, 0.2, precision="fp32"), point(10, 0.2)
    assert len(front(twins)) == 1
    assert front([point(10, 0.1), point(10, 0.2)]) == [point(10, 0.2)]


def test_seeds_make_one_point() -> None:
    def row(method: str, seed: int, nbytes: int, score: float) -> dict[str, Any]:
        cell = {"method": method, "budget": None, "precision": "int8", "seed": seed}
        return {"cell": cell, "layout": "mixed", "bundle_bytes": nbytes, "metrics": {"bundle": {"ndcg@20": score}}}

    first, second = points([row("dense", 0, 30, 0.4), row("random", 0, 10, 0.2), row("dense", 1, 32, 0.5)])
    assert (first.name, first.nbytes, first.scores, first.plain) == ("random int8", 10, (0.2,), False)
    assert (second.name, second.nbytes, second.score, second.plain) == ("dense int8", 31, pytest.approx(0.45), True)
    assert Point.from_json(json.loads(json.dumps(second.to_json()))) == second


def test_tables_name_the_front_and_what_beats_the_others() -> None:
    listed = [point(1024, 0.2), point(2048, 0.1), point(4096, 0.3, 0.5), point(4000, 0.25, method="uniform")]
    rows = front_rows(listed)
    assert [row[0].partition(". ")[0] for row in rows] == ["1", "2", "3"]
    assert rows[-1][1:] == ["4.0 KiB", "0.4000", "0.3000 to 0.5000", "0.2500", "mixed"]
    assert rows[0][-2] == ""  # no plain bundle is that small
    (beaten,) = dominated_rows(listed)
    assert beaten[-2] == "1. popularity 10% int8"
    assert len(beaten) == len(COLUMNS)
    assert to_markdown(listed).count("\n") == 2 + len(rows)
    table = list(csv.DictReader(StringIO(to_csv(listed))))
    assert [row["front"] for row in table] == ["1", "0", "1", "1"]
    assert float(table[2]["ndcg@20"]) == 0.4


def test_the_plan_has_every_combination() -> None:
    cells, notes = frontier_plan("ml-100k").cells()
    assert notes == []
    assert len(cells) == 3 * (3 * (1 + 3 * 4) + 4)  # seeds, precisions, methods with budgets, budgets of the fitted


@pytest.mark.slow
def test_a_full_table_is_fitted_into_the_budget(tmp_path: Path) -> None:
    plan = frontier_plan(DATA, method=["dense", "popularity"], budget=["30%", "12KiB"], precision=["auto"], seeds=1)
    grid = run_grid(plan, tmp_path / "cells.jsonl", verify=False)
    assert grid.failures == {}
    small, large = points(grid.rows)
    assert (small.name, large.name) == ("fitted to 12KiB", "fitted to 30%")
    assert small.nbytes <= 12 << 10
    assert large.nbytes <= 0.3 * 4 * 64 * (120 + 80)
    assert not small.plain


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "popularity"}, "skip the pair"),
        ({"budget": "8B/row"}, "takes budgets such as"),
        ({"budget": []}, "the precision 'auto' needs a budget"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict[str, Any], said: str) -> None:
    wanted = {"data": DATA, "backbone": "svd", "method": "dense", "budget": "50%", "precision": "auto", **change}
    with pytest.raises(EdgeRecError, match=said):
        GridPlan.parse(wanted).cells()


@pytest.mark.slow
def test_it_draws_goes_on_and_tells_its_command(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ["frontier", DATA, *SMALL, "--out", "page.html", "--workers", "1"]
    cells = tmp_path / "page.jsonl"
    stopped = interrupted(arguments, lambda: cells.exists() and cells.stat().st_size > 0, cwd=tmp_path)
    assert stopped.returncode == 130
    assert "the same command resumes" in stopped.stderr
    before = read_rows(cells)
    assert 0 < len(before) < 4
    assert not (tmp_path / "page.json").exists()
    done = command_line(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row for row in read_rows(cells) if row in before] == before
    told = json.loads(done.stdout)
    assert len(told["points"]) == 2
    assert all(len(one["scores"]) == 2 for one in told["points"])
    record = json.loads((tmp_path / "page.json").read_text())
    assert record["format"] == "edgerec.frontier"
    assert record["points"] == told["points"]
    assert record["command"] == " ".join(["edgerec", "frontier", DATA, *SMALL])
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "popularity" in page
    assert told["ship"]["name"] in {one.name for one in map(Point.from_json, told["points"])}
    assert all(f"{command}" in page for command in told["ship"]["commands"])
    for suffix in (".md", ".csv"):
        assert (tmp_path / f"page{suffix}").read_text()


def test_the_smallest_bundle_of_about_the_best_quality_is_to_ship() -> None:
    small, near, best = point(10, 0.2), point(20, 0.397), point(90, 0.4, method="uniform")
    assert to_ship([best, near, small]) == near
    assert ship_sentence([small, near, best]) == (
        "Ship popularity 10% int8: 20 B, 4.5 times smaller than the best (uniform 10% int8), "
        "with the same quality within 0.8 %."
    )
    assert ship_sentence([small, best]) == "Ship uniform 10% int8: 90 B, and no larger bundle is better."
    assert to_ship([]) is None


def test_a_fitted_point_of_an_older_record_has_no_commands() -> None:
    fields = {**point(10, 0.2, method="dense", precision="auto").to_json(), "max_bytes": 700}
    assert "--max-bytes 700" in commands(Point.from_json(fields), "films", {"backbone": "mf", "dimensions": 8})[1]
    del fields["max_bytes"]
    assert commands(Point.from_json(fields), "films", {"backbone": "mf", "dimensions": 8}) == []


def test_the_commands_read_the_data_as_the_trial_did() -> None:
    train, _ = commands(point(10, 0.2), "films.csv", {"backbone": "mf", "dimensions": 8, "encoding": "cp1251"})
    assert "--encoding cp1251" in train


@pytest.mark.slow
def test_the_commands_build_the_bundles_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, Any] = {"method": ["dense", "popularity"], "budget": ["50%"], "precision": ["int8", "auto"]}
    plan = frontier_plan(DATA, backbone="svd", seeds=1, **chosen)
    grid = run_grid(plan, tmp_path / "cells.jsonl", verify=False)
    assert grid.failures == {}
    monkeypatch.chdir(tmp_path)
    for one in points(grid.rows):
        for command in commands(one, DATA, {"backbone": "svd", "dimensions": 64}):
            done = CliRunner().invoke(group, [*shlex.split(command)[1:], "--overwrite"])
            assert done.exit_code == 0, done.output
        assert sum(path.stat().st_size for path in Path("best.bundle").iterdir()) == one.nbytes, one.name


@pytest.mark.slow
def test_the_chart_names_every_point_of_the_front() -> None:
    record = json.loads((ROOT / "bench" / "results" / "frontier-ml-100k.json").read_text())
    listed = [Point.from_json(fields) for fields in record["points"]]
    for shape in SHAPES:
        drawn = frontier_svg(listed, shape)
        assert all(f">{one.name}</text>" in drawn for one in front(listed))
        assert not any(f">{one.name}</text>" in drawn for one in listed if one not in front(listed))


@pytest.mark.slow
def test_a_cell_that_fails_is_told_on_the_page(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ["frontier", DATA, *SMALL, "--seeds", "1", "--budget", "1KiB"]
    done = command_line(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "smallest budget" in done.stderr
    assert "1KiB" in (tmp_path / "frontier.html").read_text()


def test_the_page_is_no_other_file(tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line("frontier", "--quick", "--out", "mine.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out mine.html" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_title_says_what_was_trained() -> None:
    settings = {"backbone": "mf", "dimensions": 8, "seeds": 1}
    assert Frontier("films", settings, [], [], "").title == "Quality per byte: films, mf, 8 dimensions"


def test_the_pages_table_is_that_of_the_result() -> None:
    record = json.loads((ROOT / "bench" / "results" / "frontier-ml-100k.json").read_text())
    listed = [Point.from_json(fields) for fields in record["points"]]
    assert to_markdown(listed) in (ROOT / "docs" / "guide" / "frontier.md").read_text()
    assert [fields["front"] for fields in record["points"]].count(True) == len(front(listed))


def test_a_method_that_is_beaten_at_each_size_is_named() -> None:
    plain, best, beaten = point(10, 0.2, method="uniform"), point(20, 0.4, method="magnitude"), point(30, 0.3)
    (sentence,) = rival_sentences([beaten, best, plain])
    assert sentence.startswith("popularity is beaten at each of its sizes: its best has 0.3000 in 30 B")
    assert "magnitude 10% int8 has 0.4000 in 20 B" in sentence
    assert rival_sentences([plain, best]) == []


def test_without_users_each_cell_and_command_says_so() -> None:
    settings = {"backbone": "ials", "seeds": 1, "dimensions": 8, "users": False}
    (cell,), _ = frontier_plan(DATA, **{**settings, "method": ["dense"], "precision": ["int8"]}).cells()
    assert not cell.options(1000, verify=False).users
    assert cell.to_json()["shared"]["users"] is False
    assert commands(point(10, 0.1), DATA, settings)[1].endswith("--no-users --out best.bundle")
    usual, _ = frontier_plan(DATA, method=["dense"], precision=["int8"], seeds=1).cells()
    assert "users" not in usual[0].to_json()["shared"]  # keys of older rows stay

"""What a page and `--json` tell of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import train
from edgerec.cli.app import run
from edgerec.data import Interactions
from edgerec.errors import BenchError, RunError
from edgerec.methods.search.history import FILE_NAME, SearchHistory
from edgerec.training import FitOptions
from edgerec_bench.reports.search import SearchFigures, search_figures, spearman


def entry(number: int, fitness: float | None, **changes: Any) -> dict[str, Any]:
    sizes = {"users": [float(part) for part in range(10)], "items": [1.0] * 10}
    fields = {"iteration": number, "action": {}, "strategy": "greedy", "predicted": None, "fitness": fitness}
    return {**fields, "density": 0.1, "seconds": 2.0, "sizes": sizes, **changes}


@pytest.fixture(scope="module")
def folder(interactions: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of BET with twelve judged actions."""
    out = tmp_path_factory.mktemp("runs") / "films"
    settings = {"iterations": 12, "candidates": 5, "retrain": 2}
    options = FitOptions(threads=1, max_epochs=2)
    train(interactions, method="bet", budget="25%", dimensions=16, method_settings=settings, **vars(options), out=out)
    return out


def test_rank_correlation_is_spearmans() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 15)).astype(float)  # with ties
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1], [1]) is spearman([1, 2], [5, 5]) is spearman([], []) is None


def test_the_best_so_far_is_within_the_budget() -> None:
    densities = [0.3, 0.1, 0.05, 0.2, 0.08]
    values = [0.9, 0.5, 0.7, 0.95, 0.6]
    entries = [entry(n, value, within=d <= 0.1) for n, (value, d) in enumerate(zip(values, densities, strict=True))]
    found = SearchFigures.of(entries)
    assert found.best == [None, 0.5, 0.7, 0.7, 0.7]
    assert found.best_at == 2
    unsaid = [{name: value for name, value in one.items() if name != "within"} for one in entries]
    assert SearchFigures.of(unsaid).best == [0.9, 0.9, 0.9, 0.95, 0.95]
    assert SearchFigures.of([{**one, "within": False} for one in entries]).best_at is None
    assert found.seconds == 10


def test_predictions_are_compared_where_there_are_any() -> None:
    entries = [entry(0, 0.9), *(entry(n, 0.1 * n, predicted=1.0 * n) for n in range(1, 5))]
    found = SearchFigures.of([*entries, entry(2, None, strategy="retrain", eval=0.31)])
    assert found.pairs == ([1, 2, 3, 4], pytest.approx([0.1, 0.2, 0.3, 0.4]))
    assert found.rank_correlation == pytest.approx(1)
    assert found.trained == [0.31]
    assert len(found.fitness) == 5
    assert SearchFigures.of(entries[:1]).rank_correlation is None


@pytest.mark.slow
def test_json_is_what_the_history_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(folder), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    judged = SearchHistory(folder).evaluated
    assert found["fitness"] == [entry["fitness"] for entry in judged]
    assert found["best"] == np.maximum.accumulate(found["fitness"]).tolist()
    assert found["predicted"] == [entry["predicted"] for entry in judged]
    assert found["sizes"]["items"] == [entry["sizes"]["items"] for entry in judged]
    assert len(found["trained"]) == 2 + 1  # one size for all, too
    known = [number for number, value in enumerate(found["predicted"]) if value is not None]
    pairs = [[found[name][number] for number in known] for name in ("predicted", "fitness")]
    assert found["rank_correlation"] == pytest.approx(spearman(*pairs))


def test_the_page_draws_the_search_beside_the_run(folder: Path, tmp_path: Path) -> None:
    assert run(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    for label in ("fitness against iteration", "sizes against popularity", "true against predicted fitness"):
        assert page.count(f'aria-label="{label}"') == 1
    assert 'aria-label="values of a row against interactions of a row"' in page
    assert "Rank correlation" in page
    assert "density against iteration" not in page  # all keep to the budget


def test_a_search_that_is_not_finished_is_drawn_alone(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    lines = (folder / FILE_NAME).read_bytes().splitlines(keepends=True)
    (half / FILE_NAME).write_bytes(b"".join(lines[:7]) + lines[7][:20])
    assert run(["report", str(half), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "fitness of 7 actions" in page
    assert "interactions of a row" not in page


def test_densities_are_drawn_where_they_differ(tmp_path: Path) -> None:
    history = SearchHistory(tmp_path / "search")
    for number in range(6):
        history.add(entry(number, 0.5 + 0.05 * number, strategy="walk", density=0.1 + 0.1 * number))
    assert run(["report", str(tmp_path / "search"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "density against iteration" in page
    assert "predicted fitness" not in page


def test_other_subjects_have_no_such_figures(
    folder: Path, interactions: Interactions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = FitOptions(threads=1, max_epochs=1)
    train(interactions, budget="25%", dimensions=8, **vars(options), out=tmp_path / "plain")
    assert search_figures(tmp_path / "plain") is None
    with pytest.raises(BenchError, match="methods that search"):
        run(["report", str(folder), str(tmp_path / "plain"), "--json"])
    with pytest.raises(BenchError, match="--format html"):
        run(["report", str(folder), "--format", "csv"])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RunError, match="is no run"):
        run(["report", str(tmp_path / "nothing"), "--json"])

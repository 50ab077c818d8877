"""The comparison at scale, at a small scale: answers are checked, figures are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgerec.errors import BenchError
from edgerec_bench import read_results, report, scale
from edgerec_bench.scale import compare, main, make_tables
from edgerec_bench.scale_result import ScaleResult
from edgerec_bench.scale_rows import scale_rows, targets


@pytest.fixture(scope="module")
def result() -> ScaleResult:
    patch = pytest.MonkeyPatch()
    patch.setattr(scale, "QUESTION", {**scale.QUESTION, "calls": 20, "seconds": 0.0})
    with patch.context():
        return compare(6000, dimensions=16, users=50, rounds=1)


def test_every_contender_answers_with_numpys_best(result: ScaleResult) -> None:
    assert [one.name for one in result.contenders][:2] == ["plain dense ONNX", "plain dense, no prepacking"]
    shares = {one.name: one.same_top for one in result.contenders}
    assert all(share == 1 for name, share in shares.items() if "int8" not in name)
    assert shares["EdgeRec mixed int8"] > 0.8


def test_mixed_bundles_are_smaller_than_dense(result: ScaleResult) -> None:
    sizes = {one.name: one.nbytes for one in result.contenders}
    assert sizes["EdgeRec mixed int8"] < sizes["EdgeRec mixed fp32"] < sizes["plain dense ONNX"]


def test_rows_and_targets_have_a_place_for_everything(result: ScaleResult) -> None:
    assert [row[0] for row in scale_rows(result)] == [one.name for one in result.contenders]
    assert any("load" in text for text, _ in targets(result))


def test_it_comes_back_equal_and_shows_on_the_page(result: ScaleResult, tmp_path: Path) -> None:
    from edgerec_bench import write_results

    write_results(tmp_path / "scale.json", [result])
    assert read_results(tmp_path / "scale.json") == [result]
    report([result], tmp_path / "report.html")
    assert "EdgeRec mixed fp32" in (tmp_path / "report.html").read_text()


def test_a_wrong_answer_is_no_contender() -> None:
    scores = np.arange(100, dtype=np.float32)[None]
    with pytest.raises(BenchError, match="its speed means nothing"):
        scale._same_top("EdgeRec mixed fp32", [list(range(20))], scores, np.array([80], np.float32))


def test_sizes_follow_the_distribution() -> None:
    tables = make_tables(50_000, 64, 5)
    assert 0.11 < tables.items.n_values / (50_000 * 64) < 0.13
    assert np.unique(tables.items.row_sizes).tolist() == scale.WIDTHS.tolist()


def test_too_few_items_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--items", "3"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: ")

"""Fitting what bundles cost: known terms come back, and a small measurement makes a table that export reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.tables import PrefixTable
from edgerec_bench import calibrate as module
from edgerec_bench.calibrate import BundleTiming, Effort, fit, main
from edgerec_export.cost import TERMS, Calibration
from edgerec_export.layouts import LAYOUTS, LayoutVariant, TablePlan, TableRequest
from tests.bench.conftest import status_of


def plan(rows: int, widths: tuple[int, ...]) -> TablePlan:
    sizes = np.resize(widths, rows)
    table = PrefixTable(np.ones(int(sizes.sum()), np.float32), sizes, 32)
    return LAYOUTS["mixed"].plan(TableRequest(table, "int8", np.arange(rows)), LayoutVariant((widths,)))


def test_known_terms_come_back() -> None:
    known = Calibration("", {"mixed/int8": (20.0, 1.5, 0.7, 0.05)})
    plans = [plan(rows, widths) for rows in (200, 3000, 20_000) for widths in ((6,), (32,), (1, 4, 16, 32))]
    found = fit("mixed/int8", [BundleTiming(one, 1.0, 1e3 * known.ms(one, 1.0)) for one in plans])
    np.testing.assert_allclose(found.terms, known.terms["mixed/int8"], rtol=1e-6)
    assert max(map(abs, found.errors)) < 1e-9


def test_a_contested_processor_is_told() -> None:
    points = [BundleTiming(plan(rows, (6,)), 1.0, 100.0 + rows, 0.5) for rows in (200, 3000, 20_000)]
    assert "other programs took up to 50%" in str(module.warning([fit("mixed/int8", points)]))
    assert module.warning([fit("mixed/int8", [replace(point, cpu_share=1.0) for point in points])]) is None


def test_what_is_not_measured_is_scaled_by_what_is_in_both() -> None:
    rest = Calibration("", {"mixed/int8": (10.0, 1.0, 0.5, 0.1), "ell/int8": (8.0, 2.0, 0.0, 1.0)})
    measured = [module.FittedTerms("mixed/int8", (20.0, 2.0, 1.0, 0.2), (), 1.0)]
    found = module.completed([*measured, module.FittedTerms("mixed/int2", (1.0, 1.0, 1.0, 1.0), (), 1.0)], rest)
    assert found["mixed/int8"] == measured[0].terms
    np.testing.assert_allclose(found["ell/int8"], (16.0, 4.0, 0.0, 2.0))
    assert set(found) == {"mixed/int8", "mixed/int2", "ell/int8"}


def test_other_programs_do_not_count() -> None:
    assert module._ms({"p50_ms": 1.0, "mean_ms": 1.2, "cpu_share": 0.98}) == 1.0
    assert module._ms({"p50_ms": 4.0, "mean_ms": 5.0, "cpu_share": 0.4}) == 2.0


def test_no_term_is_negative() -> None:
    falling = [BundleTiming(plan(rows, (6,)), 1.0, 100.0 - rows / 1000) for rows in (200, 3000, 20_000)]
    assert min(fit("mixed/int8", falling).terms) >= 0


@pytest.mark.slow
def test_a_measured_table_is_what_export_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "QUICK", Effort((300,), (100,), 1))
    monkeypatch.setattr(module, "CALL_SETTINGS", {**module.CALL_SETTINGS, "calls": 5, "seconds": 0.0})
    out = tmp_path / "calibration.json"
    keys = ("csc/fp32", "csr/int8")
    assert status_of(main, ["--quick", *(word for key in keys for word in ("--only", key)), "--out", str(out)]) == 0
    assert all(key in capsys.readouterr().out for key in keys[:1])
    table = Calibration.read(out)
    assert set(table.terms) == set(keys)
    written = json.loads(out.read_text())
    assert set(written["terms"]["csc/fp32"]) == set(TERMS)
    assert written["command"].endswith("--quick --only csc/fp32 --only csr/int8")


def test_an_unknown_pair_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(main, ["--only", "mixed/int3"]) == 2
    assert capsys.readouterr().err.startswith("Error: unknown layout and precision 'mixed/int3'")

"""The benchmark of loading: fresh processes, every step timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiments.load import STEPS, cells, measure
from edgerec_export import export
from tests.conftest import random_source


def test_every_step_is_timed(tmp_path: Path) -> None:
    bundle = export(random_source(500, 120), tmp_path / "b", verify=False).folder
    found = measure(bundle, 5, processes=1)
    assert all(found[name] > 0 for name in STEPS)
    assert found["beyond_onnxruntime_ms"] == pytest.approx(sum(found[name] for name in STEPS[1:]))
    row = {"layout": "mixed", "precision": "int8", "bytes": 2048, **found}
    assert cells(row)[:2] == ["mixed int8", "2.0 KiB"]

"""Wide rows are exported: verification allows what a layout decodes at a time, and that is bounded."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.models.scorer import NeuMFScorer
from edgerec_export import export, from_arrays
from edgerec_export.onnx import rows_a_step
from edgerec_export.onnx.decode import VALUES_A_STEP


def tables(n_items: int, d: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_items, d), np.float32), rng.standard_normal((50, d), np.float32)


@pytest.mark.parametrize(("d", "precision"), [(256, "fp32"), (512, "int4")])
def test_wide_rows_are_exported_as_csr(d: int, precision: str, tmp_path: Path) -> None:
    done = export(
        from_arrays(*tables(4096, d)), tmp_path / "b", layout="csr", precision=precision, similar=False, max_rss=1 << 30
    )
    assert done.verification is not None
    assert done.peak_bytes is not None
    assert done.peak_bytes <= done.chosen.tried[0].cost.peak_bytes


def test_rows_that_a_network_scores_in_a_batch_are_exported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    widths = [96, 48, 24, 1]
    layers = tuple(
        (rng.standard_normal(shape, np.float32) / 10, rng.standard_normal(shape[1], np.float32))
        for shape in pairwise(widths)
    )
    scorer = NeuMFScorer(rng.standard_normal(16, np.float32), layers)
    done = export(from_arrays(*tables(5000, 64), scorer=scorer), tmp_path / "b", layout="dense", similar=False)
    assert done.verification is not None


def test_of_wider_rows_fewer_are_decoded_together() -> None:
    assert rows_a_step(10_000, 64) == rows_a_step(10_000, 256) == 4096
    assert rows_a_step(100, 64) == 100
    for d in (257, 1000, 1 << 21):
        assert rows_a_step(10_000, d) == max(1, VALUES_A_STEP // d)

"""CSC in many stretches, as a million rows have them: scored some at a time, in numpy's result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgerec.tables import DenseTable, SparseTable
from edgerec_export import Options, Source, export
from edgerec_export.layouts import csc
from edgerec_export.values import PRECISIONS

D, USERS = 16, 30


@pytest.mark.parametrize("n_items", [300, 1000, 5000])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_many_stretches_equal_numpy(
    precision: str, n_items: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verification scores random and adversarial users, looks rows up, and compares with numpy."""
    monkeypatch.setattr(csc, "STRETCH", 128)
    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((n, D)).astype(np.float32) for n in (n_items, USERS))
    items[rng.random(items.shape) < 0.8] = 0
    items[256:384, 3] = 0  # a list without values
    source = Source(SparseTable.from_dense(items), np.arange(n_items), DenseTable(users), np.arange(USERS))
    done = export(source, tmp_path / "b", Options("csc", precision, similar=True))
    assert done.verification is not None

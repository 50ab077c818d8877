"""Rows that several ranks train: those that each draws are those of one process."""

from __future__ import annotations

import pytest
import torch

from edgerec.models import shared_rows
from edgerec.models.shared_rows import drawn_rows


@pytest.mark.parametrize(("n", "d"), [(100, 5), (64, 1), (79, 3), (47, 1), (48, 1), (33, 2), (3, 2), (1, 1)])
def test_the_rows_of_ranks_are_drawn_as_those_of_one_process(n: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_rows, "_DRAWN_AT_ONCE", 32)
    whole, piecewise = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    drawn = torch.randn(n, d, generator=whole)
    found = drawn_rows(n, d, [slice(0, n // 3), slice(n // 2, n)], piecewise)
    assert torch.equal(found, torch.cat([drawn[: n // 3], drawn[n // 2 :]]))
    assert torch.equal(piecewise.get_state(), whole.get_state())

"""Lookups of what users have: exact, whether each pair has a bit or many share one, in memory that follows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.data import Interactions
from edgerec.models import mf
from edgerec.models.mf import Observed


def drawn(n_users: int, n_items: int, n: int, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.from_pairs(rng.integers(n_users, size=n), rng.integers(n_items, size=n))


def exactly(train: Interactions, lookup: Observed) -> bool:
    """Whether every pair that could be asked for is answered as it is."""
    expected = np.zeros((train.n_users, train.n_items), bool)
    expected[train.user_rows(), train.indices] = True
    users, items = torch.arange(train.n_users)[:, None], torch.arange(train.n_items)
    return np.array_equal(lookup(users, items).numpy(), expected)


@settings(deadline=None)
@given(n_users=st.integers(1, 40), n_items=st.integers(1, 60), n=st.integers(1, 300), seed=st.integers(0, 9))
@pytest.mark.parametrize("bits", [1, 3, 64])
def test_answers_are_exact(bits: int, n_users: int, n_items: int, n: int, seed: int) -> None:
    train = drawn(n_users, n_items, n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mf, "_BITS", bits)
        assert exactly(train, Observed(train))


def test_items_of_a_user_may_be_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mf, "_BITS", 1)
    train = drawn(20, 50, 300)
    by_time = np.lexsort((-train.indices, train.user_rows()))
    assert exactly(train, Observed(replace(train, indices=train.indices[by_time])))


def test_memory_follows_the_interactions_and_not_the_cells() -> None:
    train = drawn(50_000, 40_000, 100_000)
    lookup = Observed(train)
    assert lookup.nbytes == 16 * len(train)
    users, items = (
        torch.from_numpy(train.user_rows().astype(np.int64)),
        torch.from_numpy(train.indices.astype(np.int64)),
    )
    assert lookup(users, items).all()
    others = torch.randint(train.n_items, (200_000,), generator=torch.Generator().manual_seed(0))
    asked = torch.arange(200_000) % train.n_users
    have = set(zip(users.tolist(), items.tolist(), strict=True))
    assert lookup(asked, others).tolist() == [
        pair in have for pair in zip(asked.tolist(), others.tolist(), strict=True)
    ]


def test_a_small_catalogue_has_a_bit_for_each_pair() -> None:
    train = drawn(100, 80, 4000)
    assert Observed(train).nbytes == 1000


def test_few_bits_are_shared_by_a_pair_that_somebody_has() -> None:
    """Else nearly all pairs would be searched for."""
    train = drawn(5000, 4000, 20_000)
    lookup = Observed(train)
    asked = torch.randint(4000, (100_000,), generator=torch.Generator().manual_seed(1))
    keys = torch.arange(100_000) % 5000 * 4000 + asked
    places = lookup._places(keys)
    hit = ((lookup._flags[places >> 3] >> (places & 7)) & 1).float().mean()
    assert 0.01 < float(hit) < 0.025

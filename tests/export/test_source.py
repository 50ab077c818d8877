"""Tables brought along: arrays, torch embeddings, implicit models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from threadpoolctl import threadpool_limits

from edgerec.data import synthetic
from edgerec.errors import ExportError, TableError
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable, PrefixTable
from edgerec_export import export, from_arrays, from_embedding, from_implicit


def best(items: np.ndarray, user: np.ndarray, k: int) -> list[int]:
    return np.argsort(-(items @ user), kind="stable")[:k].tolist()


def test_arrays_keep_their_row_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items, users = rng.standard_normal((60, 8)), rng.standard_normal((9, 8))
    model = Recommender.load(export(from_arrays(items, users), tmp_path / "b").folder)
    assert [a.item for a in model.recommend(4, 5)] == best(items, users[4], 5)


def test_a_prefix_mask_is_found() -> None:
    items = np.ones((4, 6), np.float32)
    items[0, 2:] = 0
    items[1] = 0
    found = from_arrays(items, np.ones((2, 6)))
    assert isinstance(found.items, PrefixTable)
    assert found.items.sizes().tolist() == [2, 1, 6, 6]
    assert isinstance(found.users, DenseTable)


def test_torch_embeddings(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    items, users = (torch.nn.Embedding.from_pretrained(torch.randn(n, 8, generator=generator)) for n in (50, 10))
    source = from_embedding(items, users, item_ids=[f"i{n}" for n in range(50)])
    model = Recommender.load(export(source, tmp_path / "b").folder)
    expected = best(items.weight.numpy(), users.weight.numpy()[3], 5)
    assert [a.item for a in model.recommend(3, 5)] == [f"i{n}" for n in expected]


def test_implicit_models(tmp_path: Path) -> None:
    als = pytest.importorskip("implicit.als")
    data = synthetic(n_users=80, n_items=60, n=1200)
    with threadpool_limits(1, "blas"):
        fitted = als.AlternatingLeastSquares(factors=8, iterations=3, random_state=0, num_threads=1)
        fitted.fit(scipy.sparse.csr_matrix(data.matrix()), show_progress=False)
    model = Recommender.load(export(from_implicit(fitted), tmp_path / "b").folder)
    expected = best(fitted.item_factors, fitted.user_factors[7], 5)
    assert [a.item for a in model.recommend(7, 5)] == expected


def test_an_unfitted_model_is_refused() -> None:
    with pytest.raises(ExportError, match="fit it first"):
        from_implicit(object())


def test_parts_that_do_not_fit_are_refused() -> None:
    items, users = np.ones((3, 2)), np.ones((2, 2))
    with pytest.raises(ExportError, match="dimensions"):
        from_arrays(items, np.ones((2, 3)))
    with pytest.raises(ExportError, match="3 item rows need as many ids"):
        from_arrays(items, users, item_ids=[1, 2])
    with pytest.raises(ExportError, match="repeat"):
        from_arrays(items, users, item_ids=[1, 2, 2])
    with pytest.raises(ExportError, match="integers or text"):
        from_arrays(items, users, user_ids=[0.5, 1.5])
    with pytest.raises(TableError, match="finite"):
        from_arrays(np.full((3, 2), np.nan), users)

"""NCF models: scores that a perceptron makes, in every layout and precision, with bounded memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgerec.errors import ExportError, UnsupportedError
from edgerec.models.scorer import NeuMFScorer
from edgerec.runtime import Recommender
from edgerec_export import ExportRequest, Source, export, export_request, from_arrays
from edgerec_export.layouts import FORMS
from tests.vectors.folding import of_tables_alone


def neumf(d: int = 12, products: int = 4, hidden: tuple[int, ...] = (16, 8), seed: int = 0) -> NeuMFScorer:
    rng = np.random.default_rng(seed)
    widths = [2 * (d - products), *hidden, 1]
    layers = [
        (rng.standard_normal((a, b), np.float32) / np.float32(np.sqrt(a)), rng.standard_normal(b, np.float32))
        for a, b in pairwise(widths)
    ]
    return NeuMFScorer(rng.standard_normal(products, np.float32), tuple(layers))


def source(n_items: int, scorer: NeuMFScorer, n_users: int = 40, seed: int = 1) -> Source:
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((n, scorer.d), np.float32) for n in (n_items, n_users)]
    return from_arrays(*tables, item_ids=np.arange(n_items) * 2 + 5, scorer=scorer)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "precision"), FORMS)
def test_every_form_answers_as_numpy(layout: str, precision: str, tmp_path: Path) -> None:
    """Verification asks `recommend` and `score`, in a fresh process; 9,000 items are three chunks, 5,000 are two."""
    done = export(
        source(5000 if layout == "csc" else 9000, neumf()), tmp_path / "b", layout=layout, precision=precision
    )
    assert done.verification is not None
    assert "similar" not in Recommender.load(done.folder).manifest.graphs


@pytest.mark.parametrize(("products", "hidden"), [(0, (8,)), (6, ()), (3, (16, 8, 4)), (1, (1,))])
def test_every_shape_of_network(products: int, hidden: tuple[int, ...], tmp_path: Path) -> None:
    scorer = neumf(products=products, hidden=hidden)
    from_source = source(300, scorer)
    done = export(from_source, tmp_path / "b", layout="dense")
    model = Recommender.load(done.folder)
    assert not [found for path in done.folder.glob("*.onnx") for found in of_tables_alone(path)]
    assert from_source.users is not None
    exact = scorer.scores(from_source.users.dense()[:1].astype(float), from_source.items.dense().astype(float))[0]
    best = model.recommend(0, k=10)
    assert [one.item for one in best] == from_source.item_ids[np.argsort(-exact)[:10]].tolist()
    np.testing.assert_allclose([one.score for one in best], np.sort(exact)[::-1][:10], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_memory_does_not_follow_catalogue_times_network(tmp_path: Path) -> None:
    """One user's hidden values of 120,000 items would take 61 MB."""
    done = export(source(120_000, neumf(d=16, hidden=(128, 64))), tmp_path / "b", layout="dense", max_rss=40_000_000)
    assert done.peak_bytes is not None


def test_what_follows_from_inner_products_is_refused(tmp_path: Path) -> None:
    given = source(100, neumf())
    for options in (
        ExportRequest(precision="auto", max_bytes=9000),
        ExportRequest(fit=True, max_bytes=9000),
        ExportRequest(similar=True),
        ExportRequest(users=False),
    ):
        with pytest.raises(UnsupportedError):
            export_request(given, tmp_path / "b", options)
    with pytest.raises(ExportError, match="12 dimensions"):
        from_arrays(np.ones((3, 5)), np.ones((2, 5)), scorer=neumf())


def test_layers_that_do_not_follow_are_refused() -> None:
    weights = np.ones((8, 4), np.float32)
    with pytest.raises(ValueError, match="follow"):
        NeuMFScorer(np.ones(2, np.float32), ((weights, np.ones(4, np.float32)), (weights, np.ones(4, np.float32))))
    with pytest.raises(ValueError, match="last layer"):
        NeuMFScorer(np.ones(2, np.float32), ((weights, np.ones(4, np.float32)),))

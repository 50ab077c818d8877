"""Users made on the device: equal to float64 on the shipped rows, and popularity where there is no history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.budget import MOST_POPULAR
from edgerec.errors import ExportError, SettingError, VerificationError
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec_export import ExportRequest, Source, export, export_request, from_arrays
from edgerec_export.choose import choose
from edgerec_export.pack import packed_in_memory
from edgerec_export.values import PRECISIONS
from edgerec_export.verify import verify

N_ITEMS, D = 600, 24
ALPHA, REG = 3.0, 20.0

Histories = NDArray[np.int64]


def source(encoder: Encoder, n_items: int = N_ITEMS, counts: bool = True) -> Source:
    """Items as training leaves them: from strong dimensions to weak ones, long rows where they are popular."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((n_items, D)) * np.geomspace(3, 0.2, D) + np.eye(D)[0]
    popularity = rng.permutation(n_items) // 2  # in pairs of equals
    items *= np.sqrt((popularity[:, None] + 20) / n_items)
    given_counts = popularity if counts else None
    return from_arrays(items, None, item_ids=np.arange(n_items) * 2 + 5, encoder=encoder, item_counts=given_counts)


def linear() -> LinearEncoder:
    rng = np.random.default_rng(1)
    matrix, bias = rng.standard_normal((D, D), np.float32), rng.standard_normal(D, np.float32)
    return LinearEncoder(rng.random(N_ITEMS, np.float32), 0.5, matrix, bias)


@cache
def shipped(precision: str) -> tuple[Bundle, NDArray[np.float64]]:
    """A least-squares bundle, and the rows that it ships."""
    options = ExportRequest("mixed", precision, verify=False)
    asked = source(LeastSquaresEncoder(ALPHA, REG))
    done = export_request(asked, Path(mkdtemp()) / "b", options)
    rows = packed_in_memory(choose(asked, options).draft).lookup.rows(np.arange(N_ITEMS))
    return Bundle(done.folder), rows.astype(np.float64)


def solved(rows: NDArray[np.float64], history: Histories) -> NDArray[np.float64]:
    """(d,) of one history, by a float64 solve."""
    x = rows[history[history >= 0]]
    left = rows.T @ rows + REG * np.eye(rows.shape[1]) + ALPHA * x.T @ x
    found: NDArray[np.float64] = np.linalg.solve(left, (1 + ALPHA) * x.sum(0))
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@given(st.integers(1, 200), st.integers(1, N_ITEMS), st.integers(0, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_encode_graph_solves_to_a_thousandth(
    precision: str, length: int, among: int, padding: int, seed: int
) -> None:
    """Histories of distinct items, as readers send them, in any order and with padding in between."""
    bundle, rows = shipped(precision)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(N_ITEMS, among, replace=False)[rng.integers(0, among, length)]
    for items, tolerance in ((np.unique(drawn), 1e-3), (drawn, 3e-3)):  # a reader takes repetitions out
        history = rng.permutation(np.concatenate([items, np.full(padding, -1)]))
        expected = solved(rows, history)
        (vector,) = bundle.run("encode", ["vector"], {"history": history[None]})
        assert np.linalg.norm(vector[0] - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("n_items", "alpha", "reg"), [(1, 0.5, 4e-3), (2, 3.0, 6e-3)])
def test_rounding_in_directions_without_items_is_no_error(
    n_items: int, alpha: float, reg: float, precision: str, tmp_path: Path
) -> None:
    """With few rows of many dimensions, large parts of a solved vector cancel; scores are right all the same."""
    rng = np.random.default_rng(0)
    one = from_arrays(
        rng.standard_normal((n_items, 64)).astype(np.float32), None, encoder=LeastSquaresEncoder(alpha, reg)
    )
    request = ExportRequest("dense", precision, scales="row" if precision == "int8" else "auto")
    done = export_request(one, tmp_path / "b", request)
    packed = packed_in_memory(choose(one, request).draft)
    reference = packed.reference()
    history = np.array([[0, -1], [n_items - 1, 0]])
    vectors = Bundle(done.folder).run("encode", ["vector"], {"history": history})[0]
    expected = reference.encoded(history)
    off = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert (off > 1e-3).any()
    rows = packed.lookup.rows(np.arange(n_items)).astype(np.float64)
    np.testing.assert_allclose(
        vectors @ rows.T, expected @ rows.T, rtol=1e-4, atol=1e-4 * np.abs(expected @ rows.T).max()
    )
    # What scores see is compared as ever.
    wrong = replace(one, encoder=LeastSquaresEncoder(alpha, reg + 0.02 * float(np.square(rows).sum(1).max())))
    with pytest.raises(VerificationError, match=r"encode\.some: .* within 0.001"):
        verify(done.folder, packed_in_memory(choose(wrong, request).draft).reference(), 0)


def test_padding_and_neighbours_change_nothing() -> None:
    bundle, _ = shipped("fp32")
    history = np.array([[3, 4, 5, -1], [-1, -1, -1, -1], [5, 9, 100, 7]])
    (together,) = bundle.run("encode", ["vector"], {"history": history})
    assert not together[1].any()
    for one in (0, 2):
        alone = history[one][history[one] >= 0]
        (vector,) = bundle.run("encode", ["vector"], {"history": alone[None]})
        np.testing.assert_allclose(vector[0], together[one], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoder", [linear(), LinearEncoder(np.ones(N_ITEMS, np.float32))], ids=["fitted", "sum"])
def test_a_linear_encoder_is_exact(encoder: LinearEncoder, tmp_path: Path) -> None:
    given_source = source(encoder)
    model = Recommender.load(
        export(
            given_source,
            tmp_path / "b",
        ).folder
    )
    items = given_source.items.dense().astype(np.float64)
    for history in ([4, 17, 599], [0], list(range(0, 600, 5))):
        user = encoder.weights[history] @ items[history] / len(history) ** encoder.power
        user = user if encoder.matrix is None else user @ encoder.matrix + encoder.bias
        scores = model.score(history=given_source.item_ids[history].tolist(), items=given_source.item_ids.tolist())
        expected = items @ user
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


KINDS: dict[str, Callable[[], Encoder]] = {"linear": linear, "ials": lambda: LeastSquaresEncoder(ALPHA, REG)}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_history_the_most_popular_come_first(kind: str, precision: str, tmp_path: Path) -> None:
    given_source = source(KINDS[kind]())
    model = Recommender.load(export(given_source, tmp_path / "b", precision=precision).folder)
    assert given_source.item_counts is not None
    order = given_source.item_ids[np.argsort(-given_source.item_counts, kind="stable")].tolist()
    found = [a.item for a in model.recommend(history=[], k=N_ITEMS)]
    assert found[:MOST_POPULAR] == order[:MOST_POPULAR]
    assert sorted(found) == sorted(order)
    assert {a.score for a in model.recommend(history=[], k=30)} == {0.0}
    assert not model.score(history=[], items=order[:7]).any()
    left = model.recommend(history=[], k=20, exclude=[*order[:10], order[12]])
    assert [a.item for a in left] == [*order[10:12], *order[13:31]]
    last = model.recommend(history=[], k=20, exclude=order[:-3])
    assert {a.item for a in last} == {*order[-3:]}
    rows = np.array([[-1, -1], [3, -1]])
    exclude = np.full((2, 1), -1)
    items, scores = model.recommend_rows({"history": rows}, exclude, 5)
    assert model.item_ids(items[0]) == order[:5]
    alone = model.recommend_rows({"history": rows[1:]}, exclude[1:], 5)
    assert np.array_equal(items[1], alone[0][0])
    assert np.allclose(scores[1], alone[1][0], rtol=1e-4)
    assert np.array_equal(model.recommend_rows({"history": rows[:, :0]}, exclude, 5)[0], items[[0, 0]])


def test_past_the_most_popular_the_others_follow(tmp_path: Path) -> None:
    n = MOST_POPULAR + 50
    given_source = source(LeastSquaresEncoder(ALPHA, REG), n)
    model = Recommender.load(export(given_source, tmp_path / "b", verify=False).folder)
    assert given_source.item_counts is not None
    order = given_source.item_ids[np.argsort(-given_source.item_counts, kind="stable")].tolist()
    everything = [a.item for a in model.recommend(history=[], k=n)]
    assert everything[:MOST_POPULAR] == order[:MOST_POPULAR]
    assert sorted(map(int, everything)) == sorted(order)


def test_histories_of_a_graph_of_its_own_are_excluded(tmp_path: Path) -> None:
    given_source = source(LeastSquaresEncoder(ALPHA, REG))
    model = Recommender.load(export(given_source, tmp_path / "b", verify=False).folder)
    history = given_source.item_ids[[3, 50, 400]].tolist()
    answers = model.recommend(history=history, k=30, exclude=given_source.item_ids[:3].tolist())
    assert not {a.item for a in answers} & {*history, *given_source.item_ids[:3].tolist()}
    assert np.allclose(model.score(history=history, items=[a.item for a in answers]), [a.score for a in answers])
    vector = model.encode(history)
    again = model.recommend_rows({"vector": vector[None]}, [model.item_rows(history)], 30)
    assert vector.shape == (D,)
    assert model.item_ids(again[0][0]) == [a.item for a in model.recommend(history=history, k=30)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_bundle_follows_the_turned_items(kind: str, tmp_path: Path) -> None:
    """`fit` turns the items to their principal axes and shortens them: users are made in the same axes."""
    given_source = source(KINDS[kind]())
    whole = Recommender.load(export(given_source, tmp_path / "whole", verify=False).folder)
    options = ExportRequest(precision="fp32", max_bytes=int(0.8 * whole.manifest.nbytes), fit=True)
    fitted = Recommender.load(export_request(given_source, tmp_path / "b", options).folder)
    history, items = given_source.item_ids[[3, 50, 400]].tolist(), given_source.item_ids.tolist()
    scores = [model.score(history=history, items=items) for model in (whole, fitted)]
    assert np.corrcoef(scores)[0, 1] > 0.95


def test_users_that_do_not_ship_do_not_turn_the_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = source(linear()).items.dense()
    users = rng.standard_normal((80, D)) * np.geomspace(0.1, 10, D)
    given_source = from_arrays(items, users, encoder=linear())
    whole = Recommender.load(export(given_source, tmp_path / "whole", users=False, verify=False).folder)
    options = ExportRequest(precision="auto", max_bytes=int(0.8 * whole.manifest.nbytes), users=False)
    fitted = Recommender.load(export_request(given_source, tmp_path / "b", options).folder)
    scores = [model.score(history=[3, 50, 400], items=list(range(N_ITEMS))) for model in (whole, fitted)]
    assert np.corrcoef(scores)[0, 1] > 0.95


def test_parts_that_do_not_fit_are_refused() -> None:
    items = np.ones((4, 2))
    weights = np.ones(4, np.float32)
    wrong = [
        LinearEncoder(weights[:3]),
        LinearEncoder(weights, matrix=np.eye(3, dtype=np.float32)),
        LinearEncoder(weights, bias=np.ones(3, np.float32)),
    ]
    for encoder in wrong:
        with pytest.raises(ExportError, match="finite numbers of shape"):
            from_arrays(items, None, encoder=encoder)
    for counts in ([1, 2], ["a", "b", "c", "d"]):
        with pytest.raises(ExportError, match=r"item counts must be .* of shape \(4,\)"):
            from_arrays(items, None, encoder=LinearEncoder(weights), item_counts=counts)
    for alpha, reg in ((0, 1), (1, 0), (1, float("nan"))):
        with pytest.raises(SettingError):
            LeastSquaresEncoder(alpha, reg)

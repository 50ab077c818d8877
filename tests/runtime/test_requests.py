"""Requests in rows and vectors: right answers or a RequestError, and one user's answer whatever the others ask."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import PrefixTable, SparseTable, Table
from edgerec_export import ExportRequest, Source, export, export_request, from_arrays
from edgerec_export.layouts import LAYOUTS, variants

D, N_ITEMS = 8, 800
Answer = tuple[NDArray[np.int64], NDArray[np.float32]]


def source(layout: str, subject: str) -> Source:
    """Items whose lengths differ, some of them 0, so that blocks of a large catalogue are left unread."""
    rng = np.random.default_rng(3)
    tables: list[Table] = []
    for n in (N_ITEMS, 40):
        values = (rng.standard_normal((n, D)) * np.exp(rng.normal(0, 0.7, (n, 1)))).astype(np.float32)
        values[300:400] = 0
        if layout in ("dense", "mixed"):
            tables.append(PrefixTable.from_dense(values, rng.choice([2, 4, D], n, p=[0.5, 0.3, 0.2])))
        else:
            tables.append(SparseTable.from_dense(values, rng.random((n, D)) < 0.5))
    if subject == "users":
        return Source(tables[0], np.arange(N_ITEMS), tables[1], np.arange(40))
    encoder = LeastSquaresEncoder(3.0, 2.0) if subject == "ials" else LinearEncoder(np.ones(N_ITEMS, np.float32))
    return Source(tables[0], np.arange(N_ITEMS), encoder=encoder, item_counts=np.arange(N_ITEMS))


def loaded(folder: Path, layout: str, subject: str, precision: str = "fp32", group_rows: int = 64) -> Recommender:
    with mock.patch.object(variants, "GROUP_ROWS", group_rows):
        options = ExportRequest(layout, precision, similar=True, verify=False)
        return Recommender.load(export_request(source(layout, subject), folder, options).folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def users(place: Path) -> Recommender:
    return loaded(place / "users", "mixed", "users")


@pytest.fixture(scope="module")
def histories(place: Path) -> Recommender:
    return loaded(place / "histories", "mixed", "ials")


ONE = {"user": [0]}
REFUSED: dict[str, tuple[Callable[[Recommender], object], str]] = {
    "more exclusions than users": (lambda m: m.recommend_rows(ONE, [[0], [1]], 3), r"\(2, 1\), expected \(1, E\)"),
    "fewer": (lambda m: m.recommend_rows({"user": [0, 1]}, [[1]], 3), r"\(1, 1\), expected \(2, E\)"),
    "none for two": (lambda m: m.recommend_rows({"user": [0, 1]}, [[]], 3), r"\(1, 0\), expected \(2, E\)"),
    "a flat list": (lambda m: m.recommend_rows(ONE, [], 3), r"exclude has the shape \(0,\), expected \(1, E\)"),
    "a number": (lambda m: m.recommend_rows(ONE, 5, 3), r"exclude has the shape \(\), expected \(1, E\)"),
    "fractions to exclude": (lambda m: m.recommend_rows(ONE, [[0.9]], 3), "exclude must be whole numbers, got float64"),
    "allowed fractions": (lambda m: m.recommend_rows(ONE, [[]], 3, allow=[[1.5]]), "allow must be whole numbers"),
    "another batch allowed": (lambda m: m.recommend_rows(ONE, [[]], 3, allow=[[1], [2]]), r"expected \(1, A\)"),
    "a fraction of a user": (lambda m: m.recommend_rows({"user": [0.9]}, [[]], 3), "user must be whole numbers"),
    "no number": (lambda m: m.recommend_rows({"user": [np.nan]}, [[]], 3), "user must be whole numbers"),
    "truth": (lambda m: m.recommend_rows({"user": [True]}, [[]], 3), "whole numbers, got bool"),
    "text": (lambda m: m.recommend_rows({"user": ["0"]}, [[]], 3), "whole numbers, got <U1"),
    "beyond 64 bits": (lambda m: m.recommend_rows({"user": [2**70]}, [[]], 3), "whole numbers, got object"),
    "beyond 63 bits": (lambda m: m.recommend_rows({"user": [2**63]}, [[]], 3), "user row 9223372036854775808 of"),
    "ragged": (lambda m: m.recommend_rows(ONE, [[1], [2, 3]], 3), "lists of different lengths.*pad with -1"),
    "users in a table": (lambda m: m.recommend_rows({"user": [[0]]}, [[]], 1), r"user has the shape \(1, 1\)"),
    "no inputs": (lambda m: m.recommend_rows(None, [[]], 1), "takes 'user', got NoneType"),  # type: ignore[arg-type]
    "two inputs": (lambda m: m.score_rows({"user": [0], "vector": 1}, [[0]]), r"got \['user', 'vector'\]"),
    "a k of many digits": (lambda m: m.recommend_rows(ONE, [[]], 10**5000), r"k must be a whole number in 1\.\.800"),
    "candidates in a cube": (lambda m: m.score_rows(ONE, [[[1]]]), r"\(1, 1, 1\), expected \(1, C\)"),
    "other candidates": (lambda m: m.score_rows({"user": [0, 1]}, [[1]]), r"\(1, 1\), expected \(2, C\)"),
    "padded candidates": (lambda m: m.score_rows(ONE, [[-1]]), "item row -1 of candidates .*leave out the -1"),
    "fractions to score": (lambda m: m.score_rows(ONE, [[0.5]]), "candidates must be whole numbers"),
    "like a table": (lambda m: m.similar_rows([[1]], 3), r"items has the shape \(1, 1\), expected \(B,\)"),
    "like a fraction": (lambda m: m.similar_rows([1.5], 3), "items must be whole numbers"),
    "the id of padding": (lambda m: m.item_ids([5, -1]), "item row -1 of rows .*leave out the -1 of padding"),
    "the id of no row": (
        lambda m: m.item_ids([N_ITEMS]),
        "item row 800 of rows is not in the bundle: rows are 0 to 799",
    ),
    "the id of a fraction": (lambda m: m.item_ids([0.5]), "rows must be whole numbers"),
    "ids of a table": (lambda m: m.item_ids([[1]]), r"\(1, 1\), expected \(n,\)"),
    "the id of a number": (lambda m: m.item_ids(3), r"\(\), expected \(n,\)"),
    "rows of a table of ids": (lambda m: m.item_rows(np.array([[7], [8]])), r"an array of the shape \(2, 1\)"),
    "half a character": (lambda m: m.recommend(5, exclude=["\ud800"]), r"item '\\ud800' is not among"),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_cannot_be_answered_is_refused_with_what_was_got_and_expected(users: Recommender, asked: str) -> None:
    ask, said = REFUSED[asked]
    with pytest.raises(RequestError, match=said) as error:
        ask(users)
    assert "\n" not in str(error.value)


HEALTHY = np.linspace(-1, 1, D, dtype=np.float32)[None]
WRONG_VECTORS: dict[str, tuple[Any, str]] = {
    "nan": (np.vstack([HEALTHY, HEALTHY * np.nan]), r"vector\[1, 0\] is nan, expected finite"),
    "inf": (np.where(np.arange(D) == 5, np.float32(np.inf), HEALTHY), r"vector\[0, 5\] is inf, expected finite"),
    "doubles": (HEALTHY.astype(np.float64), r"float64, expected float32 of shape \(B, 8\): convert it"),
    "one value less": (HEALTHY[:, :-1], r"vector has the shape \(1, 7\), expected \(B, 8\)"),
    "one user": (HEALTHY[0], r"vector has the shape \(8,\), expected \(B, 8\)"),
    "ragged": ([[1.0], [1.0, 2.0]], "lists of different lengths, expected float32"),
}


@pytest.mark.parametrize("name", WRONG_VECTORS)
def test_vectors_are_finite_and_of_the_right_shape(histories: Recommender, name: str) -> None:
    vector, said = WRONG_VECTORS[name]
    none = np.full((len(vector), 1), -1)
    allow = np.tile(np.arange(5), (len(vector), 1))
    for ask in (
        lambda: histories.recommend_rows({"vector": vector}, none, 3),
        lambda: histories.recommend_rows({"vector": vector}, none, 3, allow=allow),
        lambda: histories.score_rows({"vector": vector}, allow),
    ):
        with pytest.raises(RequestError, match=said):
            ask()


def test_a_vector_whose_scores_are_beyond_float32_is_refused(histories: Recommender) -> None:
    """Named by its place in the batch; one as long is answered where its scores are not."""
    none, best = np.full((2, 1), -1), np.argmax(np.abs(HEALTHY))
    last = np.tile(np.arange(N_ITEMS - 50, N_ITEMS), (2, 1))  # the longest rows come last
    long = np.where(np.arange(D) == best, np.float32(3e38), 0)
    both = {"vector": np.vstack([HEALTHY, long]).astype(np.float32)}
    for ask in (
        lambda: histories.recommend_rows(both, none, 3),
        lambda: histories.recommend_rows(both, none, 3, allow=last),
        lambda: histories.score_rows(both, last),
    ):
        with pytest.raises(RequestError, match=r"vector\[1\] has scores beyond float32"):
            ask()
    small = np.argsort(np.abs(source("mixed", "ials").items.dense()[:300, best]))[:3]
    rows = np.tile(histories.item_rows(small), (2, 1))
    assert np.isfinite(histories.score_rows(both, rows)).all()


def test_a_batch_of_nobody_gets_no_answers(users: Recommender, histories: Recommender) -> None:
    nobody, none = np.empty(0, np.int64), np.empty((0, 2), np.int64)
    items, scores = users.recommend_rows({"user": nobody}, none, 3)
    assert items.shape == scores.shape == (0, 3)
    assert histories.recommend_rows({"history": none}, none, 3, allow=none)[0].shape == (0, 3)
    assert users.score_rows({"user": nobody}, none).shape == (0, 2)
    assert users.similar_rows(nobody, 3)[1].shape == (0, 3)


@pytest.mark.parametrize("threads", [-1, 1025, 2.0, True, "2", 2**31, None])
def test_threads_are_a_whole_number(users: Recommender, place: Path, threads: Any) -> None:
    with pytest.raises(RequestError, match=r"threads must be a whole number in 0\.\.1024"):
        Recommender.load(place / "users", threads=threads)


@pytest.mark.parametrize("exponent", [-140, -80, 60, 90, 110])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_length_of_a_vector_changes_no_ranking(tmp_path: Path, precision: str, exponent: int) -> None:
    """Of a large catalogue too, most of which bounds leave unread: squares of such values leave float32."""
    model = loaded(tmp_path / "b", "mixed", "ials", precision)
    rng = np.random.default_rng(exponent % 7)
    vectors = np.rint(rng.standard_normal((20, D), np.float32) * 16) / 16  # of few bits, which denormal numbers have
    none = np.full((20, 1), -1)
    items, scores = model.recommend_rows({"vector": vectors}, none, 10)
    far = {"vector": np.ldexp(vectors, exponent)}
    found, said = model.recommend_rows(far, none, 10)
    assert np.array_equal(found, items)
    assert np.array_equal(said, np.ldexp(scores, exponent))
    assert np.allclose(model.score_rows(far, items), said, rtol=1e-5, atol=1e-6 * np.abs(said).max())
    allow = np.tile(np.arange(100), (20, 1))  # which are scored one by one
    assert np.array_equal(
        model.recommend_rows(far, none, 10, allow=allow)[0],
        model.recommend_rows({"vector": vectors}, none, 10, allow=allow)[0],
    )


POOL = np.random.default_rng(5).standard_normal((9, D)).astype(np.float32)
POOL[5] = 0
POOL[6] *= np.float32(2.0**100)
POOL[7] *= np.float32(2.0**-120)
POOL[8, 1:] = 0
rows = st.lists(st.integers(-1, N_ITEMS - 1), max_size=5)


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.integers(1, 4))
    return {
        "vector": POOL[draw(st.lists(st.integers(0, len(POOL) - 1), min_size=size, max_size=size))],
        "user": np.array(draw(st.lists(st.integers(0, 39), min_size=size, max_size=size))),
        "history": padded(draw(st.lists(rows, min_size=size, max_size=size))),
        "exclude": padded(draw(st.lists(rows, min_size=size, max_size=size))),
        "allow": draw(st.none() | st.lists(rows, min_size=size, max_size=size).map(padded)),
        "k": draw(st.sampled_from([1, 10, 100, N_ITEMS])),
    }


def padded(lists: list[list[int]]) -> NDArray[np.int64]:
    return np.array([[*one, *[-1] * (5 - len(one))] for one in lists])


@pytest.fixture(
    scope="module",
    params=[(layout, subject, 64) for layout in sorted(LAYOUTS) for subject in ("users", "ials", "linear")]
    + [(layout, "ials", 1 << 15) for layout in ("mixed", "ell")],
    ids=str,
)
def bundle(request: pytest.FixtureRequest, place: Path) -> Iterator[Recommender]:
    """Of `mixed` and `ell` in runs of blocks, which are left unread, and in one."""
    layout, subject, group_rows = request.param
    with loaded(place / "-".join(map(str, request.param)), layout, subject, group_rows=group_rows) as model:
        yield model


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(batch=batches())
def test_no_answer_depends_on_the_rest_of_its_batch(bundle: Recommender, batch: dict[str, Any]) -> None:
    kinds = ["user"] if bundle.n_users else ["history", "vector"] if "encode" in bundle.manifest.graphs else ["history"]
    for kind in kinds:
        asked, exclude, allow = batch[kind], batch["exclude"], batch["allow"]
        items, scores = bundle.recommend_rows({kind: asked}, exclude, batch["k"], allow=allow)
        candidates = np.maximum(exclude, 0)
        both = bundle.score_rows({kind: asked}, candidates)
        for one in range(len(asked)):
            own, part = {kind: asked[[one]]}, None if allow is None else allow[[one]]
            alone = bundle.recommend_rows(own, exclude[[one]], batch["k"], allow=part)
            alike((items[one], scores[one]), (alone[0][0], alone[1][0]))
            scored = bundle.score_rows(own, candidates[[one]])[0]
            assert np.allclose(both[one], scored, rtol=1e-4, atol=1e-5 * np.abs(scored).max())


def alike(one: Answer, other: Answer) -> None:
    """The same items with the same scores, but for the order of items whose scores differ by rounding."""
    (items, scores), (rightly, right) = one, other
    assert np.array_equal(items < 0, rightly < 0)
    left = items >= 0
    close = 1e-4 * np.abs(right[left]) + 1e-5 * np.abs(right[left]).max(initial=0)
    assert (np.abs(scores[left] - right[left]) <= close).all()
    assert len(set(items[left])) == left.sum()
    if close.size:
        sure = left.copy()
        sure[left] = scores[left] > scores[left].min() + 2 * close.max()
        assert {*items[sure]} <= {*rightly[left]}


def damaged(folder: Path, target: Path, section: str, change: Callable[[NDArray[Any]], object]) -> Recommender:
    """A copy of a bundle with other values in a section; whoever damaged it made the sha256 fit."""
    shutil.copytree(folder, target)
    manifest = Recommender.load(folder).manifest
    entry, tables = manifest.sections[section], target / manifest.tables.name
    content = bytearray(tables.read_bytes())
    change(np.frombuffer(content, entry.dtype, int(np.prod(entry.shape)), entry.offset).reshape(entry.shape))
    tables.write_bytes(content)
    return Recommender.load(target, verify=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_user_of_the_table_who_is_not_finite_is_named_damaged(place: Path, layout: str, value: float) -> None:
    table = source(layout, "users").users
    assert table is not None
    own = table.dense()[3]
    name = f"{layout}-users-64"
    loaded(place / name, layout, "users")

    def change(values: NDArray[Any]) -> None:
        values[np.isin(values, own[own != 0])] = value

    model = damaged(place / name, place / f"{layout}-{value}", "u", change)
    (row,) = model.user_rows([3])
    three, none = model.user_rows([2, 3, 4]), np.full((3, 1), -1)
    few = np.tile(np.arange(20), (3, 1))
    for ask in (
        lambda: model.recommend(3, 5),
        lambda: model.recommend(3, N_ITEMS),
        lambda: model.recommend(3, 5, allow=range(20)),
        lambda: model.score(3, range(20)),
        lambda: model.recommend_rows({"user": [row]}, [[]], 5),
        lambda: model.recommend_rows({"user": three}, none, 5),
        lambda: model.score_rows({"user": three}, few),
    ):
        with pytest.raises(BundleError, match=r"numbers that are not finite|not in the bundle|failed"):
            ask()
    assert np.isfinite(model.recommend_rows({"user": three[::2]}, none[::2], 5)[1]).all()


def test_scores_of_minus_infinity_are_no_exclusions(tmp_path: Path) -> None:
    """An answer with fewer items than are left is a damaged bundle's."""
    items = np.abs(np.random.default_rng(0).standard_normal((50, D), np.float32)) + 1
    folder = export(from_arrays(items, -items[:5]), tmp_path / "b", layout="dense", verify=False).folder
    model = damaged(folder, tmp_path / "c", "u", lambda values: values.fill(-3e38))
    with pytest.raises(BundleError, match="get the bundle again"):
        model.recommend(2, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_encoder_whose_vectors_are_not_finite_is_named_damaged(tmp_path: Path, value: float) -> None:
    loaded(tmp_path / "b", "mixed", "ials")
    model = damaged(tmp_path / "b", tmp_path / "c", "g", lambda values: values.fill(value))
    for ask in (
        lambda: model.encode([3]),
        lambda: model.recommend(history=[3], k=2),
        lambda: model.score(history=[3], items=[4]),
    ):
        with pytest.raises(BundleError, match=r"the 'encode' graph of .* answers with numbers that are not finite"):
            ask()


@pytest.mark.parametrize("layout", ["mixed", "ell"])
def test_cosines_that_are_not_finite_are_named_damaged(tmp_path: Path, layout: str) -> None:
    loaded(tmp_path / "b", layout, "users")
    model = damaged(tmp_path / "b", tmp_path / "c", "n", lambda values: values.fill(np.nan))
    with pytest.raises(BundleError, match="get the bundle again"):
        model.similar(3, 2)

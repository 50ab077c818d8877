"""Tables of any magnitude: answers are those of the tables, or the export is refused by the name of a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.errors import RangeError, VerificationError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec.tables import PrefixTable, SparseTable, Table
from edgerec_export import ExportRequest, Source, export, from_arrays
from edgerec_export.choose import choose
from edgerec_export.layouts import FORMS as STORED_AS
from edgerec_export.layouts import variants
from edgerec_export.pack import packed_in_memory
from edgerec_export.reference import Reference
from edgerec_export.values import PRECISIONS, is_integer
from edgerec_export.verify import verify

D, ITEMS, USERS = 8, 300, 12
RUN = 64
ERROR = {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05, "int4": 0.5, "int2": 0.8}
"""Of a score, of the product of its rows' largest values and D."""
FORMS = [
    *((layout, precision, "auto", False) for layout, precision in STORED_AS),
    *(("mixed", precision, "row", False) for precision in ("int8", "int4")),
    *(("csc", precision, "auto", True) for precision in PRECISIONS if precision != "int2"),
]


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a million items would be laid out: searched without reading all."""
    monkeypatch.setattr(variants, "GROUP_ROWS", RUN)


def values(n: int, seed: int) -> NDArray[np.float64]:
    """Rows of different lengths and widths, so that runs have bounds of their own."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((n, D)) * np.exp(rng.normal(0, 0.7, (n, 1)))
    found[np.arange(D) >= rng.choice([2, 4, 8], (n, 1), p=[0.5, 0.3, 0.2])] = 0
    return found


def source(items: NDArray[np.float64], users: NDArray[np.float64], *, sparse: bool = False) -> Source:
    tables: list[Table] = []
    for one in (items, users):
        rows = one.astype(np.float32)
        sizes = np.maximum(D - (rows != 0)[:, ::-1].argmax(1), 1)
        tables.append(SparseTable.from_dense(rows) if sparse else PrefixTable.from_dense(rows, sizes))
    return Source(tables[0], np.arange(len(items)), tables[1], np.arange(len(users)))


def check(source: Source, folder: Path, precision: str) -> None:
    """Every answer of `recommend` is that of `score`, and about that of the tables; none that is better is left out."""
    assert source.users is not None
    items, users = source.items.dense().astype(np.float64), source.users.dense().astype(np.float64)
    model = Recommender.load(folder)
    for user, vector in enumerate(users):
        scores = items @ vector
        sizes = np.abs(items) @ np.abs(vector)
        found = model.recommend(user=user, k=10)
        rows = [int(one.item) for one in found]
        said = np.array([one.score for one in found])
        np.testing.assert_allclose(model.score(user, rows), said, rtol=1e-5, atol=1e-6 * sizes.max())
        largest = np.abs(users if is_integer(precision) else vector).max()  # users share a scale
        allowed = ERROR[precision] * np.abs(items).max() * largest * D
        np.testing.assert_allclose(said, scores[rows], rtol=0, atol=allowed)
        np.testing.assert_allclose(said, np.sort(scores)[::-1][:10], rtol=0, atol=allowed)


@example(form=("dense", "fp16", "auto", False), a=0.0, b=-11.0, seed=0)
@given(st.sampled_from(FORMS), st.floats(-30, 30), st.floats(-30, 30), st.integers(0, 1 << 16))
@settings(max_examples=40, deadline=None)
def test_any_magnitude_is_answered_or_refused(
    tmp_path_factory: pytest.TempPathFactory, form: tuple[str, str, str, bool], a: float, b: float, seed: int
) -> None:
    layout, precision, scales, lookup = form
    one = source(
        values(ITEMS, seed) * 10.0**a, values(USERS, seed + 1) * 10.0**b, sparse=layout not in ("dense", "mixed")
    )
    folder = tmp_path_factory.mktemp("magnitudes") / "b"
    refused = ""
    try:
        export(one, folder, layout=layout, precision=precision, scales=scales, lookup=lookup, verify=False)
    except RangeError as error:
        refused = str(error)
    if not refused:
        check(one, folder, precision)
        return
    assert "\n" not in refused
    assert not folder.exists()
    assert precision == "fp16" or not -27 < a + b < 33


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mixed", "ell"])
@pytest.mark.parametrize(("a", "b"), [(-25, 0), (0, -25), (-13, -13), (0, 20), (20, 0), (25, -25), (20, -22)])
def test_block_bounds_hold_at_any_magnitude(layout: str, a: int, b: int, tmp_path: Path) -> None:
    users = values(USERS, 2)
    users[:, 2:] *= 1e-3  # narrow rows, which have the low bounds, are among the best
    one = source(values(1500, 1) * 10.0**a, users * 10.0**b, sparse=layout == "ell")
    done = export(one, tmp_path / "b", layout=layout, verify=(a, b) == (25, -25))
    check(one, done.folder, "fp32")


def test_zero_rows_beside_large_users(tmp_path: Path) -> None:
    """0 times the infinite length of a user would be no number, and hide a run."""
    items = -np.abs(values(1500, 3))
    items[:900] = 0
    one = source(items, np.abs(values(USERS, 4)) * 1e25)
    check(one, export(one, tmp_path / "b", layout="mixed", verify=False).folder, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("large", [3e38, -3e38, 1e-30])
@pytest.mark.parametrize("first", [False, True])
def test_no_vector_changes_the_answer_of_another_in_its_batch(large: float, first: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    encoder = LeastSquaresEncoder(alpha=3, reg=1)
    items = values(1500, 5).astype(np.float32)
    done = export(from_arrays(items, None, encoder=encoder), tmp_path / "b", layout="mixed")
    graph, nothing = Bundle(done.folder).session("recommend"), np.array([[-1]])

    def asked(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's own scores: the runtime refuses vectors whose scores leave float32."""
        feed = {"vector": vectors, "exclude": nothing.repeat(len(vectors), 0), "k": np.array(10)}
        scores: NDArray[np.float32] = graph.run(["scores"], feed)[0]
        return scores

    for _ in range(30):
        vector = rng.standard_normal((1, D)).astype(np.float32)
        both = [np.full((1, D), large, np.float32), vector]
        found = asked(np.vstack(both if first else both[::-1]))
        np.testing.assert_allclose(found[int(first)], asked(vector)[0], rtol=1e-5)


def test_small_vectors_have_the_ranking_of_large_ones(tmp_path: Path) -> None:
    """Vectors are the app's to bring: their squares may be no float32."""
    rng = np.random.default_rng(0)
    items = values(1500, 6).astype(np.float32)
    done = export(from_arrays(items, None, encoder=LeastSquaresEncoder(alpha=3, reg=1)), tmp_path / "b", layout="mixed")
    model = Recommender.load(done.folder)
    vectors = rng.standard_normal((20, D)).astype(np.float32)
    nothing = np.full((20, 1), -1)
    usual = model.recommend_rows({"vector": vectors}, nothing, 10)
    small = model.recommend_rows({"vector": vectors * np.float32(2.0**-80)}, nothing, 10)
    np.testing.assert_array_equal(small[0], usual[0])


def test_fp16_brings_large_values_into_its_range(tmp_path: Path) -> None:
    users = values(USERS, 8)
    users[7, 1] = 70_000
    one = source(values(ITEMS, 7), users)
    check(one, export(one, tmp_path / "b", layout="mixed", precision="fp16").folder, "fp16")


@pytest.mark.parametrize(
    ("items", "users", "factor", "named"),
    [
        (1, 1, 1e-12, r"user 3 is .*, which fp16 rounds to 0 \(1 row in all\)"),
        (1e-9, 1e-9, 1, r"item \d+ is .*, which fp16 rounds to 0 \(300 rows in all\)"),
        (3e5, 3e5, 1, r"item \d+ has a value of .*65504"),
        (1, 1, 1e12, r"item|user 3"),
    ],
)
def test_fp16_refuses_rows_that_it_cannot_hold(
    items: float, users: float, factor: float, named: str, tmp_path: Path
) -> None:
    vectors = values(USERS, 8) * users
    vectors[3] *= factor
    with pytest.raises(RangeError, match=named):
        export(
            source(values(ITEMS, 7) * items, vectors), tmp_path / "b", layout="mixed", precision="fp16", verify=False
        )
    assert not (tmp_path / "b").exists()


def test_fp16_without_users_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    items = values(ITEMS, 7).astype(np.float32)
    items[11, 0] = 70_000
    encoder = LinearEncoder(np.ones(ITEMS, np.float32))
    with pytest.raises(RangeError, match=r"item 11 has a value of 70000.*fp32"):
        export(
            from_arrays(items, None, encoder=encoder), tmp_path / "b", layout="mixed", precision="fp16", verify=False
        )


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mixed", "ell", "csc"])
@pytest.mark.parametrize(("precision", "share"), [("int8", 5e-5), ("int4", 5e-4)])
def test_a_user_far_below_the_step_has_a_scale_of_its_own(
    layout: str, precision: str, share: float, tmp_path: Path
) -> None:
    users = values(USERS, 8)
    users[3] = np.abs(users).max()
    users[4] = share * users[3] * np.arange(1, D + 1) / D
    one = source(values(ITEMS, 7), users, sparse=layout != "mixed")
    done = export(one, tmp_path / "b", layout=layout, precision=precision)
    check(one, done.folder, precision)
    assert done.chosen.draft.users is not None
    assert done.chosen.draft.users.scaled == "row"
    by_row = precision == "int4" and layout != "csc"  # which is the default
    assert (done.chosen.draft.items.scaled == "row") == by_row
    again = export(one, tmp_path / "like", like=done.folder)
    assert again.chosen.draft.users is not None
    assert again.chosen.draft.users.scaled == "row"
    assert (again.chosen.draft.items.scaled == "row") == by_row


def test_a_user_that_no_code_holds_is_refused_where_scales_are_given(tmp_path: Path) -> None:
    users = values(USERS, 8)
    users[4] *= 1e-4
    with pytest.raises(RangeError, match=r"user 4 is .* rounds to 0 \(1 row in all.*--scales row"):
        export(source(values(ITEMS, 7), users), tmp_path / "b", layout="mixed", precision="int8", scales="block")
    users[4] *= 1e-10
    with pytest.raises(RangeError, match="user 4"):
        export(source(values(ITEMS, 7), users), tmp_path / "b", layout="mixed", precision="int8")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_users_of_a_run_who_vanish_are_counted_with_the_finest_scales(precision: str, tmp_path: Path) -> None:
    """Training leaves users of 1e-15 of the others; their own tables' would be a mistake of scale."""
    users = values(USERS, 8)
    users[4] *= 1e-15
    own = source(values(ITEMS, 7), users)
    for scales in ("auto", "row"):
        done = export(replace(own, trained=True), tmp_path / "b", layout="dense", precision=precision, scales=scales)
        assert done.rounded_to_zero["user"] == 1
        with pytest.raises(RangeError, match="user 4"):
            export(own, tmp_path / "c", layout="dense", precision=precision, scales=scales)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_one_large_item_leaves_the_others_their_values(precision: str, tmp_path: Path) -> None:
    items = values(ITEMS, 7)
    items[9] *= 1e4
    one = source(items, values(USERS, 8))
    done = export(one, tmp_path / "b", layout="dense", precision=precision)
    assert done.chosen.draft.items.scaled == "row"
    with pytest.raises(RangeError, match=r"item .* rows in all; item 9 has"):
        export(one, tmp_path / "b", layout="dense", precision=precision, scales="table")


@pytest.mark.parametrize("form", STORED_AS)
def test_rows_that_ship_as_zeros_are_counted(form: tuple[str, str], tmp_path: Path) -> None:
    layout, precision = form
    items, users = values(ITEMS, 7), np.sign(values(USERS, 8)) + 0.5
    items[::3] *= 1e-3 / np.abs(items[::3]).max(1, keepdims=True)
    items[1] = 0  # has no values to lose
    one = source(items, users, sparse=layout not in ("dense", "mixed"))
    done = export(one, tmp_path / "b", layout=layout, precision=precision, verify=False)
    model = Recommender.load(done.folder)
    zeros = int((~model.score_rows({"user": np.arange(USERS)}, [[*range(ITEMS)]] * USERS).any(0)).sum())
    assert done.rounded_to_zero == ({"item": zeros - 1} if zeros > 1 else {})
    assert bool(done.rounded_to_zero) == (precision == "int8" or form == ("csc", "int4"))  # others have a scale a row


def test_a_few_items_that_vanish_in_fp16_are_counted(tmp_path: Path) -> None:
    """A stream's newcomers can be 1e-9 of the others: their scores are 0 up to rounding."""
    items = values(ITEMS, 7)
    items[:2] *= 1e-9
    done = export(source(items, values(USERS, 8)), tmp_path / "b", layout="mixed", precision="fp16")
    assert done.rounded_to_zero == {"item": 2}
    wild = np.array(items) * 1e25
    wild[5] *= 1e-60
    moved = export(source(wild, values(USERS, 8) * 1e-25), tmp_path / "moved", layout="mixed", verify=False)
    assert moved.rounded_to_zero == {"item": 1}
    items[: ITEMS // 2 + 2] *= 1e-9
    with pytest.raises(RangeError, match="fp16 rounds to 0"):
        export(source(items, values(USERS, 8)), tmp_path / "c", layout="mixed", precision="fp16")


@pytest.mark.parametrize(("a", "b", "named"), [(30, 30, "item .*3.4e38"), (-30, -10, "user 0")])
def test_scores_that_are_no_float32_are_refused(a: int, b: int, named: str, tmp_path: Path) -> None:
    with pytest.raises(RangeError, match=named):
        export(source(values(50, 1) * 10.0**a, values(USERS, 2) * 10.0**b), tmp_path / "b", verify=False)


@pytest.mark.parametrize(("factor", "weights"), [(1e-20, 1.0), (1e20, 1.0), (1.0, 1e-20)])
def test_items_without_users_are_refused_out_of_range(factor: float, weights: float, tmp_path: Path) -> None:
    encoder = LinearEncoder(np.full(50, weights, np.float32))
    items = (values(50, 1) * factor).astype(np.float32)
    with pytest.raises(RangeError, match=r"scale the table|the encoder's weights"):
        export(from_arrays(items, None, encoder=encoder), tmp_path / "b", verify=False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("layout", ["mixed", "csr"])
def test_the_largest_scores_are_answered_and_larger_ones_refused(layout: str, precision: str, tmp_path: Path) -> None:
    """Up to 2^126 = 8.5e37, a quarter of float32's largest number, by the largest values of both tables."""
    items, users = np.sign(values(50, 1)) + 1.0, np.full((USERS, D), 2.0)
    users[3], items[7] = 4, 4
    factor = 2.0**126 / (4 * 4 * D)
    fits = source(items * factor**0.75, users * factor**0.25, sparse=layout == "csr")
    done = export(fits, tmp_path / "b", layout=layout, precision=precision, verify=False)
    check(fits, done.folder, precision)
    assert Recommender.load(done.folder).score(3, [7])[0] == pytest.approx(2.0**126, rel=ERROR[precision])
    over = source(items * factor**0.75 * 1.01, users * factor**0.25, sparse=layout == "csr")
    with pytest.raises(RangeError, match=r"user 3 \(values up to .*item 7 \(values up to .*3.4e38"):
        export(over, tmp_path / "over", layout=layout, precision=precision, verify=False)


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_of_encoded_users_stay_in_float32(precision: str, power: float, tmp_path: Path) -> None:
    """Each array alone is in the range, and their product is not."""
    rng = np.random.default_rng(0)
    items, matrix = values(50, 1).astype(np.float32), rng.standard_normal((D, D)).astype(np.float32)
    weights = rng.uniform(0.5, 1, 50).astype(np.float32)

    def scaled(factor: float) -> Source:
        arrays = [(array * factor).astype(np.float32) for array in (items, weights, matrix)]
        return from_arrays(arrays[0], None, encoder=LinearEncoder(arrays[1], power, arrays[2]))

    def exported(name: str, factor: float) -> Path:
        return export(scaled(factor), tmp_path / name, layout="mixed", precision=precision, verify=False).folder

    with pytest.raises(RangeError, match=r"histories with item \d+ \(values up to .*3.4e38"):
        exported("over", 2.0**35)
    with pytest.raises(RangeError, match=r"of item \d+ \(values up to .*not exact in float32"):
        exported("under", 2.0**-35)
    history = list(range(0, 50, 2))
    usual, large = (exported(str(factor), factor) for factor in (1.0, 2.0**24))
    scores = [Recommender.load(folder).score(history=history, items=range(50)) for folder in (usual, large)]
    np.testing.assert_allclose(scores[1], scores[0] * np.float32(2.0**96), rtol=1e-5)
    assert np.isfinite(scores[1]).all()


def test_small_scores_of_solved_users_are_refused(tmp_path: Path) -> None:
    items = np.full((2, D), 2.0**-40, np.float32)
    one = from_arrays(items, None, encoder=LeastSquaresEncoder(alpha=1e-6, reg=1e9))
    with pytest.raises(RangeError, match=r"of item \d+ .*not exact in float32"):
        export(one, tmp_path / "b", layout="mixed", verify=False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_of_a_scorer_stay_in_float32(precision: str, tmp_path: Path) -> None:
    """A hidden layer that overflows is lost too where the last one brings it back."""
    tables = [values(rows, rows).astype(np.float32) for rows in (50, USERS)]
    weights = np.ones((D, 1), np.float32)
    layers = ((np.full((D, D), 1e38, np.float32), np.zeros(D, np.float32)), (weights * 1e-30, np.zeros(1, np.float32)))
    scorer = NeuMFScorer(np.ones(D // 2, np.float32), layers)
    one = replace(from_arrays(*tables), scorer=scorer)
    with pytest.raises(RangeError, match=r"user \d+ \(values up to .*item \d+ \(values up to .*the scorer's weights"):
        export(one, tmp_path / "b", layout="mixed", precision=precision, verify=False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_verification_sees_wrong_scores_of_small_tables(precision: str, tmp_path: Path) -> None:
    """Their scores are all below the 1e-6 that was allowed whatever they are."""
    right = source(values(50, 1) * 1e-6, values(USERS, 2) * 1e-4)
    wrong = source(values(50, 1) * 1e-6 * 1.2, values(USERS, 2) * 1e-4)
    done = export(right, tmp_path / "b", layout="mixed", precision=precision)
    with pytest.raises(VerificationError, match="the score at"):
        verify(done.folder, reference_of(wrong, precision), USERS)


def reference_of(source: Source, precision: str) -> Reference:
    return packed_in_memory(choose(source, ExportRequest("mixed", precision)).draft).reference()


@pytest.mark.parametrize(("precision", "scales"), [("int8", "auto"), ("int4", "auto"), ("int4", "row")])
@pytest.mark.parametrize(("a", "b"), [(0, -80), (0, 60), (-60, 0)])
def test_codes_do_not_depend_on_the_magnitude(precision: str, scales: str, a: int, b: int) -> None:
    """Squares of errors that vanish in float32 would make every scale as good as the first that is tried."""
    options = ExportRequest("mixed", precision, scales=scales, similar=False)
    items, users = values(ITEMS, 7), values(USERS, 8)
    usual, far = (
        packed_in_memory(choose(one, options).draft).tables
        for one in (source(items, users), source(items * 2.0**a, users * 2.0**b))
    )
    for name in ("i", "u"):
        places = np.arange(usual[name].plan.n_rows)
        np.testing.assert_array_equal(usual[name].values(places), far[name].values(places))


@pytest.mark.parametrize("layout", ["mixed", "csr"])
@pytest.mark.parametrize(("a", "b"), [(0, -80), (0, 60), (-60, 0)])
def test_what_is_fitted_does_not_depend_on_the_magnitude(layout: str, a: int, b: int) -> None:
    items, users = values(ITEMS, 7), values(USERS, 8)
    options = ExportRequest(layout, fit=True, max_bytes=14_000, similar=False)
    usual, far = (
        choose(source(*tables, sparse=layout == "csr"), options).draft
        for tables in ((items, users), (items * 2.0**a, users * 2.0**b))
    )
    assert far.nbytes() > 13_000
    np.testing.assert_array_equal(usual.items.order, far.items.order)
    assert [block.width for block in usual.items.blocks] == [block.width for block in far.items.blocks]

"""What export chooses: within limits in bytes and memory, and of those the best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import BudgetError, ExportError, UnsupportedError
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import read_manifest
from edgerec.tables import DenseTable, SparseTable, Table
from edgerec_export import ExportRequest, ExportStep, Source, export, from_arrays
from edgerec_export import choose as choosing
from edgerec_export.choose import choose
from edgerec_export.cost import FORMAT, TERMS
from edgerec_export.draft import Draft
from edgerec_export.fitters import WELL_USED
from edgerec_export.layouts import FORMS
from edgerec_export.pack import distortion, packed_in_memory
from tests.conftest import random_source


def low_rank_source(n_items: int = 800, n_users: int = 120, d: int = 24, seed: int = 0, density: float = 1.0) -> Source:
    """Dimensions of falling importance, as trained tables have them; with `density`, only the largest values."""
    rng = np.random.default_rng(seed)
    falling = 0.85 ** np.arange(d)
    tables: list[Table] = []
    for n in (n_items, n_users):
        values = (rng.standard_normal((n, d)) * falling * rng.gamma(2, 1, (n, 1))).astype(np.float32)
        if density < 1:
            values[np.abs(values) < np.quantile(np.abs(values), 1 - density)] = 0
        tables.append(DenseTable(values) if density == 1 else SparseTable.from_dense(values))
    return Source(tables[0], np.arange(n_items), tables[1], np.arange(n_users))


def drafted(source: Source, options: ExportRequest) -> Draft:
    return choose(source, options).draft


def error_of(draft: Draft) -> float:
    """What quantising and shortening did to scores; a draft's own source may be rotated, which changes none."""
    return distortion(draft, draft.source)


@pytest.mark.slow
@given(
    limit=st.integers(15_000, 90_000),
    precision=st.sampled_from(["fp32", "fp16", "int8", "int4", "auto"]),
    density=st.sampled_from([1.0, 0.3]),
)
@settings(max_examples=25, deadline=None)
def test_a_fitted_bundle_uses_its_budget(limit: int, precision: str, density: float) -> None:
    source = low_rank_source(density=density)
    options = ExportRequest(precision=precision, max_bytes=limit, fit=True, verify=False)
    chosen = choose(source, options)
    used = chosen.draft.nbytes()
    assert used <= limit
    assert used >= WELL_USED * limit or chosen.density == 1
    assert chosen.tried[0].cost.nbytes == used


@pytest.mark.parametrize(("precision", "width"), [("fp32", 7), ("fp16", 7), ("int8", 1), ("int4", 6)])
def test_of_a_fitted_dense_bundle_no_larger_choice_fits(precision: str, width: int) -> None:
    """Its choices are the dimensions of all rows: a limit is met by as many as take a byte less than one more."""
    source, options = low_rank_source(300, 40, d=10), ExportRequest("dense", precision, similar=False)
    larger = width + (2 if precision == "int4" else 1)  # two dimensions share the bytes of int4
    least, most = (drafted(cut_to(source, w), options).nbytes() for w in (width, larger))
    for limit in (least, most - 1):
        draft = drafted(source, replace(options, max_bytes=limit, fit=True))
        assert draft.items.d == draft.items.blocks[0].width == width
        assert draft.nbytes() <= limit


def cut_to(source: Source, width: int) -> Source:
    assert source.users is not None
    tables = [DenseTable(table.dense()[:, :width]) for table in (source.items, source.users)]
    return Source(tables[0], source.item_ids, tables[1], source.user_ids)


def test_a_dense_bundle_of_two_precisions_uses_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    source, limit = low_rank_source(1000, 100, d=12), 17_000
    errors: dict[tuple[str, ...], float] = {}
    for coding in (("int8", "int4"), ("int8",), ("int4",)):
        monkeypatch.setattr(choosing, "_codings", lambda layout, options, coding=coding: iter([(coding, "row")]))
        chosen = choose(source, ExportRequest("dense", "auto", max_bytes=limit, similar=False))
        error = chosen.tried[0].score_error
        assert error is not None
        errors[coding] = error
        assert chosen.draft.nbytes() <= limit
        assert len(coding) == 1 or chosen.draft.nbytes() >= 0.97 * limit
    assert errors["int8", "int4"] <= 1.01 * min(errors["int8",], errors["int4",])


@pytest.mark.parametrize(("layout", "precision"), [("dense", "int4"), ("mixed", "int8")])
def test_the_distortion_is_the_error_of_the_scores(layout: str, precision: str) -> None:
    source = low_rank_source(300, 40)
    draft = drafted(source, ExportRequest(layout, precision, max_bytes=9_000, fit=True, similar=False))
    assert draft.is_cut
    packed = packed_in_memory(draft).tables
    items, users = (packed[name].rows(np.arange(packed[name].plan.n_rows)) for name in ("i", "u"))
    assert source.users is not None
    exact = source.users.dense()[packed["u"].plan.order] @ source.items.dense()[packed["i"].plan.order].T
    assert error_of(draft) == pytest.approx(np.square(users @ items.T - exact).mean(), rel=1e-3)


def test_a_width_that_does_not_fit_in_two_precisions_becomes_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_codings", lambda layout, options: iter([(("int4", "int2"), "row")]))
    given_users = low_rank_source(800, 120)
    source = from_arrays(given_users.items.dense(), encoder=LinearEncoder(np.ones(800, np.float32)))
    for limit in range(13_000, 17_000, 1_000):
        draft = drafted(source, ExportRequest("dense", "auto", max_bytes=limit, similar=False, users=False))
        assert draft.nbytes() >= 0.9 * limit


def test_without_fit_a_table_that_is_too_large_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"smallest that .* allows is .*--fit") as refused:
        choose(low_rank_source(), ExportRequest(max_bytes=30_000))
    smallest = refused.value.smallest
    assert smallest is not None
    assert drafted(low_rank_source(), ExportRequest("mixed", max_bytes=smallest)).nbytes() <= smallest


def test_what_is_expected_to_be_slow_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    codings = [(("int4",), "row"), (("int8",), "auto")]
    monkeypatch.setattr(choosing, "_codings", lambda layout, options: iter(codings))
    source, options = low_rank_source(), ExportRequest("mixed", "auto", max_bytes=20_000, similar=False)
    free = choose(source, options)
    times = {one.precision: one.cost.ms for one in free.tried}
    assert set(times) == {"int4", "int8"}
    most = min(times.values())
    limited = choose(source, replace(options, max_ms=most))
    assert all(one.cost.ms <= most for one in limited.tried)
    assert limited.tried[0].score_error is not None
    assert limited.tried[0].score_error == min(one.score_error for one in limited.tried if one.score_error is not None)
    with pytest.raises(BudgetError, match=r"take [0-9.e-]+ ms at least, and --max-ms allows 0.0001"):
        choose(source, replace(options, max_ms=1e-4))
    with pytest.raises(BudgetError, match="--max-ms allows"):
        choose(source, ExportRequest("dense", "fp32", max_ms=1e-6))


def test_a_bundle_that_uses_all_of_its_time_is_no_worse_for_fewer_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value takes 1.2 times as long in int8: 20 dimensions in it take the time of 24 in fp32, of which 13 fit."""
    codings = [(("fp32",), "auto"), (("int8",), "auto")]
    monkeypatch.setattr(choosing, "_codings", lambda layout, options: iter(codings))
    costs = {name: dict.fromkeys(TERMS, 0.0) for name in ("dense/fp32", "dense/int8")}
    costs["dense/fp32"]["ns_per_value"], costs["dense/int8"]["ns_per_value"] = 1.0, 1.2
    (tmp_path / "costs.json").write_text(json.dumps({"format": FORMAT, "device": "made up", "terms": costs}))
    n = 4000
    source = random_source(n, 40, d=48)
    request = ExportRequest("dense", "auto", max_bytes=55 * n, max_ms=24 * n / 1e6, similar=False, ids="none")
    best = choose(source, replace(request, calibration=str(tmp_path / "costs.json")))
    assert [one.precision for one in best.tried] == ["int8", "fp32"]
    assert all(one.cost.ms <= 24 * n / 1e6 for one in best.tried)
    assert best.tried[0].cost.nbytes < 0.8 * 55 * n
    unknown = json.dumps({"format": FORMAT, "device": "made up", "terms": {"mixed/fp32": costs["dense/fp32"]}})
    (tmp_path / "costs.json").write_text(unknown)
    with pytest.raises(BudgetError, match="the calibration has no times of this bundle"):
        choose(source, replace(request, calibration=str(tmp_path / "costs.json")))


@pytest.mark.slow
def test_the_best_precision_changes_scores_least() -> None:
    source, limit = low_rank_source(), 40_000
    best = choose(source, ExportRequest(precision="auto", max_bytes=limit))
    errors = [
        error_of(drafted(source, ExportRequest(precision=precision, max_bytes=limit, fit=True)))
        for precision in ("fp32", "fp16", "int8", "int4")
    ]
    assert error_of(best.draft) <= min(errors) * 1.001
    assert len(best.tried) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("limit", [16_000, 30_000, 80_000])
def test_codings_that_are_left_out_are_no_better(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ExportRequest(precision="auto", max_bytes=limit)
    chosen = choose(low_rank_source(), request)
    monkeypatch.setattr(choosing, "PROMISING", 1e9)
    best = choose(low_rank_source(), request)
    assert len(chosen.tried) < len(best.tried)
    error, least = chosen.tried[0].score_error, best.tried[0].score_error
    assert error is not None
    assert least is not None
    assert error <= 1.02 * least


def test_an_export_says_what_it_does(tmp_path: Path) -> None:
    steps: list[ExportStep] = []
    source = low_rank_source(300, 40, d=8)
    export(source, tmp_path / "b", precision="auto", max_bytes=12_000, verify=False, progress=steps.append)
    doing = [step.doing for step in steps]
    assert doing[0] == "estimating mixed fp32"
    assert doing[-1] == "writing"
    fitting = [step for step in steps if step.doing.startswith("fitting ")]
    assert [step.done for step in fitting] == list(range(len(fitting)))
    assert all(step.total is not None and step.done < step.total for step in fitting)


@pytest.mark.slow
def test_more_bytes_never_change_scores_more() -> None:
    source = low_rank_source()
    errors = [
        error_of(drafted(source, ExportRequest(precision="auto", max_bytes=limit)))
        for limit in (20_000, 40_000, 80_000, 160_000)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [12_000, 20_000, 30_000, 50_000])
def test_what_precision_auto_writes_answers_as_numpy(limit: int, tmp_path: Path) -> None:
    source = low_rank_source(n_items=1500, n_users=300)
    done = export(source, tmp_path / "b", precision="auto", max_bytes=limit, similar=False)
    assert done.verification is not None


@pytest.mark.slow
def test_a_table_in_two_precisions_answers_as_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places without a value read as zero in both; verification compares every answer."""
    monkeypatch.setattr(choosing, "_codings", lambda layout, options: iter([(("int8", "int4"), "row")]))
    source = low_rank_source(n_items=1500, n_users=300)
    found = set()
    for limit in range(26_000, 62_000, 6_000):
        done = export(source, tmp_path / "b", layout="mixed", precision="auto", max_bytes=limit, similar=False)
        found |= done.chosen.draft.precisions()
        assert done.verification is not None
    assert found == {"int8", "int4"}


def test_auto_takes_a_layout_made_for_the_table() -> None:
    assert drafted(random_source(3000, 60), ExportRequest()).request.layout == "mixed"
    large = low_rank_source(n_items=20_000, density=0.1)
    assert drafted(large, ExportRequest(precision="int8")).request.layout in ("ell", "csc", "bitmask")
    names = [one.layout for one in choose(low_rank_source(density=0.1), ExportRequest(precision="int8")).tried]
    assert len(set(names)) == len(names) > 2


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_finer_scales_change_scores_less(precision: str) -> None:
    source = low_rank_source()
    errors = [
        error_of(drafted(source, ExportRequest("mixed", precision, scales=scales))) for scales in ("table", "row")
    ]
    assert errors[1] < errors[0]


def test_error_feedback_follows_the_users() -> None:
    """Scales and rounding know what users look along: int4 for users of few directions is better than for any."""
    source = low_rank_source()
    users = source.users
    assert users is not None
    known = drafted(source, ExportRequest("dense", "int4", scales="row"))
    blind = Source(source.items, source.item_ids, DenseTable(np.eye(24, dtype=np.float32)), np.arange(24))
    places, errors = np.arange(source.items.n_rows), []
    for draft in (known, drafted(blind, ExportRequest("dense", "int4", scales="row"))):
        packed = packed_in_memory(draft).tables["i"]
        error = packed.rows(places) - draft.rotated(source.items).rows(packed.plan.order)
        errors.append(float(np.square(draft.rotated(users).rows(np.arange(users.n_rows)) @ error.T).mean()))
    assert errors[0] < 0.8 * errors[1]


def test_similar_items_ship_where_they_fit(tmp_path: Path) -> None:
    source = low_rank_source(500, 40)
    without = drafted(source, ExportRequest("mixed", similar=False)).nbytes()
    done = export(source, tmp_path / "tight", layout="mixed", max_bytes=without + 20)  # the manifest names the limit
    assert "similar" not in read_manifest(done.folder).graphs
    assert done.similar_left_out
    assert not export(source, tmp_path / "asked", layout="mixed", similar=False).similar_left_out
    done = export(source, tmp_path / "whole", layout="mixed")
    assert not done.similar_left_out
    model = Recommender.load(done.folder)
    answer = model.similar(source.item_ids[7].item(), k=5)
    rows = source.items.dense().astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows[7]
    cosines[7] = -np.inf
    assert [source.item_ids.tolist().index(one.item) for one in answer] == np.argsort(-cosines)[:5].tolist()
    assert [one.score for one in answer] == pytest.approx(np.sort(cosines)[::-1][:5].tolist(), abs=2e-3)


def test_csc_may_ship_rows_twice(tmp_path: Path) -> None:
    source = low_rank_source(density=0.15)
    once = export(source, tmp_path / "once", layout="csc", precision="int8")
    twice = export(source, tmp_path / "twice", layout="csc", precision="int8", lookup=True)
    assert {"l"} == {name for name in twice.parts if name == "l"} - set(once.parts)
    with pytest.raises(BudgetError):
        export(source, tmp_path / "no", layout="csc", precision="int8", lookup=True, max_bytes=once.nbytes)
    user = source.user_ids[3].item() if source.user_ids is not None else 0
    items = source.item_ids[:50].tolist()
    pairs = [Recommender.load(done.folder).score(user, items) for done in (once, twice)]
    np.testing.assert_allclose(pairs[0], pairs[1], rtol=0.05, atol=0.05)


def test_memory_is_measured_and_met_or_refused(tmp_path: Path) -> None:
    source = random_source(60_000, 40, d=32)
    done = export(source, tmp_path / "b", max_rss=60_000_000)
    assert done.peak_bytes is not None
    assert done.nbytes / 2 < done.peak_bytes <= 60_000_000
    with pytest.raises(BudgetError, match="memory"):
        export(source, tmp_path / "no", max_rss=2_000_000)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_table_is_fitted_to_memory_too(tmp_path: Path) -> None:
    source = random_source(60_000, 40, d=32)
    whole = choose(source, ExportRequest("mixed")).tried[0].cost.peak_bytes
    done = export(source, tmp_path / "b", layout="mixed", fit=True, max_rss=int(0.8 * whole), verify=False)
    assert done.chosen.density < 1
    assert done.peak_bytes is not None
    assert done.peak_bytes <= 0.8 * whole


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("layout", ["dense", "mixed"])
def test_fit_goes_down_to_one_value_a_row(layout: str, precision: str) -> None:
    """What is refused names the least that one value a row takes, and that is met."""
    source = low_rank_source()
    with pytest.raises(BudgetError) as refused:
        choose(source, ExportRequest(layout, precision, max_bytes=1000, fit=True))
    smallest = refused.value.smallest
    assert smallest is not None
    assert "--fit" not in str(refused.value)
    assert drafted(source, ExportRequest(layout, precision, max_bytes=smallest, fit=True)).nbytes() <= smallest
    with pytest.raises(BudgetError):
        choose(source, ExportRequest(layout, precision, max_bytes=smallest - 1, fit=True))


@pytest.mark.slow
@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize(
    ("layout", "precision"), [("csr", "int4"), ("mixed", "int8"), ("ell", "int8"), ("dense", "auto"), ("csc", "auto")]
)
def test_the_size_that_is_named_is_enough_where_scales_must_be_finer(
    layout: str, precision: str, fit: bool, tmp_path: Path
) -> None:
    """Which rows a scale loses shows when they are packed: scales of their own then take bytes."""
    rng = np.random.default_rng(2)
    items = rng.standard_normal((700, 6)) * 10.0 ** rng.uniform(-3, 3, (700, 1))
    users = rng.standard_normal((40, 6))
    users[3] *= 1e-4
    one = from_arrays(items.astype(np.float32), users.astype(np.float32))
    form: dict[str, Any] = {"layout": layout, "precision": precision, "fit": fit, "verify": False}
    with pytest.raises(BudgetError, match=r"does not fit 5000 bytes; the smallest .* is \d+ bytes") as refused:
        export(one, tmp_path / "b", max_bytes=5000, **form)
    assert list(tmp_path.iterdir()) == []
    smallest = refused.value.smallest
    assert smallest is not None
    assert f" {smallest} bytes" in str(refused.value)
    assert export(one, tmp_path / "b", max_bytes=smallest, **form).nbytes <= smallest


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "precision"), FORMS)
@pytest.mark.parametrize(("n_items", "d"), [(50, 1), (1, 1), (50, 2), (2, 3)])
def test_the_smallest_tables_answer(layout: str, precision: str, n_items: int, d: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tables = [DenseTable(rng.standard_normal((n, d), np.float32)) for n in (n_items, 4)]
    source = Source(tables[0], np.arange(n_items), tables[1], np.arange(4))
    done = export(source, tmp_path / "b", layout=layout, precision=precision, verify=False)
    model = Recommender.load(done.folder)
    best = model.recommend(2, k=1)[0]
    assert model.score(2, [best.item])[0] == pytest.approx(best.score, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": "row"},
        {"precision": "auto", "scales": "block"},
        {"layout": "mixed", "lookup": True},
        {"layout": "csc", "precision": "int8", "scales": "row"},
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError):
        ExportRequest(**options)  # type: ignore[arg-type]


def test_scales_a_row_leave_csc_out() -> None:
    source = low_rank_source(density=0.1)
    assert "csc" not in {one.layout for one in choose(source, ExportRequest(precision="int8", scales="row")).tried}


def test_what_needs_a_limit_says_so() -> None:
    with pytest.raises(UnsupportedError, match="--max-bytes"):
        choose(low_rank_source(), ExportRequest(precision="auto"))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "edgerec.calibration", "terms": {}}', '{"format": "x"}'])
def test_a_calibration_that_is_none_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ExportError, match="no calibration"):
        choose(low_rank_source(), ExportRequest(calibration=path))

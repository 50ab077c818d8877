"""One suite for every method x backbone x layout x precision. Being in a registry is all it takes to be tested.

Each supported pair of method and backbone is trained once; its tables are then exported in every layout and precision
and compared in this process, a sample of them in a fresh one. `make test` exports three of the 24 forms of each pair,
so that each form is tested with many pairs; `make test-all` exports all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import train
from edgerec.budget import Budget
from edgerec.data import Interactions, SplitSpec, split, synthetic
from edgerec.errors import BudgetError, UnsupportedError
from edgerec.measure import evaluate, measure_vectors
from edgerec.methods import METHODS, method
from edgerec.models import BACKBONES, backbone
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable
from edgerec.training import FitOptions, Run
from edgerec_export import ExportRequest, Source, export, export_request, from_run
from edgerec_export.layouts import FORMS
from edgerec_export.values import PER_BYTE, PRECISIONS

BUDGET = "25%"
OPTIONS = FitOptions(max_epochs=6, threads=1)


def supported(method_name: str, backbone_name: str) -> bool:
    try:
        method(method_name, backbone_name)
    except UnsupportedError:
        return False
    return True


TOLERANCE = {"fp32": 0.01, "fp16": 0.01, "int8": 0.1, "int4": 0.3, "int2": 0.7}
"""Share of NDCG@20 that a precision may change."""
PAIRS = [(m, b) for m in METHODS for b in BACKBONES if supported(m, b)]


def stores(precision: str, backbone_name: str) -> bool:
    """Rows of few values have those of neighbours next to the item's own, in whose steps of 4 bits they are zeros."""
    return precision not in PER_BYTE or not backbone(backbone_name).sparse_rows


BUNDLES = [
    pytest.param(*pair, *form, marks=[] if (i - j) % 8 == 0 else pytest.mark.slow)
    for i, pair in enumerate(PAIRS)
    for j, form in enumerate(FORMS)
    if stores(form[1], pair[1])
]


@cache
def data() -> Interactions:
    return synthetic(n_users=300, n_items=200, n=9000, seed=1)


# The backbone's decay suits full rows: where a quarter of the values is trained from noise it leaves nothing.
SETTINGS = {(name, "mf"): {"l2": 0.002} for name in ("set", "rigl", "bet", "ciess")} | {
    ("set", "lightgcn"): {"l2": 0.005}
}
# After 6 epochs it has learnt so little that items are tied, and the order of ties is open.
EPOCHS = {("rigl", "mf"): 12}
# Searches that take seconds; what ships is what they found.
METHOD_SETTINGS: dict[str | tuple[str, str], dict[str, Any]] = {
    ("bet", "svd"): {"actions": 20, "users": 100, "finalists": 4, "include_uniform_baseline": False},
    ("ciess", "svd"): {"actions": 20, "users": 100, "finalists": 4, "updates": 1, "include_uniform_baseline": False},
    "bet": {"iterations": 6, "candidates": 10, "epochs": 2, "retrain": 2, "include_uniform_baseline": False},
    "ciess": {
        "episodes": 2,
        "iterations": 2,
        "updates": 2,
        "n_finalists": 2,
        "epochs": 2,
        "retrain": 2,
        "candidate_sources": "smoothed",
    },
    "pep": {"search_epochs": 6},
}


@cache
def trained(method_name: str, backbone_name: str) -> Run:
    budget = BUDGET if method(method_name, backbone_name).budgeted else None
    return train(
        data(),
        backbone=backbone_name,
        method=method_name,
        budget=budget,
        dimensions=16,
        settings=SETTINGS.get((method_name, backbone_name)),
        method_settings=METHOD_SETTINGS.get((method_name, backbone_name), METHOD_SETTINGS.get(method_name)),
        max_epochs=EPOCHS.get((method_name, backbone_name), OPTIONS.max_epochs),
        threads=OPTIONS.threads,
    )


@pytest.mark.parametrize(("method_name", "backbone_name"), PAIRS)
class TestPair:
    def test_tables_keep_the_budget(self, method_name: str, backbone_name: str) -> None:
        run = trained(method_name, backbone_name)
        rows = run.items.n_rows + (run.users.n_rows if run.users else 0)
        values = run.items.n_values + (run.users.n_values if run.users else 0)
        assert (run.users is None) == (not backbone(backbone_name).user_table)
        if method(method_name, backbone_name).budgeted:
            allowed = Budget.parse(BUDGET).values(rows, 16)
            assert 0.7 * allowed <= values <= allowed
        elif backbone(backbone_name).sparse_rows:
            assert 0.7 * rows * 16 <= values <= rows * 16
        else:
            assert values == rows * 16

    def test_it_learns(self, method_name: str, backbone_name: str) -> None:
        run = trained(method_name, backbone_name)
        assert run.metrics["test"]["ndcg@20"] > 1.5 * untrained_ndcg()
        assert run.metrics["validation"]["ndcg@20"] > 0

    def test_the_run_is_stored_as_it_is(self, method_name: str, backbone_name: str, tmp_path: Path) -> None:
        run = trained(method_name, backbone_name)
        run.save(tmp_path)
        again = Run.load(tmp_path)
        assert again.config == run.config
        assert again.metrics == run.metrics
        assert again.items.kind == run.items.kind
        assert np.array_equal(again.items.dense(), run.items.dense())
        tables = [tmp_path / "items.npz", *([tmp_path / "users.npz"] if run.users else [])]
        # A file's names and headers are about 250 bytes an array, of which a sparse table has most.
        assert sum(path.stat().st_size for path in tables) < run.nbytes + 1300 * len(tables)
        measured = evaluate(again, data(), threads=1)
        assert measured == pytest.approx(run.metrics["test"], abs=1e-6)

    @pytest.mark.parametrize("turn", range(3))
    def test_bundles_without_users_answer_as_the_encoder_does(
        self, method_name: str, backbone_name: str, turn: int, tmp_path: Path
    ) -> None:
        """In three of the forms for each pair, of which the first is asked in a fresh process too."""
        run = trained(method_name, backbone_name)
        if run.encoder is None:
            with pytest.raises(UnsupportedError, match="NCF"):
                export(from_run(run), tmp_path / "b", users=False)
            return
        forms = [form for form in FORMS if stores(form[1], backbone_name)]
        layout, precision = forms[(3 * PAIRS.index((method_name, backbone_name)) + turn) % len(forms)]
        options = ExportRequest(layout, precision, titles=True, users=False, verify=turn == 0)
        model = Recommender.load(export_request(from_run(run), tmp_path / "b", options).folder)
        assert model.n_users == 0
        parts = split(data(), SplitSpec.from_dict(run.config["split"]))
        items = run.items.dense()
        expected = measure_vectors(parts, run.encoder.users(parts.train_all, items), items)
        tolerance = TOLERANCE[precision]
        assert evaluate(model, data())["ndcg@20"] == pytest.approx(expected["ndcg@20"], rel=tolerance)
        check_pairs(model, precision)
        assert run.item_counts is not None
        popular = data().item_ids[np.argsort(-run.item_counts.astype(int), kind="stable")].tolist()
        assert [answer.item for answer in model.recommend(history=[], k=5)] == popular[:5]

    def test_the_encoder_is_measured_beside_the_table(self, method_name: str, backbone_name: str) -> None:
        run = trained(method_name, backbone_name)
        if run.users is None or run.encoder is None:
            assert "encoder" not in run.metrics
            return
        made, table = run.metrics["encoder"]["ndcg@20"], run.metrics["test"]["ndcg@20"]
        assert made > 0.85 * table


@pytest.mark.parametrize(("method_name", "backbone_name", "layout", "precision"), BUNDLES)
def test_bundles_answer_as_the_tables_do(
    method_name: str, backbone_name: str, layout: str, precision: str, tmp_path: Path
) -> None:
    run = trained(method_name, backbone_name)
    # In a fresh process for one form of each pair; the others are asked in this one by `evaluate`.
    forms = [form for form in FORMS if stores(form[1], backbone_name)]
    fresh = (layout, precision) == forms[PAIRS.index((method_name, backbone_name)) % len(forms)]
    done = export(from_run(run), tmp_path / "b", layout=layout, precision=precision, titles=True, verify=fresh)
    assert (done.verification is not None) == fresh
    model = Recommender.load(done.folder)
    assert done.nbytes == model.manifest.nbytes == sum(f.stat().st_size for f in done.folder.iterdir())
    measured = evaluate(model, data())
    tolerance = TOLERANCE[precision]
    assert measured["ndcg@20"] == pytest.approx(run.metrics["test"]["ndcg@20"], rel=tolerance)
    check_pairs(model, precision)


def check_pairs(model: Recommender, precision: str) -> None:
    """`recommend` and `score` agree, what is excluded stays out, and titles belong to their items."""
    items = data().item_ids.tolist()
    asked = {"user": data().user_ids.tolist()[5]} if model.n_users else {"history": items[3:9]}
    exclude = items[10:60]
    best = model.recommend(**asked, k=20, exclude=exclude)
    assert len({answer.item for answer in best}) == 20
    assert not {answer.item for answer in best} & {*exclude, *asked.get("history", [])}
    scores = model.score(**asked, items=[answer.item for answer in best])
    assert np.allclose(scores, [answer.score for answer in best], rtol=1e-4, atol=1e-5)
    assert (np.diff(scores) <= 1e-4 * np.abs(scores).max()).all()
    titles = dict(zip(items, data().titles.tolist(), strict=True))
    assert [model.title(answer.item) for answer in best] == [titles[answer.item] for answer in best]


@cache
def untrained_ndcg() -> float:
    """What random vectors reach."""
    rng = np.random.default_rng(0)
    run = trained("dense", "ials")
    random = replace(
        run,
        items=DenseTable(rng.standard_normal((run.items.n_rows, 16))),
        users=DenseTable(rng.standard_normal((data().n_users, 16))),
    )
    return evaluate(random, data())["ndcg@20"]


@pytest.mark.parametrize("backbone_name", BACKBONES)
@pytest.mark.parametrize(
    "precision", [pytest.param(one, marks=[] if one == "int8" else pytest.mark.slow) for one in PRECISIONS]
)
def test_a_budget_in_bytes_is_one_of_the_default_bundle(backbone_name: str, precision: str, tmp_path: Path) -> None:
    """Training reserves what is no table value, so that the default export fits."""
    if not stores(precision, backbone_name):
        return
    model = backbone(backbone_name)
    limit = 24_000 + 4 * model.extra_parameters(16, model.config())
    for widths in (2, 16):
        run = train(
            data(),
            backbone=backbone_name,
            budget=f"{limit}B",
            dimensions=16,
            precision=precision,
            method_settings={"widths": widths, "exponent": 0.6},
            max_epochs=1,
            threads=1,
        )
        done = export(from_run(run), tmp_path / "b", precision=precision, verify=False)
        assert done.nbytes <= limit


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random:80/20", "random:50/25/25"])
@pytest.mark.parametrize("backbone_name", BACKBONES)
def test_a_bundle_is_measured_as_its_run(backbone_name: str, split: str, tmp_path: Path) -> None:
    """A history is what the final model was trained on, whatever the split."""
    run = train(data(), backbone=backbone_name, method="dense", dimensions=16, split=split, **vars(OPTIONS))
    model = Recommender.load(export(from_run(run), tmp_path / "b", verify=False).folder)
    assert evaluate(model, data())["ndcg@20"] == pytest.approx(run.metrics["test"]["ndcg@20"], rel=0.01)


def test_a_small_catalogue_is_measured(tmp_path: Path) -> None:
    few = synthetic(n_users=60, n_items=15, n=400, seed=1)
    run = train(few, backbone="svd", method="dense", dimensions=4, **vars(OPTIONS))
    model = Recommender.load(export(from_run(run), tmp_path / "b", verify=False).folder)
    assert evaluate(model, few)["ndcg@20"] == pytest.approx(run.metrics["test"]["ndcg@20"], rel=0.01)


@pytest.mark.slow
def test_a_large_budgeted_table_fits_without_being_told(tmp_path: Path) -> None:
    """Above 10,000 rows a table has more widths, and the exporter would pad to save nodes: not past the budget."""
    large = synthetic(n_users=11_000, n_items=12_000, n=60_000, seed=2)
    run = train(large, backbone="svd", budget="300KiB", dimensions=32, **vars(OPTIONS))
    done = export(from_run(run), tmp_path / "b", verify=False)
    assert 0.9 * 300 * 1024 < done.nbytes <= 300 * 1024


@pytest.mark.parametrize("make", [lambda: method("dense", "no such"), lambda: method("no such", "ials")])
def test_an_unsupported_pair_says_what_is_supported(make: Callable[[], object]) -> None:
    with pytest.raises(UnsupportedError, match=r"dense|ials"):
        make()
    with pytest.raises(UnsupportedError, match="svd"):
        backbone("no such")


def test_what_does_not_exist_is_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="mixed"):
        export(source, tmp_path / "b", layout="no such layout")
    with pytest.raises(UnsupportedError, match="fp32"):
        ExportRequest(precision="fp8")
    assert not list(tmp_path.iterdir())


def test_dense_takes_no_budget() -> None:
    with pytest.raises(BudgetError, match="uniform"):
        train(data(), method="dense", budget="10%")
    with pytest.raises(BudgetError, match="--budget"):
        train(data(), method="popularity")

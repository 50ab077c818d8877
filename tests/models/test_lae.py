"""The tied linear encoder: its rows are trained in the codes that bundles store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions, synthetic
from edgerec.errors import SettingError
from edgerec.measure import evaluate
from edgerec.models import SizePlan, Vectors, backbone
from edgerec.models.lae import LAEConfig
from edgerec.models.quantizer import Quantizer
from edgerec.runtime import Recommender
from edgerec.tables import CodedTable, load_table
from edgerec.training import Run
from edgerec_export import export, from_run
from edgerec_export.choose import choose
from edgerec_export.pack import packed_in_memory
from edgerec_export.request import ExportRequest


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(n_users=300, n_items=200, n=9000, seed=1)


@pytest.fixture(scope="module", params=["int2", "int4", "int8"])
def run(request: pytest.FixtureRequest, data: Interactions) -> Run:
    return trained(data, request.param)


def trained(data: Interactions, precision: str, budget: str = "4B/row") -> Run:
    return train(data, backbone="lae", budget=budget, dimensions=32, precision=precision, max_epochs=4, threads=1)


def test_rows_are_stored_as_the_codes_that_were_trained(run: Run, tmp_path: Path) -> None:
    assert isinstance(run.items, CodedTable)
    draft = choose(from_run(run), ExportRequest(precision=run.config["precision"])).draft
    packed = packed_in_memory(draft)
    places = np.arange(run.items.n_rows)
    order = draft.items.order
    sizes = run.items.sizes()
    widths = np.repeat([block.width for block in draft.items.blocks], [block.rows for block in draft.items.blocks])
    assert np.array_equal(widths, sizes[order])
    assert np.array_equal(packed.tables["i"].arrays["s"], run.items.row_codes.steps[order])
    stored = packed.tables["i"].rows(places)
    assert np.array_equal(stored, run.items.rows(order)[:, : stored.shape[1]])
    assert packed.encoder is not None
    assert run.encoder is not None
    assert draft.rotation is None


def test_the_bundle_answers_as_training_does(run: Run, data: Interactions, tmp_path: Path) -> None:
    """Id for id: both round users to int8, sum products of integers exactly, and rank ties by row.

    A number within 1e-4 of the middle between two integers may be rounded either way, as float32 sums have an order.
    """
    done = export(from_run(run), tmp_path / "b", precision=run.config["precision"])
    assert done.verification is not None
    model = Recommender.load(done.folder)
    items = run.items
    assert isinstance(items, CodedTable)
    assert run.encoder is not None
    row_of = {item: row for row, item in enumerate(data.item_ids.tolist())}
    order = np.array([row_of[item] for item in model.item_ids(range(model.n_items))])
    scales = items.row_codes.scales()[order]
    codes = np.rint(items.dense()[order] / scales[:, None])
    users = run.encoder.users(data, items.dense())
    in_steps = users / (np.abs(users).max(1, keepdims=True) / np.float32(127))
    clear = np.flatnonzero((np.abs(in_steps % 1 - 0.5) > 1e-4).all(1))
    assert len(clear) > 0.9 * data.n_users
    of_users = np.rint(in_steps)
    scores = (of_users @ codes.T).astype(np.float32) * scales
    scores[data.matrix().toarray()[:, order] > 0] = -np.inf
    expected = data.item_ids[order[np.argsort(-scores, axis=1, kind="stable")[:, :20]]]
    for user in clear[::7].tolist():
        history = data.item_ids[data.indices[data.indptr[user] : data.indptr[user + 1]]].tolist()
        found = [answer.item for answer in model.recommend(history=history, k=20)]
        assert found == expected[user].tolist()


def test_a_run_of_codes_is_stored_as_codes(run: Run, tmp_path: Path) -> None:
    run.save(tmp_path)
    again = load_table(tmp_path / "items.npz")
    assert isinstance(again, CodedTable)
    assert isinstance(run.items, CodedTable)
    assert np.array_equal(again.values, run.items.values)
    assert np.array_equal(again.row_codes.steps, run.items.row_codes.steps)
    assert run.nbytes < run.items.values.nbytes


def test_a_run_is_measured_as_its_bundle(run: Run, data: Interactions, tmp_path: Path) -> None:
    of_run = evaluate(run, data, threads=1)
    assert of_run == pytest.approx(run.metrics["test"], abs=1e-6)
    done = export(from_run(run), tmp_path / "b", precision=run.config["precision"], verify=False)
    assert evaluate(Recommender.load(done.folder), data)["ndcg@20"] == pytest.approx(of_run["ndcg@20"], rel=1e-3)


def test_another_precision_is_rounded_as_any_table(data: Interactions, tmp_path: Path) -> None:
    done = export(from_run(trained(data, "int2")), tmp_path / "b", precision="fp32", verify=False)
    assert done.chosen.draft.trained_codes is None
    assert done.chosen.draft.precisions() == {"fp32"}


def test_sizes_are_whole_bytes_and_follow_popularity(run: Run) -> None:
    sizes, unit = run.items.sizes(), 8 // {"int2": 2, "int4": 4, "int8": 8}[run.config["precision"]]
    assert not (sizes % unit).any()
    assert sizes.sum() / unit <= 4 * run.items.n_rows
    assert run.item_counts is not None
    order = np.argsort(-run.item_counts.astype(int))
    assert sizes[order[:20]].mean() > 2 * sizes[order[-20:]].mean()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_is_idempotent(bits: int) -> None:
    """Codes of rows that are rounded already decode to the same rows, if their scales are the same."""
    rows = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    sizes = np.full(50, 16)
    found, codes = Quantizer(sizes, 16, bits).codes(rows)
    error = np.sqrt(np.square(found - rows).mean())
    assert error < {2: 0.4, 4: 0.13, 8: 0.02}[bits]
    levels = np.unique(np.rint(found / codes.scales()[:, None]))
    assert len(levels) <= {2: 4, 4: 15, 8: 255}[bits]


def test_a_checkpoint_keeps_the_codes(data: Interactions) -> None:
    model = backbone("lae")
    trainer = model.trainer(data, SizePlan(8), LAEConfig(bits=4), seed=0, threads=1)
    trainer.epoch()
    vectors = trainer.vectors()
    again = Vectors.from_arrays(vectors.arrays())
    assert again.codes is not None
    assert vectors.codes is not None
    assert np.array_equal(again.codes.steps, vectors.codes.steps)
    assert np.array_equal(again.with_history(data).users, vectors.users)


def test_training_in_two_bits_is_better_than_rounding_after_it(data: Interactions, tmp_path: Path) -> None:
    """The reason for the backbone; means of three seeds."""
    how: Any = {"backbone": "lae", "dimensions": 8, "settings": {"encoder": "sum"}, "max_epochs": 12, "threads": 1}
    coded, rounded = [], []
    for seed in range(3):
        coded.append(train(data, precision="int2", seed=seed, **how).metrics["test"]["ndcg@20"])
        plain = from_run(train(data, precision="fp32", seed=seed, **how))
        bundle = export(plain, tmp_path / str(seed), precision="int2", layout="dense", verify=False).folder
        rounded.append(evaluate(Recommender.load(bundle), data)["ndcg@20"])
    assert fmean(coded) > fmean(rounded)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="bits must be one of 2, 4, 8, 32"):
        LAEConfig(bits=3)
    with pytest.raises(SettingError, match="history"):
        replace(LAEConfig(), history=1.0)

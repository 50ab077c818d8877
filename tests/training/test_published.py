"""A published split, through training, evaluation and tuning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgerec import evaluate, train
from edgerec.data import Interactions, evaluate_vectors, split, synthetic
from edgerec.data.folders import read_folder, write_folder
from edgerec.errors import DataError
from edgerec.training import Run
from edgerec.tune import tune


@pytest.fixture
def data(tmp_path: Path) -> Interactions:
    made = synthetic(60, 40, 900)
    parts = split(made, "random:80/20")
    tests = set(zip(parts.test.user_rows().tolist(), parts.test.indices.tolist(), strict=True))
    for part in ("train", "test"):
        lines = []
        for user in range(made.n_users):
            chosen = [item for item in made.items_of(user).tolist() if ((user, item) in tests) == (part == "test")]
            lines.append(" ".join(map(str, [user, *chosen])) + "\n")
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    return read_folder(tmp_path, name="published")


def test_a_run_is_measured_on_exactly_the_test_file(data: Interactions, tmp_path: Path) -> None:
    run = train(data, backbone="svd", method="dense", dimensions=8, split="published", out=tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["split"]["kind"] == "published"
    assert data.parts is not None
    seen, test = data.select(data.parts == 0), data.select(data.parts == 2)
    assert run.encoder is not None
    items = run.items.dense()
    expected = evaluate_vectors(run.encoder.users(seen, items), items, seen, test, ks=(5, 10, 20))
    assert run.metrics["test"] == pytest.approx(expected, rel=1e-3)
    loaded = Run.load(tmp_path / "run")
    assert evaluate(loaded, data) == pytest.approx(expected, rel=1e-3)
    write_folder(tmp_path / "merged", Interactions(**{**vars(data), "parts": None}), {})
    with pytest.raises(DataError, match="comes without a published split"):
        evaluate(loaded, read_folder(tmp_path / "merged"))


def test_tuning_sees_no_test_part(data: Interactions) -> None:
    pytest.importorskip("optuna")
    study = tune(data, trials=2, backbone="svd", method="dense", dimensions=8, split="published")
    assert [trial.score for trial in study.trials if trial.score]

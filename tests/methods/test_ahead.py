"""Each method ahead of one size for all at its bytes, on data whose best sizes are known.

Searches on the SVD are in tests/methods/search/test_cuts.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions, StreamSpec
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.streaming import train_stream
from edgerec.training import Run
from edgerec_export import export, from_run

AHEAD = 1.1
"""Least NDCG@20 over that of one size: seeds differ by 2 %."""


def planted() -> Interactions:
    """16 groups of users, each with three items of its own, which they have nearly all, and 350 rare items by chance.

    The 48 items take 15 dimensions; one size for all leaves every row 8 of two bits within 2 bytes.
    """
    rng = np.random.default_rng(0)
    users, items = np.meshgrid(np.arange(800), np.arange(48), indexing="ij")
    own = (users % 16 == items // 3) & (rng.random(users.shape) < 0.8)
    rare = rng.integers(0, 800, 1400), 48 + rng.integers(0, 350, 1400)
    return Interactions.from_pairs(
        np.concatenate([users[own], rare[0]]), np.concatenate([items[own], rare[1]]), name="planted"
    )


@pytest.fixture(scope="module")
def data() -> Interactions:
    return planted()


def trained(data: Interactions, **options: Any) -> Run:
    return train(data, **{"dimensions": 32, "seed": 0, "threads": 1, **options})


def shipped(run: Run, data: Interactions, out: Path, **options: Any) -> tuple[float, int]:
    """NDCG@20 of the answers of a run's bundle, and its bytes."""
    done = export(from_run(run), out, **options)
    with Recommender.load(done.folder) as model:
        return evaluate(model, data)["ndcg@20"], done.nbytes


@pytest.mark.parametrize("precision", ["int8", "int4", "int2"])
def test_sizes_by_popularity(data: Interactions, tmp_path: Path, precision: str) -> None:
    found = {}
    for method in ("uniform", "random", "popularity"):
        run = trained(data, backbone="svd", method=method, budget="2B/row", precision=precision)
        found[method], _ = shipped(run, data, tmp_path / method, users=False, precision=precision)
    assert found["popularity"] > AHEAD * found["uniform"] > AHEAD * found["random"]


def test_fitted_rows_and_rows_trained_as_they_are_stored(data: Interactions, tmp_path: Path) -> None:
    """In at most the bytes of the best bundle of one size, and in the same bytes of values."""
    options: dict[str, Any] = {"budget": "2B/row", "precision": "int2"}
    one = trained(data, backbone="svd", method="uniform", **options)
    uniform, nbytes = shipped(one, data, tmp_path / "one.edgerec", users=False, precision="int2")
    full = trained(data, backbone="svd", method="dense")
    how: dict[str, Any] = {"precision": "auto", "fit": True, "max_bytes": nbytes}
    fitted, taken = shipped(full, data, tmp_path / "fitted.edgerec", users=False, **how)
    assert taken <= nbytes
    assert fitted > AHEAD * uniform
    coded = trained(data, backbone="lae", method="popularity", **options)
    assert shipped(coded, data, tmp_path / "lae.edgerec", users=False, precision="auto")[0] > AHEAD * uniform


def test_values_at_positions_that_training_finds(data: Interactions) -> None:
    """A twentieth of the values: one or two of 32 in each row, or 32 where they matter."""
    found = {}
    for method in ("uniform", "magnitude", "sparserec"):
        found[method] = trained(data, backbone="mf", method=method, budget="5%").metrics["test"]["ndcg@20"]
    assert found["sparserec"] > AHEAD * max(found["uniform"], found["magnitude"])


def planted_stream() -> Interactions:
    """Five days, each with 320 new users, of 16 groups with six items of their own, and one rare item each by chance.

    Users of a day and the 96 items take 15 dimensions; users who left and rare items none.
    """
    rng, days, per_day = np.random.default_rng(0), 5, 320
    users, items = np.meshgrid(np.arange(days * per_day), np.arange(96), indexing="ij")
    own, everyone = users % 16 == items // 6, np.arange(days * per_day)
    users = np.concatenate([users[own], everyone])
    items = np.concatenate([items[own], 96 + rng.integers(0, 350, everyone.size)])
    times = users // per_day * 86_400 + rng.integers(0, 86_400, users.size)
    return Interactions.from_pairs(users, items, timestamps=times, name="planted stream")


@pytest.mark.slow
def test_sizes_that_follow_a_stream(tmp_path: Path) -> None:
    """With four values a row on average; `scall` searches from the third day on."""
    found = {}
    for method in ("uniform", "scall"):
        result = train_stream(
            planted_stream(),
            out=tmp_path / method,
            method=method,
            budget="12.5%",
            dimensions=32,
            segments=StreamSpec("days", 1, holdout="user"),
            settings={"alpha": 4.0, "reg": 1.0},
            threads=1,
        )
        found[method] = [segment.metrics["ndcg@20"] for segment in result.segments]
    assert found["scall"][:2] == found["uniform"][:2]
    assert np.mean(found["scall"][2:]) > AHEAD * np.mean(found["uniform"][2:])

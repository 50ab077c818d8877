"""PEP: thresholds rise until the budget is left, which is then trained again from where it began."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgerec.api import TrainRequest, train, train_request
from edgerec.data import Interactions
from edgerec.errors import SettingError
from edgerec.methods.sparse.mf_ncf import MFObjective
from edgerec.methods.sparse.soft_threshold import SoftTable, searched_mask
from edgerec.models.mf import MFConfig
from edgerec.training import FitOptions, Step
from tests.conftest import CommandLine
from tests.methods.test_magnitude import resumes_to_the_bit, tables_of

GRANULARITIES = ("global", "dimension", "feature", "feature-dim")
OPTIONS = FitOptions(seed=3, threads=1, max_epochs=2)


def soft(n: int = 50, d: int = 6, granularity: str = "feature-dim", threshold: float = -2.0) -> SoftTable:
    values = np.random.default_rng(0).standard_normal((n, d), np.float32) / 5
    return SoftTable(values, granularity, threshold, 0.1)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_values_are_shrunk_by_their_threshold(granularity: str) -> None:
    values = np.random.default_rng(0).standard_normal((50, 6), np.float32) / 5
    table = soft(granularity=granularity)
    limit = 1 / (1 + np.exp(2.0))
    expected = np.sign(values) * np.maximum(np.abs(values) - limit, 0)
    everything = np.arange(50)
    assert np.allclose(table.rows(everything), expected, atol=1e-6)
    assert table.count == np.count_nonzero(expected)
    assert table.count == np.count_nonzero(expected)
    assert np.allclose(table.dimensions(2, 5), expected[:, 2:5], atol=1e-6)
    vectors = np.ones((50, 6), np.float32)
    assert np.allclose(table.dots(vectors, everything), expected.sum(1), atol=1e-5)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_mask_has_the_budget_and_a_value_in_each_row(granularity: str, interactions: Interactions) -> None:
    objective = MFObjective(interactions, 8, MFConfig(batch=1000), 1, None)
    values = np.random.default_rng(0).standard_normal((500, 8), np.float32) / 10
    table = SoftTable(values.copy(), granularity, -5.0, 1e-3)
    mask = searched_mask(objective, table, 1500, 25, seed=0, threads=1)
    assert table.count <= 1500
    assert mask.pointers[-1] == mask.columns.size == 1500
    assert np.diff(mask.pointers).min() >= 1


def test_without_gradients_thresholds_rise() -> None:
    table = soft()
    before = table.count
    for _ in range(30):
        table.step(np.arange(50), np.zeros((50, 6), np.float32), 0.1)
    assert 0 < table.count < before


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_stopped_at_any_epoch_it_ends_as_if_it_was_not(
    backbone: str, interactions: Interactions, tmp_path: Path
) -> None:
    request = TrainRequest.make(
        backbone,
        "pep",
        budget="50%",
        dimensions=8,
        **vars(OPTIONS),
        method_settings={"search_epochs": 2, "threshold": -3.0},
    )
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    assert sum(table.n_values for table in tables_of(whole)) == 2000
    assert (steps[0].phase, steps[0].epoch, steps[0].max_epochs) == ("mask", 1, 2)
    resumes_to_the_bit(interactions, request, whole, steps, tmp_path)


@pytest.mark.slow
def test_a_search_that_ends_above_the_budget_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ["train", "synthetic:300x200x9000", "--backbone", "mf", "--method", "pep", "--budget", "20%"]
    arguments += ["--dimensions", "16", "--epochs", "1", "--method-set", "search_epochs=1"]
    above = command_line(*arguments, "--out", "above", cwd=tmp_path)
    assert above.returncode == 0, above.stderr
    assert "search ended with 5 times the values of the budget" in " ".join(above.stderr.split())
    within = command_line(*arguments, "--method-set", "threshold=-1", "--out", "within", cwd=tmp_path)
    assert within.returncode == 0, within.stderr
    assert "times the budget" not in within.stderr


def test_what_cannot_be_is_refused(interactions: Interactions) -> None:
    for settings, match in (({"granularity": "cell"}, "feature-dim"), ({"threshold": 1.0}, "threshold")):
        with pytest.raises(SettingError, match=match):
            train(interactions, backbone="mf", method="pep", budget="50%", method_settings=settings)

"""What a run keeps of the way that users are made from histories."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions
from edgerec.errors import RunError
from edgerec.measure import evaluate
from edgerec.models import BACKBONES
from edgerec.models.encoder import LinearEncoder
from edgerec.training import FitOptions, Run

OPTIONS = FitOptions(max_epochs=2, threads=1)


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "ncf"])
def test_an_encoder_is_stored_with_its_run(backbone: str, interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, backbone=backbone, method="dense", dimensions=8, **vars(OPTIONS), out=tmp_path)
    again = Run.load(tmp_path)
    assert run.encoder is not None
    assert again.encoder is not None
    assert again.encoder.kind == run.encoder.kind
    users = [one.encoder.users(interactions, one.items.dense()) for one in (run, again) if one.encoder is not None]
    assert np.array_equal(*users)
    assert again.nbytes == run.nbytes
    assert ("encoder" in run.metrics) == (run.users is not None)


def test_an_old_run_with_history_weights_is_read(interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, backbone="svd", method="dense", dimensions=8, **vars(OPTIONS), out=tmp_path)
    assert isinstance(run.encoder, LinearEncoder)
    ids = dict(np.load(tmp_path / "ids.npz"))
    ids["history_weights"] = ids.pop("encoder_weights")
    np.savez(tmp_path / "ids.npz", **ids)
    fields = json.loads((tmp_path / "run.json").read_text())
    del fields["encoder"]
    (tmp_path / "run.json").write_text(json.dumps(fields))
    old = Run.load(tmp_path)
    assert isinstance(old.encoder, LinearEncoder)
    assert np.array_equal(old.encoder.weights, run.encoder.weights)
    assert evaluate(old, interactions) == pytest.approx(run.metrics["test"])


def test_an_old_run_with_users_has_no_encoder(interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, backbone="ials", method="dense", dimensions=8, **vars(OPTIONS))
    replace(run, encoder=None).save(tmp_path)
    fields = json.loads((tmp_path / "run.json").read_text())
    del fields["encoder"]
    (tmp_path / "run.json").write_text(json.dumps(fields))
    assert Run.load(tmp_path).encoder is None


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "no such", "settings": {}},
        {"kind": "linear", "settings": {"x": 1}},
        {"kind": "linear", "settings": {"power": 99}},
        7,
    ],
)
def test_a_damaged_encoder_is_named(damage: object, interactions: Interactions, tmp_path: Path) -> None:
    train(interactions, backbone="svd", method="dense", dimensions=8, **vars(OPTIONS), out=tmp_path)
    fields = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**fields, "encoder": damage}))
    with pytest.raises(RunError, match="damaged"):
        Run.load(tmp_path)

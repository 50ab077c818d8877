"""Numbers of rows in a byte each: row scales, and the weights of histories."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.errors import BundleError
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec.tables import DenseTable
from edgerec.tables.codes import byte_top, from_bytes, to_bytes
from edgerec_export import Source, diff, export, from_arrays

N_ITEMS, D = 300, 12


def source(lowest: float = 0.002, seed: int = 0) -> Source:
    """Items whose norms and weights fall over several orders of magnitude."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((N_ITEMS, D)) * np.geomspace(2, 0.05, D) * np.geomspace(1, 0.01, N_ITEMS)[:, None]
    weights = np.geomspace(lowest, 1, N_ITEMS).astype(np.float32)
    return Source(DenseTable(rows.astype(np.float32)), np.arange(N_ITEMS), encoder=LinearEncoder(weights))


def types(folder: Path) -> dict[str, str]:
    """The dtypes of the sections of a bundle."""
    return {name: section.dtype for name, section in Bundle(folder).manifest.sections.items()}


@given(st.lists(st.floats(2.0**-30, 1, width=32), min_size=1, max_size=50), st.floats(-60, 60))
def test_a_byte_keeps_the_magnitude_of_a_number(numbers: list[float], exponent: float) -> None:
    values = np.array(numbers, np.float32) * np.float32(2.0**exponent)
    top = byte_top(values.max())
    stored = to_bytes(values, top)
    assert stored.min() > 0
    assert (np.diff(stored[np.argsort(values)].astype(int)) >= 0).all()
    error = np.abs(from_bytes(stored, top) - values) / values
    farthest = (stored / (stored - 0.5)) ** 4 - 1  # a root may be half a step below its byte
    assert (error[stored > 4] <= farthest[stored > 4] * 1.001 + 1e-6).all()


def test_only_zero_becomes_zero_and_large_numbers_are_clipped() -> None:
    assert to_bytes(np.array([0, 1e-30, 1, 5], np.float32), byte_top(1)).tolist() == [0, 1, 255, 255]
    assert from_bytes(np.array([0], np.uint8), byte_top(1)).tolist() == [0]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integer_bundles_have_a_byte_a_row(precision: str, tmp_path: Path) -> None:
    done = export(source(), tmp_path / "b", layout="dense", precision=precision, scales="row")
    large = export(source(), tmp_path / "l", layout="dense", precision=precision, scales="row", version="1.0")
    assert types(done.folder)["w"] == types(done.folder)["is"] == "uint8"
    assert (types(large.folder)["w"], types(large.folder)["is"]) == ("float32", "float16")
    assert done.parts["w"] + done.parts["is"] == 2 * N_ITEMS
    answers = [
        np.array(Recommender.load(one.folder).score(items=list(range(N_ITEMS)), history=[0, 9, 120, 299]))
        for one in (done, large)
    ]
    assert np.abs(answers[0] - answers[1]).max() < {"int8": 0.03, "int4": 0.2}[precision] * np.abs(answers[1]).max()


@pytest.mark.parametrize("precision", ["int4", "int2"])
@pytest.mark.parametrize("widths", [(3,), (5,), (1, 6, 11)], ids=str)
def test_codes_that_share_bytes_are_multiplied_exactly(widths: tuple[int, ...], precision: str, tmp_path: Path) -> None:
    """The last bytes of a row have one code, or some; verification compares with numpy."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((120, widths[-1]))
    items[np.arange(widths[-1]) >= np.resize(widths, 120)[:, None]] = 0
    tables = from_arrays(items, rng.standard_normal((15, widths[-1])))
    done = export(tables, tmp_path / "b", layout="mixed", precision=precision, rotate=False)
    assert done.verification is not None
    assert tuple(block.width for block in done.chosen.draft.items.blocks) == widths


def test_floats_and_negative_weights_keep_their_type(tmp_path: Path) -> None:
    assert types(export(source(), tmp_path / "floats", precision="fp16", layout="dense").folder)["w"] == "float32"
    given_source = source()
    assert isinstance(given_source.encoder, LinearEncoder)
    negative = replace(given_source, encoder=LinearEncoder(-given_source.encoder.weights))
    assert types(export(negative, tmp_path / "b", precision="int8", layout="dense").folder)["w"] == "float32"


def test_an_item_without_weight_has_none(tmp_path: Path) -> None:
    given_source = source()
    assert isinstance(given_source.encoder, LinearEncoder)
    weights = given_source.encoder.weights.copy()
    weights[7] = 0
    done = export(replace(given_source, encoder=LinearEncoder(weights)), tmp_path / "b", precision="int8")
    model, items = Recommender.load(done.folder), list(range(N_ITEMS))
    expected = np.zeros(N_ITEMS)
    assert np.allclose(model.score(items=items, history=[7]), expected)
    assert not np.allclose(model.score(items=items, history=[8]), expected)


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_a_bundle_like_another_has_the_same_bytes_for_the_same_rows(version: str, tmp_path: Path) -> None:
    old = source()
    settings: dict[str, Any] = {"layout": "dense", "precision": "int4", "scales": "row", "version": version}
    export(old, tmp_path / "old", **settings)
    rows = old.items.dense().copy()
    rows[7] *= 1.1
    export(replace(old, items=DenseTable(rows)), tmp_path / "new", like=tmp_path / "old")
    assert types(tmp_path / "new") == types(tmp_path / "old")
    assert diff(tmp_path / "old", tmp_path / "new", tmp_path / "patch").changes["item"].changed == 1
    manifests = [json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("old", "new")]
    assert manifests[0]["encoder"] == manifests[1]["encoder"]
    assert ("weight_top" in manifests[0]["encoder"]) == (version == "2.0")


@pytest.mark.parametrize("top", [0, -1, "x", True, 1e39, [1]])
def test_a_top_that_is_none_is_refused(top: object, tmp_path: Path) -> None:
    export(source(), tmp_path / "b", layout="dense", precision="int8")
    path = tmp_path / "b" / "manifest.json"
    fields = json.loads(path.read_bytes())
    fields["encoder"]["weight_top"] = top
    path.write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="weight_top"):
        export(source(), tmp_path / "new", like=tmp_path / "b")

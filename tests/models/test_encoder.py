"""Users from histories: what is fitted, what is solved, and what both promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.errors import SettingError
from edgerec.models import BACKBONES, SizePlan, Vectors, backbone, users_from_history
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder, encoder_from, fit_linear


def planted(data: Interactions, seed: int = 0) -> tuple[Vectors, LinearEncoder]:
    """Vectors of users that a linear encoder makes of their histories, and that encoder."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((data.n_items, 5), np.float32)
    weights = np.maximum(data.item_counts(), 1).astype(np.float32) ** np.float32(-0.25)
    matrix, bias = rng.standard_normal((5, 5), np.float32), rng.standard_normal(5, np.float32)
    encoder = LinearEncoder(weights, 1, matrix, bias)
    return Vectors(encoder.users(data, items), items), encoder


def test_a_planted_encoder_is_found(random_data: Interactions) -> None:
    vectors, encoder = planted(random_data)
    found = fit_linear(vectors, random_data)
    assert isinstance(found.encoder, LinearEncoder)
    assert np.allclose(found.encoder.weights, encoder.weights)
    for users in (found.users, found.encoder.users(random_data, vectors.items)):
        error = np.linalg.norm(users - vectors.users) / np.linalg.norm(vectors.users)
        assert error < 0.02


def test_users_are_judged_by_fits_that_did_not_see_them(
    random_data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user's vector is spoilt: what the others' fit makes of that user's history stays as it was."""
    monkeypatch.setattr("edgerec.models.encoder._EXPONENTS", (0.25,))
    monkeypatch.setattr("edgerec.models.encoder._RIDGES", (1e-3,))
    vectors, _ = planted(random_data)
    before = fit_linear(vectors, random_data).users[13]
    users = vectors.users.copy()
    users[13] = 1e3
    spoilt = fit_linear(Vectors(users, vectors.items), random_data)
    assert np.allclose(spoilt.users[13], before, atol=1e-4)
    assert not np.allclose(spoilt.encoder.users(random_data, vectors.items)[13], before, atol=1e-4)


def test_users_without_a_history_do_not_count() -> None:
    data = Interactions.from_pairs(np.repeat(np.arange(30), 3), np.arange(90) % 11)
    data = data.select(data.user_rows() != 7)
    rng = np.random.default_rng(0)
    vectors = Vectors(rng.standard_normal((30, 4), np.float32), rng.standard_normal((11, 4), np.float32))
    found = fit_linear(vectors, data)
    assert not found.users[7].any()
    assert not found.encoder.users(data, vectors.items)[7].any()


@pytest.mark.parametrize("n_users", [1, 2])
def test_few_users_and_zero_items_can_be_fitted(n_users: int) -> None:
    data = Interactions.from_pairs(np.arange(n_users), np.arange(n_users))
    zeros = np.zeros((n_users, 3), np.float32)
    found = fit_linear(Vectors(zeros + 1, zeros), data)
    assert np.isfinite(found.users).all()
    assert all(np.isfinite(array).all() for array in found.encoder.arrays().values())


ENCODERS: list[Encoder] = [
    LinearEncoder(np.linspace(1, 2, 50, dtype=np.float32)),
    LinearEncoder(np.ones(50, np.float32), 0.5, np.eye(6, dtype=np.float32) + 0.25, np.ones(6, np.float32)),
    LeastSquaresEncoder(3.0, 20.0),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=["sum", "fitted", "ials"])
def test_an_encoder_turns_with_its_items(encoder: Encoder, random_data: Interactions) -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((50, 6), np.float32)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    turned = encoder.turned(axes).users(random_data, (items @ axes).astype(np.float32))
    np.testing.assert_allclose(turned, encoder.users(random_data, items) @ axes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS, ids=["sum", "fitted", "ials"])
def test_an_encoder_is_made_of_its_parts(encoder: Encoder, random_data: Interactions) -> None:
    items = np.random.default_rng(0).standard_normal((50, 6), np.float32)
    again = encoder_from(encoder.kind, encoder.settings(), encoder.arrays())
    assert np.array_equal(again.users(random_data, items), encoder.users(random_data, items))


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "ncf"])
def test_every_backbone_encodes(name: str, random_data: Interactions) -> None:
    model = backbone(name)
    trainer = model.trainer(random_data, SizePlan(6), model.config(), seed=0, threads=1)
    trainer.epoch()
    vectors = trainer.vectors()
    encoded = model.encode(vectors, random_data, model.config(), threads=1)
    assert encoded is not None
    made = encoded.encoder.users(random_data, vectors.items)
    assert made.shape == encoded.users.shape == vectors.users.shape
    assert made.dtype == np.float32
    if name in ("svd", "ials"):  # exactly what training leaves
        np.testing.assert_allclose(made, vectors.users, rtol=1e-3, atol=1e-5)
        assert np.array_equal(made, encoded.users)


def test_the_sum_is_what_svd_ships(random_data: Interactions) -> None:
    model = backbone("svd")
    trainer = model.trainer(random_data, SizePlan(6), model.config(), seed=0)
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.encoder is not None
    encoder = model.encode(vectors, random_data, model.config()).encoder
    expected = users_from_history(random_data, vectors.items, vectors.encoder.weights)
    assert np.array_equal(encoder.users(random_data, vectors.items), expected)


ONES = np.ones(4, np.float32)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no power": ({"power": np.nan}, r"power must be in -4\.\.4, got nan"),
    "an endless power": ({"power": np.inf}, r"power must be in -4\.\.4, got inf"),
    "a power too high": ({"power": 9}, r"power must be in -4\.\.4, got 9"),
    "a power in words": ({"power": "1"}, "power must be a number in -4..4, got '1'"),
    "a weight that is no number": ({"weights": ONES * np.nan}, "weights must be finite, got nan"),
    "weights in a table": ({"weights": ONES[None]}, r"weights has the shape \(1, 4\), expected \(n_items\)"),
    "weights in words": ({"weights": np.array(["a"])}, "weights must be an array of numbers, got <U1"),
    "a list": ({"weights": [1.0, 2.0]}, "weights must be an array of numbers"),
    "a matrix that is not square": ({"matrix": np.ones((2, 3))}, r"matrix has the shape \(2, 3\), expected \(3, 3\)"),
    "an endless matrix": ({"matrix": np.full((2, 2), -np.inf)}, "matrix must be finite, got -inf"),
    "a matrix and another bias": ({"matrix": np.eye(3), "bias": ONES}, r"bias has the shape \(4,\), expected \(3\)"),
    "a bias that is no number": ({"bias": ONES * np.nan}, "bias must be finite, got nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_linear_encoder_out_of_range_is_refused(name: str) -> None:
    fields, said = WRONG[name]
    with pytest.raises(SettingError, match=said):
        LinearEncoder(**{"weights": ONES, **fields})


@pytest.mark.parametrize(("alpha", "reg"), [(np.nan, 1.0), (1.0, np.nan), (0.0, 1.0), (1.0, np.inf), (True, 1.0)])
def test_a_least_squares_encoder_out_of_range_is_refused(alpha: float, reg: float) -> None:
    with pytest.raises(SettingError, match=r"the setting (alpha|reg) must be"):
        LeastSquaresEncoder(alpha, reg)

"""The kernel's rarity: the best items by scores that numpy changes by the bundle's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.models.encoder import LinearEncoder
from edgerec.runtime.bundle import Bundle
from edgerec.tables import PrefixTable
from edgerec_export import ExportRequest, Source, export_request
from tests.vectors.check import FOLDER

BUNDLES = ("bytes-int4", "mixed-fp32-linear", "large", "vectors")
"""Weights in bytes and in float32; see `bundle_of`."""
RARITIES = (0.0, 0.3, 2.0, -0.5, -2.0)
HISTORY = [3, 7, 40]


@pytest.fixture(autouse=True)
def installed(python_package: Path) -> None:
    """Every test imports the package."""


def weights_of(folder: Path) -> NDArray[np.float64]:
    """Return the weights of a bundle's items up to a factor."""
    weights = Bundle(folder).section("w")
    return weights.astype(np.float64) ** (4 if weights.dtype == np.uint8 else 1)


def changed(scores: NDArray[np.float32], weights: NDArray[np.float64], rarity: float) -> NDArray[np.float32]:
    """Return the scores that a rarity gives."""
    factors = (weights / (weights.max() if rarity > 0 else weights.min())) ** rarity
    return np.where(scores > 0, scores * factors, scores / factors).astype(np.float32)


def best(scores: NDArray[np.float32], k: int, out: list[int], allow: list[int] | None = None) -> list[int]:
    """Return the rows of the k best scores."""
    left = np.setdiff1d(np.arange(scores.size) if allow is None else allow, out)
    return [int(row) for row in left[np.argsort(-scores[left], kind="stable")][:k]]


def opened(folder: Path, change: Any = None) -> Any:
    """Open a bundle; `change` is given the bytes of its section w first."""
    import edgerec_kernel

    bundle = Bundle(folder)
    tables = np.array(bundle.tables)
    if change is not None:
        entry = bundle.manifest.sections["w"]
        change(tables[entry.offset :][: entry.nbytes])
    return edgerec_kernel.Kernel(bundle.document, tables, bundle.manifest.d)


def recommend(kernel: Any, k: int, rarity: float, **given: Any) -> tuple[Any, Any]:
    import edgerec_kernel

    rows = {name: np.array(row, np.int32) for name, row in given.items() if name not in ("vector", "user")}
    request = edgerec_kernel._request(kernel._d, given.get("user", -1), vector=given.get("vector"), **rows)
    request.rarity = rarity
    return kernel._ranked(kernel._c.er_recommend, (), request, k)


def bundle_of(name: str, folder: Path) -> Path:
    """Return one of the vectors' bundles, or export one: `large`, of which blocks are skipped, or `vectors`."""
    if name not in ("large", "vectors"):
        return FOLDER / "bundles" / name
    rng, n = np.random.default_rng(0), 70_000 if name == "large" else 300
    values = rng.standard_normal((n, 16), np.float32)
    values *= rng.choice([0.3, 1, 2], n, p=[0.6, 0.3, 0.1])[:, None].astype(np.float32)
    table = PrefixTable.from_dense(values, rng.choice([2, 4, 8, 16], n))
    encoder = LinearEncoder(rng.random(n, np.float32) + np.float32(0.2))
    counts = rng.integers(0, 99, n)
    source = Source(table, np.arange(n), encoder=encoder, takes_vectors=name == "vectors", item_counts=counts, about={})
    return export_request(source, folder / name, ExportRequest("mixed", "int8", similar=False, verify=False)).folder


@pytest.mark.parametrize("name", BUNDLES)
def test_answers_are_those_of_numpy(name: str, tmp_path: Path) -> None:
    folder = bundle_of(name, tmp_path)
    kernel, weights = opened(folder), weights_of(folder)
    n = weights.size
    history = np.array(HISTORY, np.int32)
    plain = kernel.score(np.arange(n, dtype=np.int32), history=history)
    assert plain.min() < 0 < plain.max()
    for rarity in RARITIES:
        scores = changed(plain, weights, rarity)
        for limits in (
            {},
            {"exclude": [0, 5, 9]},
            {"allow": [8, 3, 2]},
            {"allow": list(range(0, n, 2)), "exclude": [4]},
        ):
            for k in (1, 12, min(n, 500)):
                rows, found = recommend(kernel, k, rarity, history=HISTORY, **limits)
                wanted = best(scores, k, HISTORY + limits.get("exclude", []), limits.get("allow"))
                assert rows.tolist() == wanted
                assert np.allclose(found, scores[wanted], rtol=1e-6, atol=0)


def test_vectors_and_empty_histories(tmp_path: Path) -> None:
    folder = bundle_of("vectors", tmp_path)
    kernel, weights = opened(folder), weights_of(folder)
    vector = np.linspace(-1, 1, kernel._d, dtype=np.float32)
    plain = kernel.score(np.arange(weights.size, dtype=np.int32), vector=vector)
    rows, _ = recommend(kernel, 9, 1.5, vector=vector)
    assert rows.tolist() == best(changed(plain, weights, 1.5), 9, [])
    popular, zeros = recommend(kernel, 9, -2.0, history=[])
    assert popular.tolist() == recommend(kernel, 9, 0.0, history=[])[0].tolist()
    assert not zeros.any()


def is_refused(kernel: Any, rarity: float, **given: Any) -> bool:
    import edgerec_kernel

    try:
        recommend(kernel, 3, rarity, **given)
    except edgerec_kernel.KernelError as error:
        return error.kind == "request" and str(error).startswith("rarity must be a number in -2..2")
    return False


def test_what_is_no_rarity_is_refused() -> None:
    kernel = opened(FOLDER / "bundles" / "bytes-int4")
    numbers = (2.0, -2.0, 2.001, -3.0, np.nan, np.inf, -np.inf)
    assert [is_refused(kernel, one, history=HISTORY) for one in numbers] == [False] * 2 + [True] * 5


@pytest.mark.parametrize("name", ["v2-mean", "csr-fp32-ials", "v2-lists-users"])
def test_bundles_without_different_weights_are_refused(name: str) -> None:
    kernel = opened(FOLDER / "bundles" / name)
    subject: dict[str, Any] = {"user": 3} if name.endswith("users") else {"history": HISTORY}
    assert [is_refused(kernel, one, **subject) for one in (0, 1)] == [False, True]


@pytest.mark.parametrize("weight", [0, -1, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    """Its item is not in the history."""

    def change(content: NDArray[np.uint8]) -> None:
        content.view("<f4")[11] = weight

    kernel = opened(FOLDER / "bundles" / "mixed-fp32-linear", change)
    assert [is_refused(kernel, one, history=HISTORY) for one in (0, 1)] == [False, True]

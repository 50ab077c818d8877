"""The kernel as a backend of Python's runtime: the same answers as onnxruntime's, and the same errors."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.kernel_latency import BACKENDS, bundle_call, measure, source
from edgerec.errors import BundleError, MissingExtraError, RequestError
from edgerec.runtime import Recommender
from edgerec_export import ExportRequest, export_request, from_run
from edgerec_export.layouts import FORMS
from tests.conftest import history_source, random_source
from tests.contract.test_contract import data, trained
from tests.devices.kernel.conftest import INTEGERS, is_refused
from tests.vectors import check
from tests.vectors.cases import cases

PAIRS = (("dense", "ials"), ("magnitude", "mf"), ("bet", "mf"))


@pytest.fixture(autouse=True)
def installed(python_package: Path) -> None:
    """Every test imports the package."""


class ByKernel:
    """Stands for `Recommender` in the vectors' checks."""

    @staticmethod
    def load(*arguments: Any, **named: Any) -> Recommender:
        return Recommender.load(*arguments, **named, backend="kernel")


@pytest.mark.parametrize(
    "case", [one for one in cases() if not is_refused(one.version, one.options.precision)], ids=str
)
def test_vectors(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "Recommender", ByKernel)
    assert check.failures(case.name) == []


@pytest.mark.parametrize("name", [one.name for one in cases() if is_refused(one.version, one.options.precision)])
def test_vectors_of_version_2(name: str, second_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "Recommender", ByKernel)
    assert check.failures(name, second_version) == []


@pytest.mark.parametrize("users", [True, False])
@pytest.mark.parametrize("form", range(len(FORMS)), ids=lambda one: "-".join(FORMS[one]))
def test_trained_bundles_are_answered_as_by_onnxruntime(form: int, users: bool, tmp_path: Path) -> None:
    layout, precision = FORMS[form]
    run = trained(*PAIRS[form % len(PAIRS)])
    options = ExportRequest(layout, precision, similar=True, users=users and run.users is not None, verify=False)
    folder = export_request(from_run(run), tmp_path / "b", options).folder
    graphs, kernel = Recommender.load(folder), Recommender.load(folder, backend="kernel")
    items, people = data().item_ids.tolist(), data().user_ids.tolist()
    subjects: list[dict[str, Any]] = [{"user": one} for one in people[::60]]
    if not graphs.n_users:
        subjects = [{"history": items[start : start + 1 + 2 * start]} for start in range(5)]
    # A history's vector is quantised: where a float32 rounding decides, one of its codes is another.
    step = 2e-2 if precision in (*INTEGERS, "int2") and not graphs.n_users else 1e-4
    for subject in subjects:
        for limits in (
            {},
            {"exclude": items[20:90]},
            {"allow": items[:7]},
            {"allow": items[50:190], "exclude": items[60:70]},
        ):
            compare(graphs.recommend(**subject, k=20, **limits), kernel.recommend(**subject, k=20, **limits), step)
        assert np.allclose(
            graphs.score(**subject, items=items), kernel.score(**subject, items=items), rtol=step, atol=step
        )
    compare(graphs.similar(items[3], k=15), kernel.similar(items[3], k=15), 1e-3)
    assert graphs.popular(k=30) == kernel.popular(k=30)


def compare(expected: list[Any], found: list[Any], step: float) -> None:
    """The same scores in the same places; items may differ where scores are that near each other."""
    assert len(found) == len(expected) == len({one.item for one in found})
    largest = max((abs(one.score) for one in expected), default=1)
    assert np.allclose([one.score for one in expected], [one.score for one in found], rtol=0, atol=step * largest)


def test_a_patch_is_answered_by_the_kernel(tmp_path: Path) -> None:
    from edgerec_export import diff

    for name, seed in (("old", 0), ("new", 1)):
        export_request(random_source(90, 40, seed=seed), tmp_path / name, ExportRequest("mixed", "fp32", verify=False))
    diff(tmp_path / "old", tmp_path / "new", tmp_path / "patch")
    new = Recommender.load(tmp_path / "new").recommend(user=3, k=5)
    model = Recommender.load(tmp_path / "old", backend="kernel")
    model.apply(tmp_path / "patch")
    compare(new, model.recommend(user=3, k=5), 1e-5)
    assert model.snapshot().recommend(user=3, k=5) == model.recommend(user=3, k=5)


def test_threads_share_it(tmp_path: Path) -> None:
    folder = export_request(history_source(300), tmp_path / "b", ExportRequest("dense", "int8", verify=False)).folder
    model = Recommender.load(folder, backend="kernel")
    histories = [[f"film-{n}é", f"film-{2 * n}é"] for n in range(8)]
    expected = [model.recommend(history=one, k=9) for one in histories]
    wrong: list[int] = []

    def ask(number: int) -> None:
        wrong.extend(number for _ in range(200) if model.recommend(history=histories[number], k=9) != expected[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_errors_name_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = [one.name for one in cases() if one.name == "dense-int8-users"]
    with pytest.raises(BundleError, match="export the bundle again, as version 2"):
        Recommender.load(check.FOLDER / "bundles" / name, backend="kernel")
    with pytest.raises(RequestError, match="backend is 'onnxruntime' or 'kernel', got 'c'"):
        Recommender.load(check.FOLDER / "bundles" / name, backend="c")  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "path", [])
    sys.modules.pop("edgerec_kernel", None)
    with pytest.raises(MissingExtraError, match="pip install edgerec-kernel"):
        Recommender.load(check.FOLDER / "bundles" / "v2-numbers", backend="kernel")


def test_arrays_are_checked_before_c_reads_them() -> None:
    import edgerec_kernel

    folder = check.FOLDER / "bundles" / "v2-numbers"
    manifest, (tables,) = (folder / "manifest.json").read_bytes(), folder.glob("*.bin")
    content = np.fromfile(tables, np.uint8)
    d = json.loads(manifest)["d"]
    for wrong, message in (
        ((manifest, content, d + 1), "vectors have 8 dimensions"),
        ((manifest, content.view(np.int8), d), "tables is an array of uint8, got int8"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            edgerec_kernel.Kernel(*wrong)
    kernel = edgerec_kernel.Kernel(manifest, content, d)
    rows = np.arange(6, dtype=np.int32)
    for given, message in (
        ({"history": np.arange(3)}, "history is an array of int32, got int64"),
        ({"history": [1, 2]}, "history is an array of int32, got list"),
        ({"history": rows[::2]}, "history has one dimension and no gaps"),
        ({"history": rows, "exclude": rows.reshape(2, 3)}, "exclude has one dimension and no gaps"),
        ({"vector": np.zeros(d - 1, np.float32)}, f"vector has {d - 1} values"),
        ({"user": 1 << 32}, "user is -1 to 2147483647"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            kernel.recommend(3, **given)
    for k in (0, 1 << 31):
        with pytest.raises(ValueError, match="k is 1 to"):
            kernel.recommend(k, history=rows)
    with pytest.raises(edgerec_kernel.KernelError):
        kernel.recommend(1 << 30, history=rows)
    with pytest.raises(TypeError, match="rows is an array of int32"):
        kernel.score(np.arange(3), history=rows)
    with pytest.raises(ValueError, match="item is 0 to"):
        kernel.similar(-1, 3)


def test_its_latency_is_measured(tmp_path: Path) -> None:
    for layout in ("dense", "mixed", "ell"):
        options = ExportRequest(layout, "int8", similar=False, verify=False)
        bundle = export_request(source(layout, 500, 16, 0), tmp_path / layout, options).folder
        rows = measure({name: bundle_call(bundle, name) for name in BACKENDS}, rounds=3)
        assert [row["name"] for row in rows] == list(BACKENDS)
        assert min(row[name] for row in rows for name in ("ms", "least_ms", "least_wall_ms", "of_kernel")) > 0

"""The kernel as a device, in Node and in Chromium: the vectors' answers in bundle rows, and real measurements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_bench import Settings, bench_request
from edgerec_devices import open_device
from edgerec_devices.protocol import Device
from tests.devices.kernel.conftest import is_refused
from tests.devices.web import BUNDLES, benched, large_bundle, need_programs, questions
from tests.vectors.cases import cases

TAKEN = [case.name for case in cases() if not is_refused(case.version, case.options.precision)]


@pytest.fixture(params=["wasm", pytest.param("wasm:chromium", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    need_programs("node", "chromium")
    with open_device(request.param) as opened:
        yield opened


def test_it_answers_as_numpy_does(device: Device) -> None:
    """All vectors that have another encoder, layout or scorer, one of each pair of precisions."""
    asked = [(name, question) for name in TAKEN for question in questions(name)]
    assert len({name for name, _ in asked}) > 40
    places = {name: device.push(BUNDLES / name) for name, _ in asked}
    wanted = [{**question.asked, "bundle": places[name]} for name, question in asked]
    answers = device.run({"task": "answers", "questions": wanted})["answers"]
    said = [
        f"{name}: {question.request}: {failure}"
        for (name, question), answer in zip(asked, answers, strict=True)
        if (failure := question.failure(answer))
    ]
    assert not said


@pytest.mark.parametrize("name", ["v2-lists-users", "csr-fp32-ials"])
def test_a_real_bench(device: Device, name: str) -> None:
    result = benched(device, name)
    (process,) = result.measured.processes
    assert process.memory["wasm_heap"] > process.bare["wasm_heap"] == 0
    facts = result.device
    assert facts["provider"] == "kernel"
    assert len(facts["edgerec_kernel"]) == 12
    assert "onnxruntime" not in facts


def test_what_it_does_not_take() -> None:
    need_programs("node")
    with pytest.raises(BenchError, match=r"'wasm:firefox' is no address of the kernel; give wasm\[:chromium\]"):
        open_device("wasm:firefox")
    with open_device("wasm") as device, pytest.raises(BenchError, match=r"integers of version 1\.0 need onnxruntime"):
        bench_request(BUNDLES / "mixed-int8-users", Settings(1, 5, 0.0, 10, 5, 5, (20,)), device=device)


@pytest.mark.slow
def test_a_bundle_that_does_not_fit(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_programs("node")
    bundle = large_bundle(tmp_path_factory.mktemp("large"))
    with (
        open_device("wasm", memory=8 << 20) as device,
        pytest.raises(DoesNotFitError, match=r"WebAssembly's heap of \d+ MiB could not grow as the bundle needs"),
    ):
        bench_request(bundle, Settings(1, 5, 0.0, 10, 5, 5, (20,)), device=device)

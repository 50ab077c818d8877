"""The kernel on this machine as a device: real measurements, with the facts of a machine without onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec_bench import Settings, bench_request
from edgerec_devices import open_device
from edgerec_devices.kernel import missing
from tests.devices.web import BUNDLES


@pytest.fixture
def installed(package_folder: Path, python_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, importable here and in the measuring process."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(package_folder), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    )


@pytest.mark.parametrize("name", ["v2-lists-users", "csr-fp32-ials"])
def test_a_real_bench(installed: None, name: str) -> None:
    assert missing() == []
    settings = Settings(1, 5, 0.0, 10, 5, 5, (20,), scenarios=("recommend", "score", "lookup", "history"))
    with open_device("kernel") as device:
        result = bench_request(BUNDLES / name, settings, device=device)
    assert result.measured.scenarios == ("recommend", "recommend, raw ids", "score 20", "lookup")
    facts = result.device
    assert facts["provider"] == "kernel"
    assert len(facts["edgerec_kernel"]) == 12
    assert "onnxruntime" not in facts


def test_scenarios_of_their_own(installed: None) -> None:
    asked = {"task": "bundle", "bundle": str(BUNDLES / "v2-lists-users"), "calls": 3, "seconds": 0.0, "k": 5}
    asked |= {"exclude": 2, "history": 3, "threads": 1, "seed": 0, "sustained_seconds": 0.1}
    with open_device("kernel") as device:
        answer = device.run({**asked, "scenarios": ["load", "offline", "sustained"]})
    assert {"offline", "sustained"} < answer.keys()
    assert {point["threads"] for point in answer["offline"]} == {1}


def test_what_it_does_not_take(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device("kernel") as device, pytest.raises(BenchError, match="export the bundle again, as version 2"):
        bench_request(BUNDLES / "mixed-int8-users", Settings(1, 5, 0.0, 10, 5, 5, (20,)), device=device)
    with pytest.raises(BenchError, match="leave it out with 'kernel'"):
        open_device("kernel", memory=1 << 20)
    monkeypatch.setattr("edgerec_devices.kernel.PACKAGE", "edgerec_kernel_of_nobody")
    with pytest.raises(BenchError, match="pip install edgerec-kernel"):
        open_device("kernel")
    assert [part.fix for part in missing()] == ["pip install edgerec-kernel"]

"""The device cortex-m: random requests to firmware on an emulated Cortex-M4, counted in instructions."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_bench import Settings, bench_request
from edgerec_bench.device_check import check_bundle
from edgerec_devices import cortex_m, open_device
from tests.devices.conftest import lacking
from tests.devices.web import BUNDLES

SETTINGS = Settings(1, 5, 0.0, 10, 5, 5, (20,), scenarios=("recommend",))


@pytest.fixture(autouse=True)
def ready() -> None:
    for part in cortex_m.missing():
        lacking(part.what, part.fix)


def test_it_answers_as_this_machine() -> None:
    with open_device("cortex-m") as device:
        assert "returns this machine's recommendations" in check_bundle(device)


def test_a_real_bench() -> None:
    with open_device("cortex-m") as device:
        result = bench_request(BUNDLES / "csr-fp32-ials", SETTINGS, device=device)
    assert result.measured.scenarios == ("recommend",)
    assert result.device["clock"] == "instructions"
    (process,) = result.measured.processes
    assert 2 <= process.memory["VmHWM"] <= 8
    assert process.scenarios["recommend"].p50_ms > 0.01


def test_what_does_not_fit(tmp_path: Path) -> None:
    with open_device("cortex-m") as device:
        with pytest.raises(BenchError, match="export the bundle again, as version 2"):
            bench_request(BUNDLES / "mixed-int8-users", SETTINGS, device=device)
        with mock.patch.object(cortex_m, "ARENA", 512), pytest.raises(DoesNotFitError, match="given is too small"):
            bench_request(BUNDLES / "v2-int2", SETTINGS, device=device)
        with mock.patch.object(cortex_m, "FLASH", 1 << 16), pytest.raises(DoesNotFitError, match="of flash for it"):
            bench_request(BUNDLES / "v2-int2", SETTINGS, device=device)
    with pytest.raises(BenchError, match="leave --memory out"):
        open_device("cortex-m", memory=1 << 20)

"""What a machine says of itself, read from files as a Raspberry Pi has them. What cannot be read is absent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgerec_devices import facts
from edgerec_devices.facts import machine_facts, throttle_flags
from tests.devices.conftest import write_script


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of a Raspberry Pi 4, as its kernel shows them, and its vcgencmd."""
    files = {
        "device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "policies/policy0/related_cpus": "0 1 2 3",
        "policies/policy0/scaling_governor": "ondemand",
        "policies/policy0/scaling_cur_freq": "600000",
        "policies/policy0/cpuinfo_max_freq": "1800000",
        "thermal/thermal_zone0/temp": "48312",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(facts, "DEVICE_TREE", tmp_path / "device-tree")
    monkeypatch.setattr(facts, "POLICIES", tmp_path / "policies")
    monkeypatch.setattr(facts, "CPUFREQ", tmp_path / "policies" / "policy0")
    monkeypatch.setattr(facts, "THERMAL", tmp_path / "thermal")
    write_script(tmp_path / "vcgencmd", 'test "$1" = get_throttled && echo throttled=0x50005')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_raspberry_pi(pi: Path) -> None:
    told = machine_facts()
    assert told["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (told["governor"], told["mhz"], told["max_mhz"]) == ("ondemand", 600.0, 1800.0)
    assert told["temperature_c"] == 48.312
    assert told["throttled"] == "under-voltage now, throttled now, under-voltage since boot, throttled since boot"
    assert "clocks" not in told  # one group of cores


def test_cores_of_two_kinds(pi: Path) -> None:
    big = pi / "policies" / "policy4"
    big.mkdir()
    (big / "related_cpus").write_text("4 5\n")
    (big / "cpuinfo_max_freq").write_text("2200000\n")
    assert machine_facts()["clocks"] == "cores 0 1 2 3: 600 of 1800 MHz, ondemand; cores 4 5: ? of 2200 MHz"


def test_zones_without_a_sensor_and_no_vcgencmd(pi: Path) -> None:
    (pi / "thermal" / "thermal_zone0" / "temp").write_text("-273000\n")
    (pi / "vcgencmd").unlink()
    assert not {"temperature_c", "throttled"} & machine_facts().keys()


def test_throttle_flags() -> None:
    assert throttle_flags(0) == "none"
    assert throttle_flags(0x80008) == "soft temperature limit now, soft temperature limit since boot"


def test_a_program_of_its_own_needs_the_standard_library_alone() -> None:
    code = (
        "import runpy, sys; sys.modules.update(numpy=None, onnxruntime=None);"
        "runpy.run_module('edgerec_devices.facts', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["python"].startswith("3.")

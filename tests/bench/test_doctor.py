"""The doctor: what it sees here, and what it would say of machines that are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from edgerec.cli.app import group
from edgerec.errors import BenchError
from edgerec_devices import doctor
from edgerec_devices.doctor import Check, examine, exit_status
from edgerec_devices.facts import Platform, wheel_advice


def found(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def failing(reason: str) -> Any:
    def run(self: object, request: object) -> dict[str, Any]:
        raise BenchError(f"the measuring process failed: {reason}")

    return run


def test_this_machine_can_answer_bundles() -> None:
    checks = examine()
    by_name = found(checks)
    assert exit_status(checks) == 0
    assert by_name["runtime"].level == "ok"
    assert {"platform", "numpy", "onnxruntime", "cpu", "cores", "memory", "telemetry", "extra train"} <= set(by_name)
    assert all(check.advice is None or check.advice for check in checks)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (Platform("Linux", "x86_64", 64, (3, 11), False), None),
        (Platform("Linux", "aarch64", 64, (3, 13), False), None),
        (Platform("Linux", "armv7l", 32, (3, 11), False), "apt install python3-onnxruntime"),
        (Platform("Linux", "aarch64", 32, (3, 11), False), "64-bit Raspberry Pi OS"),
        (Platform("Linux", "i686", 32, (3, 11), False), "32-bit Python"),
        (Platform("Linux", "x86_64", 64, (3, 11), True), "musl"),
        (Platform("Linux", "x86_64", 64, (3, 15), False), "use Python 3.14"),
        (Platform("Darwin", "x86_64", 64, (3, 11), False), "onnxruntime<=1.23.2"),
        (Platform("Darwin", "arm64", 64, (3, 11), False), None),
        (Platform("Windows", "AMD64", 64, (3, 11), False), None),
    ],
)
def test_where_there_is_no_wheel_it_says_what_to_do(here: Platform, said: str | None) -> None:
    advice = wheel_advice(here)
    assert (advice is None) if said is None else (advice is not None and said in advice)


def test_a_wheel_that_crashes_is_a_failure_with_the_version_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.Local, "run", failing("killed by SIGILL"))
    monkeypatch.setattr(doctor, "_version", lambda package: "1.21.0")
    checks = examine()
    assert exit_status(checks) == 2
    assert "onnxruntime>=1.22" in str(found(checks)["runtime"].advice)


def test_a_missing_runtime_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.Local, "run", failing("No module named 'onnxruntime'"))
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    by_name = found(examine())
    assert by_name["onnxruntime"].level == by_name["runtime"].level == "failure"
    assert by_name["extra export"].advice == "pip install 'edgerec[export]'"


def test_without_proc_memory_is_absent_and_that_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.Local, "run", lambda self, request: {"memory": {}})
    checks = examine()
    assert found(checks)["memory figures"].level == "warning"
    assert exit_status(checks) == 0


def test_a_governor_that_saves_power_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "machine_facts", lambda: {"governor": "powersave"})
    monkeypatch.setattr(doctor.Local, "run", lambda self, request: {"memory": {}})
    assert "cpupower" in str(found(examine())["cpu governor"].advice)


def test_both_distributions_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.Local, "run", lambda self, request: {"memory": {}})
    assert "distributions" not in found(examine())
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.2.0" if name == "edgerec-runtime" else "0.1.0")
    check = found(examine())["distributions"]
    assert check.level == "warning"
    assert check.found.startswith("edgerec 0.1.0 and edgerec-runtime 0.2.0 are both installed")
    assert str(check.advice).startswith("pip uninstall edgerec-runtime;")


def test_it_runs_without_click_and_rich() -> None:
    program = (
        "import runpy, sys\n"
        "for name in ('click', 'rich', 'jinja2', 'matplotlib', 'psutil'): sys.modules[name] = None\n"
        "runpy.run_module('edgerec_devices.doctor', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"name", "level", "found", "advice"} == set(json.loads(done.stdout)[0])


def test_the_command_lists_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(group, ["doctor", "--json"])
    assert done.exit_code == 0
    assert any(check["name"] == "runtime" for check in json.loads(done.stdout))
    monkeypatch.setattr(doctor.Local, "run", failing("it is gone"))
    assert CliRunner().invoke(group, ["doctor"]).exit_code == 2

"""The emulated Raspberry Pi: made from the network, booted, and measured as a real one is."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec.runtime import Recommender
from edgerec_bench import Result, read_results
from edgerec_devices import open_device
from edgerec_devices.arm64 import device as arm64
from edgerec_devices.arm64 import setup as arm64_setup
from edgerec_devices.arm64.device import Arm64
from edgerec_devices.arm64.vm import EMULATOR, Machine
from edgerec_export import export, from_arrays
from tests.conftest import CommandLine, interrupted
from tests.devices.conftest import awaited, lacking
from tests.vectors.check import FOLDER, names

USER = 7
QUICK = ("--processes", "1", "--calls", "20")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The stand-in, made unless it is there; what was told of it."""
    for part in arm64_setup.missing():
        if part.fix != arm64_setup.COMMAND:
            lacking(part.what, part.fix)
    told: list[str] = []
    # Workers of pytest share the folder above theirs: the others wait for the first.
    with (tmp_path_factory.getbasetemp().parent / "arm64.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        arm64_setup.set_up(told.append)
    return told


@pytest.fixture(scope="module")
def quick(made: list[str]) -> Iterator[Machine]:
    """A machine that counts no instructions: three times as fast. The last test with it ends it."""
    with Machine(arm64_setup.home(), arm64.MEMORY, counting=False) as machine:
        yield machine


def request_of(bundle: str, calls: int = 20) -> dict[str, Any]:
    """The request of a measurement to the device's agent."""
    request = {"task": "bundle", "bundle": bundle, "calls": calls, "seconds": 0, "k": 10}
    return request | {"exclude": 5, "history": 5, "threads": 1, "seed": 0}


def emulators(folder: Path) -> list[int]:
    """The emulators that run with files in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(EMULATOR.encode()) and str(folder).encode() in words:
            found.append(int(process.name))
    return found


@pytest.mark.slow
def test_it_is_made_once_and_says_of_what(made: list[str]) -> None:
    again: list[str] = []
    arm64_setup.set_up(again.append)
    assert again == []
    assert arm64_setup.missing() == []
    contents = json.loads((arm64_setup.home() / arm64_setup.CONTENTS).read_text())["packages"]
    assert {"python3.11-minimal", "openssh-server", "onnxruntime (wheel)"} <= contents.keys()
    assert not list(arm64_setup.home().parent.glob(f".{arm64_setup.NAME}-*"))


@pytest.mark.slow
def test_the_vectors(quick: Machine, tmp_path: Path) -> None:
    """Which x86 answers in a test of its own: here in one process of the device."""
    (tmp_path / "requests").mkdir()
    shutil.copy(FOLDER / "check.py", tmp_path)
    shutil.copytree(FOLDER / "bundles", tmp_path / "bundles")
    for name in names():
        asked = json.loads((FOLDER / "requests" / f"{name}.json").read_text())
        # A device's environment has no library for signatures.
        asked["requests"] = [request for request in asked["requests"] if "trusted" not in request]
        (tmp_path / "requests" / f"{name}.json").write_text(json.dumps(asked))
    with Arm64(quick, arm64.MEMORY) as device:
        done = device.python([f"{device.push(tmp_path)}/check.py"])
        assert done.stdout.strip().splitlines()[-1:] == [f"{len(names())} vectors, 0 failures"], (
            done.stdout + done.stderr
        )
        assert device.info()["architecture"] == "aarch64"


@pytest.mark.slow
def test_the_runtimes_wheel_recommends_there(quick: Machine, runtime_wheel: Path, bundle: Path, tmp_path: Path) -> None:
    """The wheel and its two dependencies, nothing else of this project."""
    shutil.copytree(bundle, tmp_path / "bundle")
    zipfile.ZipFile(runtime_wheel).extractall(tmp_path / "site")
    (tmp_path / "ask.py").write_text(
        "import sys; from pathlib import Path; here = Path(__file__).parent\n"
        "sys.path.insert(0, str(here / 'site'))\n"
        "import edgerec; assert edgerec.__file__.startswith(str(here / 'site')), edgerec.__file__\n"
        f"print(edgerec.Recommender.load(here / 'bundle').recommend({USER}, 5))\n"
    )
    with Arm64(quick, arm64.MEMORY) as device:
        done = device.python([f"{device.push(tmp_path)}/ask.py"])
    told = [float(number) for number in re.findall(r"score=([-\d.e]+)", done.stdout)]
    model = Recommender.load(bundle)
    best = model.recommend(USER, 5)
    assert re.findall(r"item=(\w+)", done.stdout) == [str(one.item) for one in best], done.stdout + done.stderr
    assert told == pytest.approx([one.score for one in best], abs=1e-5)


@pytest.mark.slow
def test_a_machine_that_loses_its_power(quick: Machine, bundle: Path) -> None:
    with Arm64(quick, arm64.MEMORY) as device:
        request = request_of(device.push(bundle), calls=10**6)
        (emulator,) = emulators(quick.ssh_config.parent)
        cutting = threading.Timer(2, os.kill, (emulator, signal.SIGKILL))
        cutting.start()
        with pytest.raises(BenchError, match=r"^arm64: the emulated machine has ended; run the command again$"):
            device.run(request)
        cutting.join()


@pytest.mark.slow
def test_two_boots_count_the_same(made: list[str], bundle: Path, command_line: CommandLine, tmp_path: Path) -> None:
    def measured(name: str) -> Result:
        done = command_line("bench", bundle, *QUICK, "--device", "arm64", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        (result,) = read_results(tmp_path / name)
        return result

    first, second = measured("a.json"), measured("b.json")
    # A call with raw ids is about as long as the time between two interrupts of the timer, which some calls meet.
    for scenario, margin in {"recommend": 0.01, "recommend, raw ids": 0.05, "score 50": 0.01}.items():
        counts = [result.measured.latency(scenario) for result in (first, second)]
        assert counts[1] == pytest.approx(counts[0], rel=margin), scenario
    assert first.device["clock"] == "instructions"
    assert first.device["board"].startswith("arm64 stand-in (QEMU")
    assert 400 << 20 < first.device["memory_bytes"] < 512 << 20
    peaks = [result.measured.above_bare("VmHWM") for result in (first, second)]
    assert peaks[0] is not None
    assert peaks[0] == pytest.approx(peaks[1], rel=0.05)


@pytest.mark.slow
def test_a_bundle_that_is_too_large_is_told_as_such(made: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items, users = rng.standard_normal((300_000, 64), np.float32), rng.standard_normal((40, 64), np.float32)
    large = export(from_arrays(items, users), tmp_path / "large.bundle", ids="none", verify=False).folder
    memory = 128 << 20
    with (
        Machine(arm64_setup.home(), memory, counting=False) as machine,
        Arm64(machine, memory) as device,
        pytest.raises(DoesNotFitError, match=r"the bundle does not fit into the device's memory of 128.0 MiB"),
    ):
        device.run(request_of(device.push(large)))


@pytest.mark.slow
def test_ctrl_c_ends_the_machine(
    made: list[str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # The connection is open by then, so that its folder must go too.
    done = interrupted(["bench", bundle, "--device", "arm64"], lambda: bool(list(tmp_path.glob("*/s"))))
    assert done.returncode == 130, done.stderr
    assert awaited(lambda: not emulators(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_machine_ends_with_the_process_that_started_it(made: list[str], tmp_path: Path) -> None:
    code = (
        "from edgerec_devices.arm64 import device, setup, vm; import time\n"
        "with vm.Machine(setup.home(), device.MEMORY): time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        assert awaited(lambda: emulators(tmp_path))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert awaited(lambda: not emulators(tmp_path))


def test_how_much_memory_there_may_be() -> None:
    with pytest.raises(BenchError, match=r"has .* MiB to 64.0 GiB of memory"), open_device("arm64", memory=1 << 20):
        pass


def test_what_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm64_setup, "is_debian", lambda: True)
    monkeypatch.setattr(arm64_setup, "PLACES", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    programs, machine = arm64_setup.missing()
    assert programs.fix.startswith("sudo apt-get install --no-install-recommends qemu-system-arm ipxe-qemu- ")
    assert machine.fix == "edgerec devices setup arm64"
    with pytest.raises(BenchError, match=r"there is no qemu-system-aarch64, .*: sudo apt-get install"):
        arm64_setup.set_up(print)
    monkeypatch.setattr(arm64_setup, "is_debian", lambda: False)
    (part,) = arm64_setup.missing()
    with pytest.raises(BenchError, match="built from Debian's packages"), open_device("arm64"):
        pass
    assert "\n" not in part.what + part.fix
    assert DoesNotFitError.__mro__[1] is BenchError

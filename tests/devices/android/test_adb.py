"""A phone behind a real adbd with onnxruntime's library for Android: the same answers as here, nothing sent twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_bench import Settings, bench_request, read_results
from edgerec_devices import Local, open_device
from edgerec_devices.adb.device import Adb
from tests.conftest import CommandLine, interrupted
from tests.devices.android.conftest import use
from tests.devices.android.phone import SERIAL, Phone, switched_on
from tests.devices.android.test_runner import BARE, BUNDLES, QUESTION, VERSION

LONG = {**QUESTION, "seconds": 600, "scenarios": ["recommend"]}
LOST = f"^adb:{SERIAL}: (it is not connected|the device is offline|the connection was lost)"
FORMS = ("dense-fp32", "mixed-int8", "csr-fp16", "ell-int4", "bitmask-int8", "csc-fp16")


def awaited(holds: Callable[[], Any]) -> bool:
    """Whether it comes to hold within a time that suffices everywhere."""
    end = time.monotonic() + 30
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(holds())


@contextmanager
def while_measuring(phone: Phone, action: Callable[[], Any]) -> Iterator[None]:
    """Do something to the phone as soon as it measures."""
    thread = threading.Thread(target=lambda: awaited(phone.measuring) and action())
    thread.start()
    yield
    thread.join()


@pytest.fixture
def own_phone(
    shim: Path, set_up_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Phone]]:
    """Switches a phone on for one test alone."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Phone:
            phone = stack.enter_context(switched_on(tmp_path / "phone", shim, **settings))
            use(phone, monkeypatch)
            return phone

        yield start


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_answers_are_those_of_this_machine(name: str, phone: Phone) -> None:
    bundle, here = BUNDLES / f"{name}-users", Local()
    users = json.loads((BUNDLES.parent / "requests" / f"{name}-users.json").read_text())["requests"]
    asked = {**QUESTION, "k": 3, "ask": sorted({one["user"] for one in users if "user" in one and "error" not in one})}
    with Adb() as there:
        far = there.run({**asked, "bundle": there.push(bundle)})
    assert far["answers"] == here.run({**asked, "bundle": here.push(bundle)})["answers"]


@pytest.mark.slow
def test_bench_on_a_phone(phone: Phone, bundle: Path, command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line(
        *("bench", bundle, "--processes", "2", "--calls", "10", "--seconds", "0"),
        *("--device", phone.address, "--out", "phone.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (result,) = read_results(tmp_path / "phone.json")
    told = result.device
    assert (told["runtime"], told["onnxruntime"], told["ort_telemetry"]) == ("c", VERSION, "off")
    assert (told["board"], told["soc"], told["os"]) == ("Acme Phone 1", "Acme S1", "Android 14 (API 34)")
    assert told["cores"] == told["usable_cores"] == os.cpu_count()
    assert {"recommend", "lookup"} <= set(result.measured.scenarios)
    assert "recommend, raw ids" not in result.measured.scenarios
    assert result.measured.latency() > 0
    assert result.measured.memory("RssAnon")
    assert f"--device {phone.address}" in result.to_json()["command"]
    assert command_line("compare", "phone.json", "phone.json", cwd=tmp_path).returncode == 0
    assert command_line("report", "phone.json", "--out", "report.html", cwd=tmp_path).returncode == 0


def test_the_devices_commands(phone: Phone, command_line: CommandLine) -> None:
    checked = command_line("devices", "check", phone.address)
    assert checked.returncode == 0, checked.stderr
    told = command_line("devices", "info", phone.address, "--json")
    assert json.loads(told.stdout)["board"] == "Acme Phone 1"
    listed = json.loads(command_line("devices", "list", "--json").stdout)
    assert [kind["connected"] for kind in listed if kind["name"] == "adb"] == [[phone.address]]


def test_every_scenario(phone: Phone, bundle: Path) -> None:
    wanted = ("recommend", "score", "lookup", "load", "sustained", "offline")
    settings = Settings(processes=1, calls=5, seconds=0.01, scenarios=wanted, sustained_seconds=0.1, candidates=(7,))
    with Adb(SERIAL) as device:
        (process,) = bench_request(bundle, settings, device=device).measured.processes
    assert set(process.scenarios) == {"recommend", "score 7", "lookup"}
    assert process.cold or process.warm_because
    assert len(process.sustained) == 1
    assert {point.batch for point in process.offline} == {1, 16, 256}


def test_the_second_run_sends_nothing(phone: Phone, bundle: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        told.clear()
        with open_device(phone.address, tell=told.append) as device:
            device.push(bundle)
            device.run(BARE)
    assert told == [f"connecting to {phone.address}"]
    assert not phone.leftovers()


def test_only_what_is_missing_or_damaged_is_sent(phone: Phone, bundle: Path) -> None:
    with Adb() as device:
        place = phone.data / Path(device.push(bundle)).relative_to("/data")
    (card,) = place.glob("README-*")
    card.write_text("what a failing card made of it")
    (tables,) = place.glob("tables-*")
    tables.unlink()
    told: list[str] = []
    with Adb(tell=told.append) as device:
        device.push(bundle)
    assert [line.partition(",")[0] for line in told] == ["connecting to adb", "sending 2 files"]
    assert card.read_bytes() == (bundle / card.name).read_bytes()
    assert not phone.leftovers()


def test_files_come_back(phone: Phone, bundle: Path, tmp_path: Path) -> None:
    with Adb() as device:
        device.pull(device.push(bundle), tmp_path / "back")
        with pytest.raises(BenchError, match="adb: there is no folder /nowhere on the device"):
            device.pull("/nowhere", tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }


def test_what_it_cannot_do(phone: Phone, bundle: Path) -> None:
    with Adb() as device:
        place = device.push(bundle)
        with pytest.raises(BenchError, match="does the tasks bundle and bare, not 'profile'"):
            device.run({"task": "profile"})
        with pytest.raises(BenchError, match="user 'nobody' is not in the bundle"):
            device.run({**QUESTION, "bundle": place, "ask": [0, "nobody"]})
        with pytest.raises(BenchError, match=r"k is 501, not in 1\.\.500"):
            device.run({**QUESTION, "bundle": place, "k": 501})
    with Adb() as device, pytest.raises(BenchError, match="was not pushed from here"):
        device.run({**QUESTION, "bundle": place, "ask": [0]})


def test_a_request_that_takes_too_long_is_killed_there(phone: Phone, bundle: Path) -> None:
    with Adb(timeout=0.5) as device:
        place = device.push(bundle)
        with pytest.raises(BenchError, match=r"took longer than 0\.5 s and was stopped"):
            device.run({**LONG, "bundle": place})
    assert not phone.measuring()


def test_ctrl_c_ends_what_runs_there(phone: Phone, bundle: Path) -> None:
    arguments = ["bench", bundle, "--seconds", "600", "--device", phone.address]
    done = interrupted(arguments, lambda: bool(phone.measuring()))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert awaited(lambda: not phone.measuring())


def test_a_process_that_is_killed_for_its_memory(phone: Phone, bundle: Path) -> None:
    with Adb() as device:
        place = device.push(bundle)
        killing = while_measuring(phone, lambda: os.kill(phone.measuring()[0], signal.SIGKILL))
        with killing, pytest.raises(DoesNotFitError, match="was killed by SIGKILL"):
            device.run({**LONG, "bundle": place})


@pytest.mark.slow
def test_a_link_that_drops(own_phone: Callable[..., Phone], bundle: Path) -> None:
    phone = own_phone()
    with Adb(SERIAL) as device:
        place = device.push(bundle)
        with while_measuring(phone, phone.switch_off), pytest.raises(BenchError, match=LOST):
            device.run({**LONG, "bundle": place})


@pytest.mark.slow
def test_a_disk_that_is_full(own_phone: Callable[..., Phone], bundle: Path) -> None:
    own_phone(disk="8m")
    with Adb() as device:
        place = device.push(bundle)
        with pytest.raises(BenchError, match=r"no space on the device; free some, .* adb shell rm -r /data/local/tmp/"):
            device.run({**QUESTION, "bundle": place})
        left = device._bridge.shell("ls /data/local/tmp/edgerec/parts; ls /data/local/tmp/edgerec/runtimes/*")
    assert not left.strip()


@pytest.mark.slow
def test_a_device_without_sha256sum(own_phone: Callable[..., Phone], bundle: Path) -> None:
    """What is there is told by its size."""
    phone = own_phone(without="sha256sum")
    told: list[str] = []
    with Adb(tell=told.append) as device:
        place = phone.data / Path(device.push(bundle)).relative_to("/data")
        (tables,) = place.glob("tables-*")
        tables.write_bytes(b"cut")
        device.push(bundle)
        device.push(bundle)
    assert [line.partition(",")[0] for line in told[1:]] == [
        f"sending {len(list(bundle.iterdir()))} files",
        "sending 1 file",
    ]


def test_a_processor_without_a_runner(phone: Phone, bundle: Path, tmp_path: Path) -> None:
    getprop = phone.client.parent / "bin" / "getprop"
    was = getprop.read_text()
    try:
        getprop.write_text(was.replace("x86_64", "riscv64"))
        with Adb() as device, pytest.raises(BenchError, match="'riscv64', and onnxruntime has no library"):
            device.run(BARE)
        with Adb() as device:
            told = device.info()
        assert told["abi"] == "riscv64"
        assert "onnxruntime" not in told
    finally:
        getprop.write_text(was)

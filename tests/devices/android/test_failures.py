"""What adb says where a phone cannot be used, and the one line that a user gets; adb itself is a script here."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec_devices import open_device
from edgerec_devices.adb import bridge as android_bridge
from edgerec_devices.adb.device import Adb, missing
from tests.conftest import CommandLine
from tests.devices.conftest import write_script

SAID = {
    "no device": (
        "adb: no devices/emulators found",
        "adb: no device is connected; plug a phone in, with USB debugging switched on",
    ),
    "unauthorised": (
        "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
        "Try 'adb kill-server' if that seems wrong.\nOtherwise check for a confirmation dialog on your device.",
        "adb: the phone does not trust this computer yet; unlock it, and accept the question about USB debugging",
    ),
    "authorising": ("error: device still authorizing", "adb: the phone does not trust this computer yet"),
    "two devices": (
        "error: more than one device/emulator",
        "adb: more than one device is connected; name one: --device adb:SERIAL (see: adb devices)",
    ),
    "offline": ("error: device offline", "adb: the device is offline; wake it, plug it in again, or: adb reconnect"),
    "no permission": (
        "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?",
        "adb: this user may not use the device's USB port; sudo apt-get install android-sdk-platform-tools-common",
    ),
    "server": ("error: cannot connect to daemon", "adb: cannot connect to daemon"),
    "nothing": ("", "adb: the connection was lost (it said nothing)"),
}


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a script in adb's place."""
    folder.mkdir(exist_ok=True)
    write_script(folder / "adb", body)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("name", SAID)
def test_a_phone_that_cannot_be_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, line = SAID[name]
    fake(tmp_path / "bin", monkeypatch, f"printf '%s\\n' {shlex.quote(said)} >&2; exit 1")
    with Adb() as device, pytest.raises(BenchError) as caught:
        device.info()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_serial_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", monkeypatch, "echo \"error: device '$2' not found\" >&2; exit 1")
    with (
        open_device("adb:R58M123") as device,
        pytest.raises(BenchError, match=r"^adb:R58M123: it is not connected .*; what is: adb devices$"),
    ):
        device.push(tmp_path)


def test_a_state_that_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", monkeypatch, "echo recovery")
    with Adb() as device, pytest.raises(BenchError, match=r"^adb: device recovery$"):
        device.info()


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_transfer_that_never_ends(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """adb itself has no limit."""
    body = 'case "$1" in get-state) echo device;; shell) echo "4 /there";; *) exec sleep 60;; esac'
    fake(tmp_path / "bin", monkeypatch, body)
    monkeypatch.setattr(android_bridge, "SHELL_S", 2.0)
    (tmp_path / "a file").write_text("of a bundle")
    bridge = android_bridge.Bridge()
    with pytest.raises(BenchError, match=r"^adb gave no answer for 2\S* s; restart adb: adb kill-server$"):
        bridge.push([tmp_path / "a file"], "/there") if verb == "push" else bridge.pull("/there", tmp_path)


def test_a_file_that_arrives_damaged(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client says that all is well, and nothing is there."""
    body = f'echo "$@" >> {tmp_path}/asked\n[ "$1" = get-state ] && echo device; exit 0'
    fake(tmp_path / "bin", monkeypatch, body)
    with Adb() as device, pytest.raises(BenchError, match="arrived damaged or in part; try again"):
        device.push(bundle)
    assert "rm -rf /data/local/tmp/edgerec/parts/" in (tmp_path / "asked").read_text().splitlines()[-1]


def test_one_line_on_the_command_line(
    bundle: Path, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", monkeypatch, "echo 'adb: no devices/emulators found' >&2; exit 1")
    done = command_line("bench", bundle, "--device", "adb")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("Error: adb: no device is connected")
    assert "Traceback" not in done.stderr


def test_no_adb_and_nothing_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Adb() as device, pytest.raises(BenchError, match="there is no adb on this machine; sudo apt-get install adb"):
        device.info()
    assert [part.fix.partition(" (")[0] for part in missing()] == [
        "sudo apt-get install adb",
        "edgerec devices setup adb",
    ]


def test_options_that_it_has_not() -> None:
    with pytest.raises(BenchError, match="--memory is for devices that are started here"):
        open_device("adb", memory=2**27)
    with pytest.raises(BenchError, match="an Android device fetches nothing: leave it out"):
        open_device("adb", offline=True)

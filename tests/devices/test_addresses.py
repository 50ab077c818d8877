"""What a person may write for a device, and what is asked of ssh and pip for it. Nothing is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec_devices import Local, Ssh, open_device
from edgerec_devices.arm64 import device as arm64
from edgerec_devices.facts import Platform
from edgerec_devices.protocol import Missing
from edgerec_devices.ssh.connection import Address
from edgerec_devices.ssh.environment import Target, download, pins, pip_failure


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://pi@raspberrypi.local", Address("raspberrypi.local", "pi")),
        ("ssh://MyPi", Address("MyPi")),
        ("ssh://pi@10.0.0.2:2222/", Address("10.0.0.2", "pi", 2222)),
        ("ssh://[fe80::1]:22", Address("fe80::1", None, 22)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["ssh://", "ssh:pi", "ssh://pi@host/tmp", "ssh://host:high", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h?x"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BenchError, match="is no address of a device; give ssh://user@host"), open_device(text):
        pass


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(BenchError, match="log in with a key") as caught:
        Ssh("ssh://pi:raspberry@host")
    assert "raspberry" not in str(caught.value)


def test_local_and_what_there_is_not() -> None:
    with open_device("local") as device:
        assert isinstance(device, Local)
    with pytest.raises(BenchError, match=r"there is no device .x.; give one of: local, .*ssh"), open_device("x"):
        pass
    with pytest.raises(BenchError, match="--offline is for devices"), open_device("local", offline=True):
        pass
    with pytest.raises(BenchError, match="--memory is for devices"), open_device("local", memory=2**27):
        pass


@pytest.mark.parametrize("text", ["arm64:", "arm64:cortex-a72", "arm64:cortex-a76"])
def test_the_emulated_machine_has_one_of_two_processors(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm64, "missing", lambda: [Missing("the machine", "edgerec devices setup arm64")])
    with pytest.raises(BenchError, match="needs the machine"), open_device(text):
        pass
    with (
        pytest.raises(BenchError, match=r"or one of: arm64:cortex-a72 \(a Raspberry Pi 4\)"),
        open_device("arm64:i386"),
    ):
        pass


def target(machine: str = "aarch64", bits: int = 64, *, musl: bool = False, glibc: str = "2.36") -> Target:
    return Target(Platform("Linux", machine, bits, (3, 11), musl), ("glibc", glibc))


def test_wheels_are_those_of_the_devices_own_system() -> None:
    tags = target().tags()
    assert tags[0] == "manylinux_2_36_aarch64"
    assert tags[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert target(musl=True).tags() == ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"]
    assert "manylinux_2_31_armv7l" in target(bits=32).tags()
    mac = Target(Platform("Darwin", "arm64", 64, (3, 11), False), ("", ""))
    with pytest.raises(BenchError, match=r"not Python 3\.11 on Darwin arm64; leave --offline out"):
        mac.tags()


def test_an_environment_is_another_where_anything_is() -> None:
    keys = {target().key, target("x86_64").key, target(bits=32).key, target(musl=True).key}
    assert len(keys) == 4
    assert target(glibc="2.41").key == target().key


@pytest.mark.slow
def test_wheels_for_a_raspberry_pi_are_had_from_here(tmp_path: Path) -> None:
    wheels = [path.name for path in download(target(), tmp_path)]
    for package in ("numpy", "onnxruntime"):
        (wheel,) = [name for name in wheels if name.startswith(f"{package}-")]
        assert "cp311-cp311-manylinux" in wheel
        assert "aarch64" in wheel


def test_a_system_that_has_no_wheel_is_told_what_has(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"no wheel of \w+==\S+ for Python 3.11 on Linux armv7l: .*64-bit Raspberry Pi OS"
    ):
        download(target("armv7l", 32), tmp_path)


def test_no_index_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(BenchError, match=r"this machine reaches no package index; connect it$"):
        download(target(), tmp_path)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space on the device",
        ),
        (
            "OSError: Could not find a suitable TLS CA certificate bundle",
            "the device has no CA certificates for HTTPS",
        ),
        ("/usr/bin/python3: No module named pip", "the device has no pip: python3 -m ensurepip"),
        ("WARNING: x\nERROR: something else\n", "pip failed on the device: something else"),
        ("", "pip failed on the device: it said nothing"),
    ],
)
def test_what_pip_says_is_one_line(said: str, meant: str) -> None:
    assert str(pip_failure(said, target(), "the device")).startswith(meant)


def test_pins_are_the_versions_of_this_machine() -> None:
    assert [pin.partition("==")[0] for pin in pins()] == ["numpy", "onnxruntime"]

"""A phone on this machine: Android's real debug daemon in namespaces of its own, reached by the system's own adb."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.devices.android.parts import PLACES, daemon, lacking, need
from tests.devices.conftest import write_script

PORT = 15555
SERIAL = f"127.0.0.1:{PORT}"
LIBRARIES = ("usr/lib/x86_64-linux-gnu/android", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
PROPERTIES = {
    "ro.product.manufacturer": "acme",
    "ro.product.model": "Phone 1",
    "ro.product.cpu.abi": "x86_64",
    "ro.soc.manufacturer": "Acme",
    "ro.soc.model": "S1",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
}
CONNECT_S = 20


@dataclass
class Phone:
    """The device of the tests.

    Attributes:
        data: its folder /data, as this machine sees it.
        client: the folder of the only `adb` that reaches it.
        holder: the process that keeps its namespaces.
        network: the one that the daemon, its client's server and what it starts are in.
    """

    data: Path
    client: Path
    holder: subprocess.Popen[bytes]
    network: int

    @property
    def address(self) -> str:
        return f"adb:{SERIAL}"

    @property
    def kept(self) -> Path:
        """What EdgeRec keeps there."""
        return self.data / "local" / "tmp" / "edgerec"

    def leftovers(self) -> list[Path]:
        """What is half-made."""
        return list((self.kept / "parts").glob("*"))

    def measuring(self) -> list[int]:
        """The processes that measure there now."""
        return [number for number, command in self.running() if command.startswith(b"./edgerec-runner")]

    def running(self) -> Iterator[tuple[int, bytes]]:
        """All its processes, each with its command."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns" / "net").stat().st_ino == self.network:
                    yield int(folder.name), (folder / "cmdline").read_bytes()

    def switch_off(self) -> None:
        """As a phone does whose battery is taken out."""
        self.kill(b"adbd")

    def kill(self, name: bytes = b"") -> None:
        """End its processes whose commands have that in them."""
        for number, command in list(self.running()):
            if name in command:
                os.kill(number, signal.SIGKILL)


@contextmanager
def switched_on(folder: Path, shim: Path, *, disk: str | None = None, without: str = "") -> Iterator[Phone]:
    """A phone that is connected.

    Args:
        folder: for what it keeps.
        shim: libraries of Android's system.
        disk: size of its /data; None for as much as there is here.
        without: a program that it has not.
    """
    need("adb", "unshare", "nsenter", "ip", "mount")
    root, data, client = daemon(), folder / "data", folder / "client"
    # adb's folder on every Android device; here it stays empty, and is another's in the phone's namespace alone.
    Path("/data").mkdir(exist_ok=True)
    for made in (data, client, folder / "bin", folder / "home"):
        made.mkdir(parents=True)
    cases = "\n".join(f"{name}) echo {shlex.quote(value)};;" for name, value in PROPERTIES.items())
    write_script(folder / "bin" / "getprop", f'case "$1" in\n{cases}\nesac')
    for program in Path("/usr/bin").iterdir():
        if program.name not in (without, "getprop"):
            (folder / "bin" / program.name).symlink_to(program)
    libraries = ":".join([*(str(root / name) for name in LIBRARIES), str(shim)])
    mount = f"mount --bind {data} /data" if disk is None else f"mount -t tmpfs -o size={disk} tmpfs /data"
    variables = f"PATH={folder / 'bin'} LD_LIBRARY_PATH={libraries} ADBD_PORT={PORT}"
    start = f"ip link set lo up && {mount} && mkdir -p /data/local/tmp && cd /"
    script = (
        f"{start} && {{ env -i {variables} {root}/usr/lib/android-sdk/platform-tools/adbd & exec sleep infinity; }}"
    )
    with (folder / "log").open("wb") as log:
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": PLACES},
        )
    # The client and its server live in the phone's network: nobody else's server is asked, and none of theirs is seen.
    inside = f"exec nsenter --target {holder.pid} --net env HOME={folder / 'home'}"
    write_script(client / "adb", f'{inside} {_client()} "$@"')
    phone = Phone(data, client, holder, _namespace(holder))
    try:
        _connect(phone, folder / "log")
        yield phone
    finally:
        phone.kill()
        holder.wait()


def _namespace(process: subprocess.Popen[bytes]) -> int:
    """Its number, once the process has one of its own."""
    theirs, mine = Path("/proc", str(process.pid), "ns", "net"), Path("/proc/self/ns/net").stat().st_ino
    end = time.monotonic() + CONNECT_S
    while (number := theirs.stat().st_ino) == mine:
        if process.poll() is not None or time.monotonic() > end:
            lacking("namespaces cannot be made here: tests of Android devices run as root, where `unshare --net` works")
        time.sleep(0.01)
    return number


def _client() -> str:
    """The system's own, whatever a test has put before it."""
    return next(str(path) for place in PLACES.split(os.pathsep) if (path := Path(place, "adb")).exists())


def _connect(phone: Phone, log: Path) -> None:
    end = time.monotonic() + CONNECT_S
    while phone.holder.poll() is None and time.monotonic() < end:
        done = subprocess.run([phone.client / "adb", "connect", SERIAL], capture_output=True, text=True, check=False)
        if done.stdout.startswith("connected"):
            return
        time.sleep(0.05)
    pytest.fail(f"adbd cannot be reached: {log.read_text()[-2000:]}")

"""One run of the emulated machine: its own kernel, a disk that discards changes, sshd on a free loopback port."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec_devices.arm64.image import FIRST, OUT_OF_MEMORY, PREPARED, READY, USER

EMULATOR = "qemu-system-aarch64"
CPUS = {"cortex-a72": "a Raspberry Pi 4", "cortex-a76": "a Raspberry Pi 5"}
"""CPUs that can be emulated: ARMv8.0, the default, and ARMv8.2 with dot products of bytes and half precision."""
CPU = "cortex-a72"
HOST = "arm64"
"""The machine's name for ssh: an alias in its own configuration, never resolved."""
BOOT_S = 120.0
"""Maximum seconds of a start; it takes 2 on a free core, 4 if two start at once."""
FIRST_S = 900.0
"""Maximum seconds of the first start, which compiles Python files; it takes 15 on a free core."""
POLL_S = 0.05

COUNTING = ("-icount", "shift=0,sleep=on")
"""One instruction is one nanosecond of the guest's clock; a guest that waits does so in real time."""
SSH_CONFIG = """Host {host}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  IdentityAgent none
  HostKeyAlias {host}
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
"""


class Machine:
    """A machine that runs for the length of a block, and never longer than this process.

    Attributes:
        ssh_config: path of the configuration with which ssh reaches `HOST`.
    """

    def __init__(self, image: Path, memory: int, *, cpu: str = CPU, counting: bool = True) -> None:
        """
        Args:
            image: the folder of the machine's files.
            memory: bytes of its memory.
            cpu: one of `CPUS`.
            counting: the clock counts instructions; otherwise the machine is faster, and its clock is meaningless.
        """
        self._image, self._memory, self._extra = image, memory, COUNTING if counting else ()
        self._cpu = cpu
        self._folder = tempfile.TemporaryDirectory(prefix="edgerec-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the machine. Raises BenchError if sshd does not start to listen."""
        try:
            self._process = start(
                self._image,
                self._place,
                self._memory,
                [*self._extra, *self._network()],
                snapshot=True,
                cpu=self._cpu,
            )
            await_console(self._console, self._process, READY, f"a machine of {format_bytes(self._memory)}")
            self._configure(self._port())
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def ssh_config(self) -> Path:
        """Path of the configuration with which `ssh` reaches the machine."""
        return self._place / "ssh_config"

    def ends(self, seconds: float) -> bool:
        """Return True if the emulator's process has ended, or ends within this time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Stop the machine like a loss of power, and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    @property
    def _place(self) -> Path:
        return Path(self._folder.name)

    @property
    def _console(self) -> Path:
        return self._place / "console"

    def out_of_memory(self) -> int:
        """Return how often the kernel has killed a process because memory ran out."""
        return read(self._console).count(OUT_OF_MEMORY)

    def _network(self) -> list[str]:
        """Return emulator options for a network without outgoing connections, and one forwarded free port."""
        return [
            *("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-qmp", f"unix:{self._place / 'monitor'},server=on,wait=off"),
        ]

    def _port(self) -> int:
        """Return the loopback port that the emulator chose."""
        with socket.socket(socket.AF_UNIX) as monitor, monitor.makefile("rw") as stream:
            monitor.connect(str(self._place / "monitor"))
            stream.readline()  # its greeting
            for command, fields in (
                ("qmp_capabilities", {}),
                ("human-monitor-command", {"command-line": "info usernet"}),
            ):
                stream.write(json.dumps({"execute": command, "arguments": fields}) + "\n")
                stream.flush()
                reply = next(line for line in stream if '"return"' in line or '"error"' in line)  # others are events
        port = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", reply)
        if port is None:
            raise BenchError(
                f"{EMULATOR} reports no port of its machine; install a newer one: apt-get install qemu-system-arm"
            )
        return int(port[1])

    def _configure(self, port: int) -> None:
        shutil.copyfile(self._image / "key", self._place / "key")
        (self._place / "key").chmod(0o600)
        (self._place / "known_hosts").write_text(f"{HOST} {(self._image / 'host.pub').read_text()}")
        self.ssh_config.write_text(SSH_CONFIG.format(host=HOST, port=port, user=USER, folder=self._place))


def start(
    image: Path,
    folder: Path,
    memory: int,
    extra: list[str],
    *,
    snapshot: bool,
    cpu: str = CPU,
    arguments: str = "",
) -> subprocess.Popen[bytes]:
    """Start an emulator; its console is the file `console` in `folder`.

    Args:
        snapshot: changes of the disk are discarded.
        cpu: one of `CPUS`.
        arguments: additional kernel arguments.
    """
    disk = str(image / "disk").replace(",", ",,")  # a comma ends a value
    words = [
        # The emulator is killed together with this process, and with the thread that started it.
        *("setpriv", "--pdeathsig", "KILL", "--", EMULATOR),
        *("-machine", "virt", "-cpu", cpu, "-m", f"{memory // 1024}K", "-display", "none", "-nodefaults", "-no-reboot"),
        *("-kernel", str(image / "kernel"), "-initrd", str(image / "initial")),
        *("-append", f"console=ttyAMA0 quiet panic=-1 cma=0 {arguments}"),
        *("-serial", f"file:{folder / 'console'}"),
        *("-drive", f"file={disk},format=raw,if=none,id=disk,snapshot={'on' if snapshot else 'off'}"),
        *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
    ]
    with (folder / "said").open("wb") as said:
        # In its own session the emulator gets no Ctrl-C, so that the measuring process inside can stop first.
        return subprocess.Popen(
            [*words, *extra], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )


def first_start(image: Path, folder: Path) -> None:
    """Start the machine once to compile its Python files and store the result on the disk.

    Raises BenchError if the imports fail.
    """
    extra = ["-smp", "2", "-accel", "tcg,thread=multi"]
    process = start(image, folder, 1 << 30, extra, snapshot=False, arguments=FIRST)
    try:
        await_console(folder / "console", process, PREPARED, "the first start", FIRST_S)
        process.wait(BOOT_S)
    except subprocess.TimeoutExpired:
        raise BenchError("the emulated machine does not switch itself off; try again") from None
    finally:
        process.kill()
        process.wait()


def await_console(
    console: Path, process: subprocess.Popen[bytes], text: str, what: str, seconds: float = BOOT_S
) -> None:
    """Wait until the console shows a text. Raises BenchError if the machine ends before, or takes too long."""
    end = time.monotonic() + seconds
    while True:
        ended = process.poll() is not None
        said = read(console)
        if text in said:
            return
        if ended or time.monotonic() > end:
            lines = [line.strip() for line in (said + read(console.parent / "said")).splitlines() if line.strip()]
            how = "ended" if ended else f"took longer than {seconds:g} s"
            raise BenchError(f"{what} {how}: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(POLL_S)


def read(path: Path) -> str:
    """Return a file's content; empty if there is no such file."""
    return path.read_text(errors="replace") if path.exists() else ""

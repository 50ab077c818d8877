"""The device arm64: an emulated Raspberry Pi behind sshd, which runs for as long as it is measured.

Memory figures come from a real kernel. The clock counts instructions: a millisecond stands for a million of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgerec.budget import format_bytes
from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices.arm64.image import command
from edgerec_devices.arm64.setup import NAME, home, missing, set_up
from edgerec_devices.arm64.vm import CPU, CPUS, EMULATOR, HOST, Machine
from edgerec_devices.process import took_too_long
from edgerec_devices.protocol import Kind, Options, Request, Tell
from edgerec_devices.ssh.connection import NoAnswerError
from edgerec_devices.ssh.device import Ssh

MEMORY = 512 << 20
LEAST_MEMORY, MOST_MEMORY = 96 << 20, 64 << 30
"""Bytes: the machine does not start with less, nor the emulator with more."""
ENDING_SECONDS = 2.0
"""Time in which an emulator ends after its connections were closed."""


class Arm64(Ssh):
    """A running emulated machine.

    Attributes:
        memory: bytes of its memory.
        cpu: one of `CPUS`.
    """

    memory: int
    patience = 300.0
    variables = MappingProxyType({"PYTHONHASHSEED": "0"})
    """A fixed hash seed: dictionary collisions that differ by process cost 1 % of a short call's instructions."""

    def __init__(self, machine: Machine, memory: int, *, cpu: str = CPU, tell: Tell | None = None) -> None:
        name = NAME if cpu == CPU else f"{NAME}:{cpu}"
        super().__init__(f"ssh://{HOST}", offline=True, tell=tell, name=name, config=machine.ssh_config)
        self._machine, self.memory, self.cpu = machine, memory, cpu

    def info(self) -> dict[str, Any]:
        """Return the machine's facts, and that its clock counts instructions. Raises BenchError."""
        with self._explained():
            said = super().info()
        number = re.search(r"version (\S+)", command([EMULATOR, "--version"]))
        emulator = "QEMU" if number is None else f"QEMU {number[1]}"
        return {
            **said,
            "board": f"arm64 stand-in ({emulator}, emulated)",
            "cpu": f"{self.cpu} (emulated)",
            "clock": "instructions",
        }

    def run(self, request: Request) -> dict[str, Any]:
        """Measure the requested number of calls in a fresh process of the device; seconds have no meaning there.

        Raises:
            DoesNotFitError: there was not enough memory.
            BenchError: the process failed, took too long, or the machine ended.
        """
        try:
            with self._explained():
                return super().run({**request, "seconds": 0})
        except NoAnswerError:
            raise took_too_long(self.timeout) from None

    def push(self, folder: Path) -> str:
        """Copy a bundle's folder to the machine. Raises BenchError, StorageError."""
        with self._explained():
            return super().push(folder)

    def pull(self, place: str, folder: Path) -> None:
        """Copy a folder from the machine. Raises BenchError, StorageError."""
        with self._explained():
            super().pull(place, folder)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Replace errors whose cause is the emulated machine: it ran out of memory, or ended."""
        killed = self._machine.out_of_memory()
        try:
            yield
        except BenchError as error:
            if self._machine.out_of_memory() > killed:
                raise DoesNotFitError(
                    f"the bundle does not fit into the device's memory of {format_bytes(self.memory)}; "
                    "make it smaller, or give the device more: --memory"
                ) from None
            if self._machine.ends(ENDING_SECONDS):
                raise BenchError(f"{self.name}: the emulated machine has ended; run the command again") from error
            raise


@contextmanager
def _open(address: str, options: Options) -> Iterator[Arm64]:
    name, _, cpu = address.partition(":")
    cpu = cpu or CPU
    if name != NAME or cpu not in CPUS:
        known = ", ".join(f"{NAME}:{one} ({about})" for one, about in CPUS.items())
        raise BenchError(f"{address!r} is no address of a device; give {NAME}, or one of: {known}")
    memory = MEMORY if options.memory is None else options.memory
    if not LEAST_MEMORY <= memory <= MOST_MEMORY:
        least, most = format_bytes(LEAST_MEMORY), format_bytes(MOST_MEMORY)
        raise BenchError(f"the device arm64 has {least} to {most} of memory; give another --memory")
    for part in missing():
        raise BenchError(f"the device arm64 needs {part.what}: {part.fix}")
    options.tell(f"starting an emulated machine with {format_bytes(memory)} of memory")
    with Machine(home(), memory, cpu=cpu) as machine, Arm64(machine, memory, cpu=cpu, tell=options.tell) as device:
        yield device


ABOUT = "an emulated Raspberry Pi, started here: real memory figures, instructions instead of seconds"
KIND = Kind("arm64", "arm64[:CPU]", ABOUT, _open, missing, set_up)

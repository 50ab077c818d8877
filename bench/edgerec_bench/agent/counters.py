"""What a call costs whatever else runs: instructions, where the kernel counts them; energy, where a device tells it."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")

SYSCALLS = {"x86_64": 298, "i686": 336, "aarch64": 241, "riscv64": 241, "armv7l": 364, "armv6l": 364, "ppc64le": 319}
"""perf_event_open(2), which the C library has no name for."""
ATTRIBUTES_SIZE = 64  # the structure's first version
HARDWARE, INSTRUCTIONS = 0, 1
TIMES = 0b11  # how long it was wanted, and how long it counted
DISABLED, INHERIT, NO_KERNEL, NO_HYPERVISOR = 1 << 0, 1 << 1, 1 << 5, 1 << 6
ENABLE, DISABLE = 0x2400, 0x2401


class Instructions:
    """Counts what this process, and threads that it starts later, execute outside the kernel.

    Opened before the sessions, whose threads are then counted too.
    """

    def __init__(self) -> None:
        """Counts nothing where the kernel does not permit it, or has no counter for it."""
        self._handle = _open_counter()

    def of(self, action: Callable[[], Any]) -> int | None:
        """How many instructions an action took; None where they are not counted, or not all the time."""
        if self._handle is None:
            return None
        import fcntl

        before = self._read()
        fcntl.ioctl(self._handle, ENABLE)
        action()
        fcntl.ioctl(self._handle, DISABLE)
        count, wanted, counted = (after - earlier for after, earlier in zip(self._read(), before, strict=True))
        # Where the counter was lent to another program for a while, the count is a guess.
        return count if count > 0 and wanted == counted else None

    def _read(self) -> tuple[int, int, int]:
        count, wanted, counted = struct.unpack("QQQ", os.read(self._handle or 0, 24))
        return count, wanted, counted

    def close(self) -> None:
        """Give the counter back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextmanager
def instruction_counter() -> Iterator[Instructions]:
    """A counter for as long as a block lasts."""
    counter = Instructions()
    try:
        yield counter
    finally:
        counter.close()


def _open_counter() -> int | None:
    number = SYSCALLS.get(platform.machine())
    if sys.platform != "linux" or number is None or (struct.calcsize("P") == 4 and platform.machine().endswith("64")):
        return None
    flags = DISABLED | INHERIT | NO_KERNEL | NO_HYPERVISOR
    # type, size, config; period, sample_type, read_format, flags; wakeup, breakpoint, its address
    attributes = struct.pack("IIQQQQQIIQ", HARDWARE, ATTRIBUTES_SIZE, INSTRUCTIONS, 0, 0, TIMES, flags, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    handle = libc.syscall(ctypes.c_long(number), attributes, 0, -1, -1, ctypes.c_ulong(0))
    return int(handle) if handle >= 0 else None


class Energy:
    """RAPL's counters of whole packages, as Linux's powercap shows them; other programs' share is in them."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._packages = [zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("pack")]

    def read(self) -> list[tuple[int, int]] | None:
        """Microjoules so far, and at how many each counter begins again; None where none may be read."""
        with suppress(OSError, ValueError):
            read = [(_number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")) for zone in self._packages]
            return read or None
        return None

    def joules_since(self, before: list[tuple[int, int]] | None) -> float | None:
        """What all packages together took since `before` was read; None where that is not known."""
        after = self.read()
        if before is None or after is None:
            return None
        pairs = zip(before, after, strict=True)
        taken = sum(late - early + (most if late < early else 0) for (early, most), (late, _) in pairs)
        return taken / 1e6


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text())

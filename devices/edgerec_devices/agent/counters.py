"""Costs other than time, as the kernel counts them: instructions, energy, memory, page faults; and the page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgerec.runtime.memory import memory_kib, run_bare_session

POWERCAP = Path("/sys/class/powercap")

SYSCALLS = {"x86_64": 298, "i686": 336, "aarch64": 241, "riscv64": 241, "armv7l": 364, "armv6l": 364, "ppc64le": 319}
"""Number of perf_event_open(2) by machine: the C library has no wrapper for it."""
ATTRIBUTES_SIZE = 64  # the structure's first version
HARDWARE, INSTRUCTIONS = 0, 1
TIMES = 0b11  # the time that the counter was enabled, and the time that it ran
DISABLED, INHERIT, NO_KERNEL, NO_HYPERVISOR = 1 << 0, 1 << 1, 1 << 5, 1 << 6
ENABLE, DISABLE = 0x2400, 0x2401


class Instructions:
    """A counter of the user-space instructions of this process and of threads that it starts later.

    Open it before the sessions, so that it counts their threads, with `contextlib.closing`.
    """

    def __init__(self) -> None:
        """Open the counter; it counts nothing if the kernel does not permit it or has none."""
        self._handle = _open_counter()

    def of(self, action: Callable[[], Any]) -> int | None:
        """Return the number of instructions of an action; None if they were not counted, or not all the time."""
        if self._handle is None:
            return None
        import fcntl

        before = self._read()
        fcntl.ioctl(self._handle, ENABLE)
        action()
        fcntl.ioctl(self._handle, DISABLE)
        count, wanted, counted = (after - earlier for after, earlier in zip(self._read(), before, strict=True))
        # If another program had the hardware counter for some time, the count is an estimate.
        return count if count > 0 and wanted == counted else None

    def _read(self) -> tuple[int, int, int]:
        count, wanted, counted = struct.unpack("QQQ", os.read(self._handle or 0, 24))
        return count, wanted, counted

    def close(self) -> None:
        """Release the counter."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


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
    """RAPL's energy counters of whole CPU packages (Linux powercap); they include the share of other programs."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._packages = [zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("pack")]

    def read(self) -> list[tuple[int, int]] | None:
        """Return each counter's microjoules and its maximum before it wraps; None if no counter may be read."""
        with suppress(OSError, ValueError):
            read = [(_number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")) for zone in self._packages]
            return read or None
        return None

    def joules_since(self, before: list[tuple[int, int]] | None) -> float | None:
        """Return the energy of all packages since `before` was read; None if it is unknown."""
        after = self.read()
        if before is None or after is None:
            return None
        pairs = zip(before, after, strict=True)
        return sum(late - early + (most if late < early else 0) for (early, most), (late, _) in pairs) / 1e6


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text())


try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

SMAPS_ROLLUP = Path("/proc/self/smaps_rollup")
SHARED = ("Pss", "Pss_Anon", "Pss_File")


def memory_figures() -> dict[str, int]:
    """Return KiB of VmHWM (peak), VmRSS, RssAnon, RssFile, RssShmem, VmSwap, and Pss, Pss_Anon, Pss_File if readable.

    Empty if there is no /proc. Pss counts a page that n processes share as one n-th.
    """
    figures = memory_kib()
    try:
        lines = SMAPS_ROLLUP.read_text().splitlines()
    except OSError:
        return figures
    pairs = (line.split(":") for line in lines if ":" in line)
    return figures | {name: int(rest.split()[0]) for name, rest in pairs if name in SHARED}


def page_faults() -> dict[str, int]:
    """Return this process's page faults: minor ones without disk access, major ones with it; empty if unknown."""
    if resource is None:
        return {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"minor": usage.ru_minflt, "major": usage.ru_majflt}


def faults_since(before: dict[str, int]) -> dict[str, int]:
    """Return the page faults since an earlier call of `page_faults`."""
    return {name: count - before[name] for name, count in page_faults().items()}


def bare(request: dict[str, Any]) -> dict[str, Any]:
    """Run the bare session and return {"memory": figures} of the process; the kernel has no session."""
    if request.get("provider") != "kernel":
        run_bare_session(int(request["threads"]))
    return {"memory": memory_figures()}


NO_MAPPING = ctypes.c_void_p(-1).value
PROT_READ = MAP_SHARED = 1
"""The same values on every system that has mincore(2)."""


def evict(files: Sequence[Path]) -> str | None:
    """Evict files from the page cache. Returns the reason why some stay in it, or None if none does."""
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise"
    try:
        for path in files:
            _drop(path)
        stayed = sum(resident_pages(path) for path in files)
    except (OSError, AttributeError) as error:
        return f"this system does not show which pages stay in the page cache ({error})"
    return f"{stayed} pages stayed in the page cache; another program may use them" if stayed else None


def _drop(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())  # pages that are not yet on the disk would stay
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_pages(path: Path) -> int:
    """Return how many of a file's pages are in the page cache: mincore(2) over a mapping that reads nothing.

    For a file that this user may not write, Linux reports all of them. Raises OSError, or AttributeError if there is
    no such call.
    """
    size = path.stat().st_size
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    with path.open("rb") as stream:
        place = libc.mmap(None, size, PROT_READ, MAP_SHARED, stream.fileno(), 0)
    if place == NO_MAPPING:
        raise OSError(ctypes.get_errno(), "mmap failed")
    try:
        if libc.mincore(place, size, pages):
            raise OSError(ctypes.get_errno(), "mincore failed")
    finally:
        libc.munmap(place, size)
    return sum(page & 1 for page in pages.raw)

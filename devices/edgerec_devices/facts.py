"""Facts about the current machine, read and never guessed. Needs only the standard library.

usage: python -m edgerec_devices.facts      (prints the facts as JSON; remote devices run this)
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
POLICIES = Path("/sys/devices/system/cpu/cpufreq")
THERMAL = Path("/sys/class/thermal")
DEVICE_TREE = Path("/proc/device-tree")

MOMENTARY = ("mhz", "clocks", "temperature_c", "throttled", "memory_available_bytes")
"""Facts that change while a machine runs."""

THROTTLE_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `vcgencmd get_throttled`; the same conditions since boot are 16 bits higher."""


# As on PyPI in November 2026, when onnxruntime 1.32.0 was the newest.
NEWEST_PYTHON = (3, 14)
LAST_INTEL_MAC = "1.23.2"


@dataclass(frozen=True)
class Platform:
    """The properties that decide which wheels are available: system, machine, bits, Python, C library."""

    system: str = field(default_factory=platform.system)
    machine: str = field(default_factory=platform.machine)
    bits: int = 64 if sys.maxsize > 2**32 else 32
    python: tuple[int, int] = field(default_factory=lambda: sys.version_info[:2])
    musl: bool = "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE"))

    @property
    def is_32_bit_arm(self) -> bool:
        """True for 32-bit ARM programs; their kernel, and with it the machine's name, may be 64-bit."""
        return self.bits == 32 and self.machine.startswith(("arm", "aarch64"))


def wheel_advice(here: Platform) -> str | None:
    """Return how to install onnxruntime if PyPI has no wheel for the platform; None if it has one."""
    if here.is_32_bit_arm:
        return (
            "PyPI has no onnxruntime for 32-bit ARM: install a 64-bit Raspberry Pi OS, "
            "or Debian's own package: sudo apt install python3-onnxruntime (armhf, from sid)"
        )
    if here.bits == 32:
        return "PyPI has no onnxruntime for 32-bit Python: install a 64-bit one"
    if here.musl:
        return "PyPI has no onnxruntime for musl (Alpine): use a system with glibc, such as Debian"
    if here.python > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        return f"PyPI had no onnxruntime for Python newer than {newest} when this was written: use Python {newest}"
    if (here.system, here.machine) == ("Darwin", "x86_64"):
        return f"the last onnxruntime for Intel Macs is {LAST_INTEL_MAC}: pip install 'onnxruntime<={LAST_INTEL_MAC}'"
    return None


def machine_facts() -> dict[str, Any]:
    """Return CPU, memory, system and versions of this machine; facts that cannot be read are absent.

    Returns:
        board (from the device tree: 'Raspberry Pi 4 Model B Rev 1.4'), cpu (model), architecture, cores,
        usable_cores (that this process may run on); governor, mhz (current) and max_mhz of the first core; clocks (the
        same for each group of cores, if there are several); temperature_c (of the hottest thermal zone), throttled (a
        Raspberry Pi's flags: see `throttle_flags`), clock_ns (resolution of the timer), memory_bytes,
        memory_available_bytes, os, kernel, python, numpy, onnxruntime; provider and ort_telemetry as in every
        measuring process. A device whose clock counts instructions adds clock: 'instructions'.
    """
    facts: dict[str, Any] = {
        "board": _text(DEVICE_TREE / "model"),
        "cpu": _cpu_model(),
        "architecture": platform.machine() or None,
        "cores": os.cpu_count(),
        "usable_cores": _usable_cores(),
        "governor": _text(CPUFREQ / "scaling_governor"),
        "mhz": _mhz(CPUFREQ / "scaling_cur_freq"),
        "max_mhz": _mhz(CPUFREQ / "cpuinfo_max_freq"),
        "clocks": _clocks(),
        "temperature_c": _temperature(),
        "throttled": _throttled(),
        "clock_ns": time.get_clock_info("perf_counter").resolution * 1e9,
        "memory_bytes": _memory_bytes(),
        "memory_available_bytes": _memory_available(),
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}".strip() or None,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "onnxruntime": _version("onnxruntime"),
        "provider": "CPUExecutionProvider",
        "ort_telemetry": "off",
    }
    return {name: value for name, value in facts.items() if value is not None}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    """Return the CPU's model: x86 has it in cpuinfo, ARM boards have the board's name in the device tree."""
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return _text(DEVICE_TREE / "model") or platform.processor() or None


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _mhz(path: Path) -> float | None:
    kilohertz = _text(path)
    return int(kilohertz) / 1000 if kilohertz and kilohertz.isdigit() else None


def _clocks() -> str | None:
    """Describe each group of cores: 'cores 0 1 2 3: 600 of 1800 MHz, ondemand; cores 4 5: ...'.

    None if all groups are alike: `governor` and `mhz` say the same.
    """
    groups = sorted(POLICIES.glob("policy*"), key=lambda policy: int(policy.name.removeprefix("policy")))
    return "; ".join(map(_clock, groups)) if len({_clock_kind(group) for group in groups}) > 1 else None


def _clock_kind(policy: Path) -> tuple[str | None, str | None]:
    return _text(policy / "cpuinfo_max_freq"), _text(policy / "scaling_governor")


def _clock(policy: Path) -> str:
    now, most = _mhz(policy / "scaling_cur_freq"), _mhz(policy / "cpuinfo_max_freq")
    described = [f"{'?' if now is None else f'{now:.0f}'} of {'?' if most is None else f'{most:.0f}'} MHz"]
    described += filter(None, [_text(policy / "scaling_governor")])
    return f"cores {_text(policy / 'related_cpus') or '?'}: {', '.join(described)}"


def _temperature() -> float | None:
    read = [_text(zone / "temp") for zone in THERMAL.glob("thermal_zone*")]
    degrees = [int(text) / 1000 for text in read if text and re.fullmatch(r"-?\d+", text)]
    # A zone without a sensor reads 0, or -273 degrees.
    return max((value for value in degrees if value > 0), default=None)


def throttle_flags(word: int) -> str:
    """Describe the throttling flags of a Raspberry Pi: 'none', 'under-voltage now, throttled since boot'."""
    now = [f"{name} now" for bit, name in THROTTLE_BITS.items() if word >> bit & 1]
    since = [f"{name} since boot" for bit, name in THROTTLE_BITS.items() if word >> bit + 16 & 1]
    return ", ".join([*now, *since]) or "none"


def _throttled() -> str | None:
    try:
        command = ["vcgencmd", "get_throttled"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    word = re.search(r"throttled=0x([0-9a-fA-F]+)", said)
    return throttle_flags(int(word[1], 16)) if word else None


def _memory_available() -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")) or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return platform.platform() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(machine_facts()) + "\n")

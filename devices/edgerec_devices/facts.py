"""Facts about the machine that this runs on, read and never guessed; the standard library suffices.

usage: python -m edgerec_devices.facts      (prints them as JSON: how a far device is asked)
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def machine_facts() -> dict[str, Any]:
    """CPU, memory, system and versions of this machine; what cannot be read is absent.

    Returns:
        cpu (model), architecture, cores, usable_cores (those that this process may run on), governor,
        max_mhz, clock_ns (a step of the timer), memory_bytes, os, kernel, python, numpy, onnxruntime.
    """
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "architecture": platform.machine() or None,
        "cores": os.cpu_count(),
        "usable_cores": _usable_cores(),
        "governor": _text(CPUFREQ / "scaling_governor"),
        "max_mhz": _max_mhz(),
        "clock_ns": time.get_clock_info("perf_counter").resolution * 1e9,
        "memory_bytes": _memory_bytes(),
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}".strip() or None,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "onnxruntime": _version("onnxruntime"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    """x86 names its model in cpuinfo; ARM boards name themselves in the device tree."""
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return _text(Path("/proc/device-tree/model")) or platform.processor() or None


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _max_mhz() -> float | None:
    kilohertz = _text(CPUFREQ / "cpuinfo_max_freq")
    return int(kilohertz) / 1000 if kilohertz and kilohertz.isdigit() else None


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

"""What an Android device says of itself: one script for its shell, and how its answer is read."""

from __future__ import annotations

import re
from typing import Any

MARK = "edgerec-fact "
PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "soc_manufacturer": "ro.soc.manufacturer",
    "soc_model": "ro.soc.model",
    "platform": "ro.board.platform",
    "release": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
}
CPU0, POLICIES = "/sys/devices/system/cpu/cpu0/cpufreq", "/sys/devices/system/cpu/cpufreq"
COMMANDS = {
    **{name: f"getprop {key}" for name, key in PROPERTIES.items()},
    "machine": "uname -m",
    "kernel": "uname -sr",
    "cpuinfo": "cat /proc/cpuinfo",
    "meminfo": "cat /proc/meminfo",
    "governor": f"cat {CPU0}/scaling_governor",
    "khz": f"cat {CPU0}/scaling_cur_freq",
    "max_khz": f"cat {CPU0}/cpuinfo_max_freq",
    "clocks": f"for policy in {POLICIES}/policy*; do cd $policy && "
    "echo $(cat scaling_cur_freq)/$(cat cpuinfo_max_freq)/$(cat scaling_governor)/$(cat related_cpus); done",
    "temperatures": "cat /sys/class/thermal/thermal_zone*/temp",
    "battery": "dumpsys battery",
}
SCRIPT = "\n".join(f"echo; echo '{MARK}{name}'; {{ {command}; }} 2>/dev/null" for name, command in COMMANDS.items())
SCRIPT += "\ntrue"

ABIS = {"aarch64": "arm64-v8a", "armv8l": "armeabi-v7a", "armv7l": "armeabi-v7a", "x86_64": "x86_64", "i686": "x86"}
"""By the kernel's name of the machine, where there is no getprop."""


def read_answer(said: str) -> dict[str, str]:
    """What the script printed, by the name of the command."""
    parts = said.split(f"\n{MARK}")[1:]
    pairs = (part.partition("\n") for part in parts)
    return {name.strip(): text.strip() for name, _, text in pairs}


def abi_of(told: dict[str, str]) -> str:
    """Android's name of what programs run there; the kernel's where it is unknown."""
    machine = told.get("machine", "")
    return told.get("abi") or ABIS.get(machine, machine)


def android_facts(told: dict[str, str]) -> dict[str, Any]:
    """Facts of a device from the script's answer; what it did not tell is absent.

    Returns:
        board ('Google Pixel 8'), soc, cpu, abi, architecture, cores, governor, mhz (now) and max_mhz of the first core,
        clocks (of each group of cores), temperature_c (of the hottest zone), memory_bytes, memory_available_bytes, os,
        kernel, and power: 'battery', 'usb', 'ac', 'wireless'.
    """
    facts: dict[str, Any] = {
        "board": _joined(told.get("manufacturer", "").capitalize(), told.get("model", "")),
        "soc": _joined(told.get("soc_manufacturer", ""), told.get("soc_model", "")) or told.get("platform"),
        "cpu": _found(r"^(?:Hardware|model name)\s*: *(.+)$", told.get("cpuinfo", "")),
        "abi": abi_of(told),
        "architecture": told.get("machine"),
        "cores": len(re.findall(r"^processor\s*:", told.get("cpuinfo", ""), re.MULTILINE)),
        "governor": told.get("governor"),
        "mhz": _mhz(told.get("khz", "")),
        "max_mhz": _mhz(told.get("max_khz", "")),
        "clocks": _clocks(told.get("clocks", "")),
        "temperature_c": _hottest(told.get("temperatures", "")),
        "memory_bytes": _memory("MemTotal", told.get("meminfo", "")),
        "memory_available_bytes": _memory("MemAvailable", told.get("meminfo", "")),
        "os": f"Android {told['release']} (API {told['sdk']})" if told.get("release") and told.get("sdk") else None,
        "kernel": told.get("kernel"),
        "power": _power(told.get("battery", "")),
    }
    return {name: value for name, value in facts.items() if value}


def _joined(maker: str, name: str) -> str:
    return name if name.lower().startswith(maker.lower()) else f"{maker} {name}".strip()


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else None


def _mhz(kilohertz: str) -> float | None:
    return int(kilohertz) / 1000 if kilohertz.isdigit() else None


def _clocks(text: str) -> str | None:
    """'cores 0 1 2 3: 600 of 1800 MHz, schedutil; cores 4 5: ...'; one group says no more than the first core."""
    groups = [line.split("/", 3) for line in text.splitlines()]
    told = [
        f"cores {cores}: {int(now) / 1000:.0f} of {int(most) / 1000:.0f} MHz, {governor}"
        for now, most, governor, cores in (group for group in groups if len(group) == 4)
        if now.isdigit() and most.isdigit()
    ]
    return "; ".join(told) if len(told) > 1 else None


def _hottest(text: str) -> float | None:
    degrees = [int(line) / 1000 for line in text.split() if re.fullmatch(r"-?\d+", line)]
    # A zone without a sensor behind it reads 0, or -273 degrees; some count in degrees or tenths and are left out.
    return max((value for value in degrees if 5 < value < 150), default=None)


def _memory(name: str, text: str) -> int | None:
    kib = _found(rf"^{name}:\s+(\d+) kB", text)
    return int(kib) * 1024 if kib else None


def _power(battery: str) -> str | None:
    """What feeds it."""
    if "Battery Service state" not in battery:
        return None
    plugged = re.findall(r"^\s*(AC|USB|Wireless) powered: true", battery, re.MULTILINE)
    return plugged[0].lower() if plugged else "battery"

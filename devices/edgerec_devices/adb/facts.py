"""Facts about an Android device: one script for its shell, and the parser of its output."""

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
"""ABIs by the kernel's name of the machine, for devices without getprop."""


def read_answer(said: str) -> dict[str, str]:
    """Return the script's output by the name of each command."""
    parts = said.split(f"\n{MARK}")[1:]
    pairs = (part.partition("\n") for part in parts)
    return {name.strip(): text.strip() for name, _, text in pairs}


def abi_of(values: dict[str, str]) -> str:
    """Return Android's name of the ABI; the kernel's name of the machine if it is unknown."""
    machine = values.get("machine", "")
    return values.get("abi") or ABIS.get(machine, machine)


def android_facts(values: dict[str, str]) -> dict[str, Any]:
    """Return facts about a device from the script's output; unknown facts are absent.

    Returns:
        board ('Google Pixel 8'), soc, cpu, abi, architecture, cores, governor, mhz (current) and max_mhz of the first
        core, clocks (of each group of cores), temperature_c (of the hottest zone), memory_bytes,
        memory_available_bytes, os, kernel, and power: 'battery', 'usb', 'ac', 'wireless'.
    """
    facts: dict[str, Any] = {
        "board": _joined(values.get("manufacturer", "").capitalize(), values.get("model", "")),
        "soc": _joined(values.get("soc_manufacturer", ""), values.get("soc_model", "")) or values.get("platform"),
        "cpu": _found(r"^(?:Hardware|model name)\s*: *(.+)$", values.get("cpuinfo", "")),
        "abi": abi_of(values),
        "architecture": values.get("machine"),
        "cores": len(re.findall(r"^processor\s*:", values.get("cpuinfo", ""), re.MULTILINE)),
        "governor": values.get("governor"),
        "mhz": _mhz(values.get("khz", "")),
        "max_mhz": _mhz(values.get("max_khz", "")),
        "clocks": _clocks(values.get("clocks", "")),
        "temperature_c": _hottest(values.get("temperatures", "")),
        "memory_bytes": _memory("MemTotal", values.get("meminfo", "")),
        "memory_available_bytes": _memory("MemAvailable", values.get("meminfo", "")),
        "os": f"Android {values['release']} (API {values['sdk']})"
        if values.get("release") and values.get("sdk")
        else None,
        "kernel": values.get("kernel"),
        "power": _power(values.get("battery", "")),
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
    """Describe each group of cores: 'cores 0 1 2 3: 600 of 1800 MHz, schedutil; cores 4 5: ...'.

    None if there is one group: the facts of the first core say the same.
    """
    groups = [line.split("/", 3) for line in text.splitlines()]
    described = [
        f"cores {cores}: {int(now) / 1000:.0f} of {int(most) / 1000:.0f} MHz, {governor}"
        for now, most, governor, cores in (group for group in groups if len(group) == 4)
        if now.isdigit() and most.isdigit()
    ]
    return "; ".join(described) if len(described) > 1 else None


def _hottest(text: str) -> float | None:
    degrees = [int(line) / 1000 for line in text.split() if re.fullmatch(r"-?\d+", line)]
    # A zone without a sensor reads 0, or -273 degrees; zones in degrees or tenths of them are left out.
    return max((value for value in degrees if 5 < value < 150), default=None)


def _memory(name: str, text: str) -> int | None:
    kib = _found(rf"^{name}:\s+(\d+) kB", text)
    return int(kib) * 1024 if kib else None


def _power(battery: str) -> str | None:
    """Return the power source."""
    if "Battery Service state" not in battery:
        return None
    plugged = re.findall(r"^\s*(AC|USB|Wireless) powered: true", battery, re.MULTILINE)
    return plugged[0].lower() if plugged else "battery"

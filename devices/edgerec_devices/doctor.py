"""Check this machine for what EdgeRec needs, with the command that fixes each problem.

usage: python -m edgerec_devices.doctor      (prints JSON; needs only the standard library, so that it always runs)
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from edgerec.errors import BenchError
from edgerec_devices.facts import Platform, machine_facts, wheel_advice
from edgerec_devices.local import Local

Level = Literal["ok", "warning", "failure"]

PACKAGES = ("numpy", "onnxruntime", "onnx", "torch")

FEATURES = {
    "avx2": ("avx2",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "neon": ("asimd", "neon"),
    "fp16": ("asimdhp", "fphp"),
    "dotprod": ("asimddp",),
}
"""CPU features, and the names in /proc/cpuinfo that stand for each."""

SUPPORT = {
    ("Linux", "x86_64"): "supported and tested",
    ("Linux", "aarch64"): "supported, and tested in an emulator",
    ("Darwin", "arm64"): "expected to work, memory figures absent",
    ("Darwin", "x86_64"): "expected to work, memory figures absent",
    ("Windows", "AMD64"): "expected to work, memory figures absent",
    ("Windows", "ARM64"): "expected to work, memory figures absent",
}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        level: a failure means that this machine cannot run bundles; a warning, that something else does not work.
        advice: how to fix the problem, if there is one.
    """

    name: str
    level: Level
    found: str
    advice: str | None = None


def examine() -> list[Check]:
    """Run all checks; they change nothing and fetch nothing."""
    here, facts = Platform(), machine_facts()
    runtime, memory = _runtime(here)
    return [
        _platform(here),
        runtime,
        *_packages(runtime.level == "ok"),
        *_distributions(),
        Check("cpu", "ok", f"{facts.get('cpu', 'unknown')}, {_features() or 'features unknown'}"),
        Check("cores", "ok", f"{facts.get('usable_cores', facts.get('cores', 'unknown'))} usable"),
        Check("memory", "ok", _gibibytes(facts.get("memory_bytes"))),
        _governor(facts.get("governor")),
        memory,
        _telemetry(),
        *_extras(),
    ]


def _platform(here: Platform) -> Check:
    known = None if here.bits == 32 else SUPPORT.get((here.system, here.machine))
    found = f"{here.system} {here.machine}, {here.bits}-bit Python {platform.python_version()}"
    if known is None:
        return Check("platform", "warning", f"{found}: not supported", "see docs/reference/platforms.md for what is")
    return Check("platform", "ok", f"{found}: {known}")


def _runtime(here: Platform) -> tuple[Check, Check]:
    """Open a session of one node in a fresh process: a wheel that crashes does not end this one."""
    try:
        memory = Local(timeout=60).run({"task": "bare", "threads": 1})["memory"]
    except BenchError as error:
        unknown = Check("memory figures", "warning", "unknown: the runtime does not work")
        return Check("runtime", "failure", str(error), _runtime_advice(here, str(error))), unknown
    works = Check("runtime", "ok", "onnxruntime opens a session and answers")
    if "VmHWM" in memory:
        return works, Check("memory figures", "ok", f"read from /proc; a bare session takes {memory['VmHWM']} KiB")
    return works, Check("memory figures", "warning", "no /proc: bench leaves them out", "measure memory on Linux")


def _runtime_advice(here: Platform, error: str) -> str:
    installed = _version("onnxruntime")
    if installed is None:
        return wheel_advice(here) or "pip install edgerec"
    if "SIGILL" in error and installed.startswith("1.21."):
        # https://github.com/microsoft/onnxruntime/issues/23957
        return "onnxruntime 1.21.0 crashes on a Raspberry Pi 4: pip install -U 'onnxruntime>=1.22'"
    if "SIGILL" in error:
        return "this onnxruntime uses instructions that the CPU does not have: install another version of it"
    return "pip install --force-reinstall edgerec"


def _packages(runtime_works: bool) -> Iterator[Check]:
    for name in PACKAGES:
        version, needed = _version(name), _needed(name)
        if version is None:
            # A package of the operating system may work without metadata.
            if name in ("numpy", "onnxruntime"):
                yield Check(name, "ok", "version unknown") if runtime_works else Check(name, "failure", "not installed")
        elif _numbers(version) < _numbers(needed):
            yield Check(name, "warning", f"{version}, {needed} or newer is needed", f"pip install -U {name}")
        else:
            yield Check(name, "ok", version)


def _distributions() -> Iterator[Check]:
    """Warn of two distributions with the same files: pip does not notice, and removing one breaks the other."""
    both, runtime = _version("edgerec"), _version("edgerec-runtime")
    if both is not None and runtime is not None:
        yield Check(
            "distributions",
            "warning",
            f"edgerec {both} and edgerec-runtime {runtime} are both installed, and share files",
            "pip uninstall edgerec-runtime; pip install --force-reinstall --no-deps edgerec",
        )


def _extras() -> Iterator[Check]:
    """Check the optional extras that the installed package declares."""
    for extra, packages in _requirements().items():
        if extra in ("", "all", "dev"):
            continue
        missing = [name for name in packages if name != "edgerec" and _version(name) is None]
        if missing:
            advice = f"pip install 'edgerec[{extra}]'"
            yield Check(f"extra {extra}", "warning", f"missing {', '.join(missing)}", advice)
        else:
            yield Check(f"extra {extra}", "ok", "complete")


def _requirements() -> dict[str, dict[str, str]]:
    """Return for each extra ('' for the base) its packages and their minimum versions ('' for any)."""
    found: dict[str, dict[str, str]] = {}
    try:
        declared = metadata.requires("edgerec") or []
    except metadata.PackageNotFoundError:  # the folders were copied, not installed
        return found
    for line in declared:
        package = re.match(r"[\w.-]+", line)
        extra, oldest = re.search(r"extra == ['\"](.+?)['\"]", line), re.search(r">=([\d.]+)", line)
        if package:
            found.setdefault(extra[1] if extra else "", {})[package[0]] = oldest[1] if oldest else ""
    return found


def _needed(package: str) -> str:
    return next((packages[package] for packages in _requirements().values() if package in packages), "")


def _governor(governor: str | None) -> Check:
    if governor in (None, "performance"):
        return Check("cpu governor", "ok", governor or "not shown here")
    advice = "sudo cpupower frequency-set -g performance"
    return Check("cpu governor", "warning", f"{governor}: latencies will vary with the clock", advice)


def _telemetry() -> Check:
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
        return Check("telemetry", "ok", "onnxruntime's is off")
    found = "EdgeRec turns onnxruntime's off for itself; other programs have it on"
    return Check("telemetry", "ok", found, "export ORT_DISABLE_TELEMETRY=1")


def _features() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    words = set(flags[1].split()) if flags else set()
    return ", ".join(name for name, names in FEATURES.items() if words.intersection(names))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _gibibytes(count: Any) -> str:
    return f"{count / 2**30:.1f} GiB" if isinstance(count, int) else "unknown"


def exit_status(checks: list[Check]) -> int:
    """Return 2 if the runtime does not work on this machine, else 0."""
    return 2 if any(check.level == "failure" for check in checks) else 0


if __name__ == "__main__":
    examined = examine()
    sys.stdout.write(json.dumps([asdict(check) for check in examined], indent=1) + "\n")
    sys.exit(exit_status(examined))

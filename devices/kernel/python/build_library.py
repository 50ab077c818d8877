"""Compile the kernel to a shared library; hatchling calls it when a wheel is built.

usage: python build_library.py OUT
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program
    BuildHookInterface = object

KERNEL = Path(__file__).resolve().parents[1]
SUFFIX = {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so")
NAME = f"libedgerec_kernel{SUFFIX}"
CPU = ("-mcpu=baseline",)
"""The oldest of its kind: AVX2 and the dot product are chosen when a bundle is opened."""
OPTIONS = ("-std=c99", "-O3", "-DER_SIGNATURES=0", "-fPIC", "-shared", "-g0", "-s")
SYSTEMS = {"Linux": ("linux-gnu.2.28", "manylinux_2_28"), "Darwin": ("macos.11.0", "macosx_11_0")}
"""The oldest of each kind of system that the library runs on: as zig calls it, and as wheels do."""
MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}
"""Names of platforms that zig does not know."""


def target() -> tuple[list[str], str]:
    """Return zig's option for this machine's kind of system, and the platform that a wheel is for."""
    system, machine = platform.system(), platform.machine()
    if system not in SYSTEMS:
        return [], sysconfig.get_platform().replace("-", "_").replace(".", "_")
    zig, wheel = SYSTEMS[system]
    return ["-target", f"{MACHINES.get(machine, machine)}-{zig}"], f"{wheel}_{machine}"


def build(out: Path) -> None:
    """Compile the kernel for this machine's kind of CPU."""
    sources = sorted(str(path.relative_to(KERNEL)) for path in (KERNEL / "src").glob("*.c"))
    zig = [sys.executable, "-m", "ziglang", "cc", *target()[0], *CPU, *OPTIONS]
    subprocess.run([*zig, *sources, "-o", str(out)], check=True, cwd=KERNEL)


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """The hook that puts the library into the wheel, and names the wheel after the platform."""

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiled library."""
        self._scratch.cleanup()

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library outside of the checkout."""
        self._scratch = tempfile.TemporaryDirectory(prefix="edgerec-kernel-")
        out = Path(self._scratch.name, NAME)
        build(out)
        build_data["force_include"][str(out)] = f"edgerec_kernel/{NAME}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target()[1]}"


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())

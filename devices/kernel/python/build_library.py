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


def build(out: Path) -> None:
    """Compile the kernel for this machine's kind of CPU."""
    sources = sorted(str(path.relative_to(KERNEL)) for path in (KERNEL / "src").glob("*.c"))
    zig = [sys.executable, "-m", "ziglang", "cc", *CPU, *OPTIONS]
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
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())

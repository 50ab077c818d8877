"""The native runner: C sources of this package, built by any C compiler, that measure where there is no Python."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgerec.errors import BenchError

SOURCES = Path(__file__).parent / "runner"
NAME = "edgerec-runner"
LIBRARY = "libonnxruntime.so"
FLAGS = (
    *("-std=c11", "-O2", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"),
)


def build(compiler: Sequence[str], headers: Path, out: Path, *flags: str) -> Path:
    """Compile the runner.

    Args:
        compiler: its command: ['cc'], or one of Android's NDK.
        headers: the folder with onnxruntime_c_api.h, 1.18 or newer. It is no part of EdgeRec: Android's archive of
            onnxruntime brings it.
        out: the program.
        flags: more of them.

    Returns:
        `out`.

    Raises:
        BenchError: no such compiler, or it failed.
    """
    sources = sorted(map(str, SOURCES.glob("*.c")))
    command = [*compiler, *FLAGS, *flags, "-isystem", str(headers), *sources, "-ldl", "-o", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"there is no {compiler[0]} to build the runner with") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else f"status {done.returncode}")
        raise BenchError(f"{compiler[0]} cannot build the runner: {reason}")
    return out

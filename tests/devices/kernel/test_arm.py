"""The kernel on ARM, by user-mode emulation: 64 bits with and without the dot product, and 32 bits."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import HERE, SKIPPING, STRICT, answers_all, sources

TARGETS = {"aarch64-linux-musl": "qemu-aarch64-static", "arm-linux-musleabihf": "qemu-arm-static"}
CPUS = {"aarch64-linux-musl": ("cortex-a53", "max"), "arm-linux-musleabihf": ("max",)}
"""A Cortex-A53 has no dot product, which is seen when a bundle is opened."""


def build(target: str, program: str, out: Path, *options: str) -> None:
    """Compile a program of this folder with the kernel for ARM."""
    if shutil.which(TARGETS[target]) is None:
        lacking(TARGETS[target], "apt-get install qemu-user-static")
    if importlib.util.find_spec("ziglang") is None:
        lacking("ziglang", "pip install ziglang")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, *STRICT, *options, "-D_DEFAULT_SOURCE", "-static"]
    subprocess.run([*zig, *sources(), str(HERE / program), "-lm", "-o", str(out)], check=True, timeout=600)


@pytest.mark.parametrize("target", TARGETS)
def test_answers(target: str, second_version: Path, tmp_path: Path) -> None:
    build(target, "check.c", tmp_path / "check", *SKIPPING)
    for cpu in CPUS[target]:
        emulated = (TARGETS[target], "-cpu", cpu, tmp_path / "check")
        answers_all(lambda *files, emulated=emulated: [*emulated, *files], second_version, tmp_path)


def test_the_dot_product_equals_the_plain_loops(tmp_path: Path) -> None:
    target = "aarch64-linux-musl"
    build(target, "wide.c", tmp_path / "wide", "-O3", "-Wno-unused-function")
    done = {
        cpu: subprocess.run(
            [TARGETS[target], "-cpu", cpu, tmp_path / "wide"], capture_output=True, text=True, timeout=60
        )
        for cpu in CPUS[target]
    }
    assert (done["max"].returncode, done["max"].stdout) == (0, "480 comparisons\n")
    assert done["cortex-a53"].stdout == "no wide instructions\n"

"""The kernel on ARM, by user-mode emulation: 64 bits with and without the dot product, and 32 bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import HERE, SKIPPING, STRICT, answers_all, sources

EMULATORS = {"aarch64-linux-gnu": "qemu-aarch64-static", "arm-linux-gnueabihf": "qemu-arm-static"}
C_OF = {"aarch64-linux-gnu": "arm64-cross", "arm-linux-gnueabihf": "armhf-cross"}
CPUS = {"aarch64-linux-gnu": ("cortex-a53", "max"), "arm-linux-gnueabihf": ("max",)}
"""A Cortex-A53 has no dot product, which is seen when a bundle is opened."""


def build(target: str, program: str, out: Path, *options: str) -> None:
    """Compile a program of this folder with the kernel for ARM.

    By Debian's compilers: ziglang would compile a whole C library first, 100 s of the processor for each target.
    """
    compiler = f"{target}-gcc"
    packages = {EMULATORS[target]: "qemu-user-static", compiler: f"gcc-{target} libc6-dev-{C_OF[target]}"}
    for tool, package in packages.items():
        if shutil.which(tool) is None:
            lacking(tool, f"apt-get install {package}")
    command = [compiler, *STRICT, *options, "-D_DEFAULT_SOURCE", "-static", *sources(), str(HERE / program)]
    subprocess.run([*command, "-lm", "-o", str(out)], check=True, timeout=600)


@pytest.mark.parametrize("target", EMULATORS)
def test_answers(target: str, second_version: Path, tmp_path: Path) -> None:
    build(target, "check.c", tmp_path / "check", *SKIPPING)
    for cpu in CPUS[target]:
        emulated = (EMULATORS[target], "-cpu", cpu, tmp_path / "check")
        answers_all(lambda *files, emulated=emulated: [*emulated, *files], second_version, tmp_path)


def test_the_dot_product_equals_the_plain_loops(tmp_path: Path) -> None:
    target = "aarch64-linux-gnu"
    build(target, "wide.c", tmp_path / "wide", "-O3", "-Wno-unused-function")
    done = {
        cpu: subprocess.run(
            [EMULATORS[target], "-cpu", cpu, tmp_path / "wide"], capture_output=True, text=True, timeout=60
        )
        for cpu in CPUS[target]
    }
    assert (done["max"].returncode, done["max"].stdout) == (0, "480 comparisons\n")
    assert done["cortex-a53"].stdout == "no wide instructions\n"

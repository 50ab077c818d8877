"""The kernel on ARM, by user-mode emulation: 64 bits with NEON, and 32 bits."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import HERE, STRICT, is_refused, sources
from tests.vectors.cases import cases
from tests.vectors.check import FOLDER

TARGETS = {"aarch64-linux-musl": "qemu-aarch64-static", "arm-linux-musleabihf": "qemu-arm-static"}
OPTIONS = ("-O3", "-DER_LARGE=1", "-DER_TILE=16", "-D_DEFAULT_SOURCE", "-static")
TAKEN = [case.name for case in cases() if not is_refused(case.version, case.options.precision)]


@pytest.mark.parametrize("target", TARGETS)
def test_answers(target: str, second_version: Path, tmp_path: Path) -> None:
    emulator, program = TARGETS[target], tmp_path / "check"
    if shutil.which(emulator) is None:
        lacking(emulator, "apt-get install qemu-user-static")
    if importlib.util.find_spec("ziglang") is None:
        lacking("ziglang", "pip install ziglang")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, *STRICT, *OPTIONS]
    subprocess.run([*zig, *sources(), str(HERE / "check.c"), "-lm", "-o", str(program)], check=True, timeout=600)
    later = sorted(path.name for path in (second_version / "bundles").iterdir())
    for folder, names in ((FOLDER, TAKEN), (second_version, later)):
        for name in names:
            command = [emulator, program, folder, folder / "bundles" / name, folder / "requests" / f"{name}.json"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout
            assert done.stdout.endswith(" 0 failures\n")

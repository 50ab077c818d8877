"""Every vector on an emulated Cortex-M4, whose files and memory are the host's: newlib with semihosting."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import HERE, STRICT, answers_all, sources

COMPILER, EMULATOR = "arm-none-eabi-gcc", "qemu-system-arm"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


def test_answers(second_version: Path, tmp_path: Path) -> None:
    for program, packages in ((COMPILER, "gcc-arm-none-eabi libnewlib-arm-none-eabi"), (EMULATOR, "qemu-system-arm")):
        if shutil.which(program) is None:
            lacking(program, f"apt-get install {packages}")
    image = tmp_path / "check.elf"
    programs = [*sources(), str(HERE / "check.c"), str(HERE / "semihosted.c")]
    linking = ["--specs=rdimon.specs", "-T", str(HERE / "semihosted.ld"), "-Wl,--gc-sections", "-ffunction-sections"]
    options = [*STRICT, "-D_DEFAULT_SOURCE", *CPU, "-Os", *linking]
    subprocess.run([COMPILER, *options, *programs, "-lm", "-o", str(image)], check=True, timeout=300)

    def emulated(folder: Path, files: Path) -> list[str | Path]:
        said = f"enable=on,target=native,arg=check,arg={folder},arg={files}"
        return [EMULATOR, "-M", "mps2-an386", "-nographic", "-semihosting-config", said, "-kernel", image]

    answers_all(emulated, second_version, tmp_path)

"""An emulated Cortex-M4 as a device: the kernel in firmware, with the bundle in flash, counted in instructions."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError, DoesNotFitError
from edgerec.runtime.stored import pack
from edgerec_devices.local import Local
from edgerec_devices.process import took_too_long
from edgerec_devices.protocol import Kind, Missing, Options, Request

FIRMWARE = Path(__file__).parents[1] / "kernel" / "firmware"
EMULATOR = "qemu-system-arm"
BOARD = ("-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0")
FLASH, RAM = 4 << 20, 256 << 10
CODE = 64 << 10
"""Bytes of flash that are left for code."""
ARENA, WORK = 96 << 10, 112 << 10
"""Bytes of RAM for an open bundle, and for a request; the rest is stack and answers."""
OUT_OF_MEMORY = "the memory that was given is too small"


class CortexM(Local):
    """An Arm MPS2 board with a Cortex-M4F, as QEMU emulates it. Each request is firmware of its own, built here.

    Attributes:
        name: 'cortex-m'.
        timeout: maximum seconds of one request.
        memory: bytes of its RAM.
    """

    name = "cortex-m"
    memory = RAM

    def info(self) -> dict[str, Any]:
        """Return the facts of the board, and that its clock counts instructions."""
        said = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        number = re.search(r"version (\S+)", said)
        return {
            "board": f"MPS2 AN386 (QEMU {number[1] if number else ''}, emulated)",
            "cpu": "Cortex-M4F (emulated)",
            "architecture": "armv7e-m",
            "cores": 1,
            "memory_bytes": RAM,
            "clock": "instructions",
            "provider": "kernel",
        }

    def run(self, request: Request) -> dict[str, Any]:
        """Measure the requested number of random recommendations; a nanosecond stands for an instruction.

        Of the scenarios it knows 'recommend'. The memory is that of the model, a request, its answer and the stack.

        Raises:
            DoesNotFitError: the bundle does not fit into flash or RAM.
            BenchError: the firmware cannot be built, took too long, or refuses the bundle.
        """
        if request.get("task") == "bare":
            return {"memory": {"VmHWM": 0}}
        if request.get("task") != "bundle":
            raise BenchError(f"cortex-m measures bundles only, no task {request.get('task')!r}")
        with tempfile.TemporaryDirectory(prefix="edgerec-cortex-m-") as folder:
            output = self._run(self._built(request, Path(folder)))
        return _answer(output)

    def _built(self, request: Request, folder: Path) -> Path:
        """Build the firmware of a request."""
        size = pack(Path(request["bundle"]), folder / "bundle.edgerec")
        if size > FLASH - CODE:
            raise DoesNotFitError(f"the bundle has {size:,} bytes, and cortex-m {FLASH - CODE:,} of flash for it")
        defined = {
            "CALLS": int(request["calls"]),
            "SEED": int(request["seed"]),
            "LENGTH": int(request["history"]),
            "EXCLUDE": int(request["exclude"]),
            "K": int(request["k"]),
            "ASK": "".join(f"{int(row)}," for row in request.get("ask", ())),
            "ARENA_BYTES": ARENA,
            "WORK_BYTES": WORK,
        }
        image = folder / "firmware.elf"
        options = [f"-D{name}={value}" for name, value in defined.items()]
        done = subprocess.run(
            ["sh", str(FIRMWARE / "build.sh"), str(folder / "bundle.edgerec"), str(image), *options],
            capture_output=True,
            text=True,
            timeout=self.timeout,
            env={**os.environ, "PYTHON": sys.executable},
            check=False,
        )
        if done.returncode:
            raise BenchError(f"the firmware cannot be built: {(done.stderr.strip().splitlines() or [''])[-1]}")
        return image

    def _run(self, image: Path) -> str:
        """Return what the firmware printed."""
        command = [EMULATOR, *BOARD, "-kernel", str(image)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=self.timeout,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise took_too_long(self.timeout) from None
        output = str(done.stdout + done.stderr)
        if done.returncode:
            last = (output.strip().splitlines() or [f"status {done.returncode}"])[-1]
            refused = DoesNotFitError if OUT_OF_MEMORY in last else BenchError
            raise refused(f"cortex-m: {last}")
        return output


def _answer(output: str) -> dict[str, Any]:
    """Return the agent's answer from what the firmware printed."""

    def numbers(what: str) -> list[int]:
        return [int(number) for number in re.findall(rf"^(\d+) {what}$", output, re.M)]

    (opened,), times = numbers("instructions to open"), numbers("instructions to recommend")
    (arena,), (work,), (stack,) = (numbers(f"bytes of {name}") for name in ("arena", "work", "stack"))
    rows = [[int(row) for row in line.split()] for line in re.findall(r"^([\d ]+) are best$", output, re.M)]
    return {
        "load_ms": opened / 1e6,
        "memory": {"VmHWM": -(-(arena + work + stack) // 1024)},
        "scenarios": {"recommend": {"first_ns": times[0], "times_ns": times[1:] or times}},
        "rows": rows,
    }


def _open(_: str, options: Options) -> AbstractContextManager[CortexM]:
    if options.offline:
        raise BenchError("cortex-m fetches nothing; leave --offline out")
    if options.memory is not None:
        raise BenchError(f"cortex-m has {RAM:,} bytes of RAM; leave --memory out")
    for part in missing():
        raise BenchError(f"the device cortex-m needs {part.what}: {part.fix}")
    return nullcontext(CortexM())


def missing() -> list[Missing]:
    """List what the firmware is built with, and the emulator."""
    parts = []
    if not (FIRMWARE / "build.sh").exists():
        parts.append(Missing("a checkout of EdgeRec, with the firmware's source", "pip install -e CHECKOUT"))
    if importlib.util.find_spec("ziglang") is None:
        parts.append(Missing("the compiler of ziglang", "pip install ziglang"))
    if shutil.which(EMULATOR) is None:
        parts.append(Missing("QEMU for ARM", "sudo apt-get install qemu-system-arm"))
    return parts


ABOUT = "an emulated Cortex-M4 with the kernel, built and started here: instructions instead of seconds"
KIND = Kind("cortex-m", "cortex-m", ABOUT, _open, missing)

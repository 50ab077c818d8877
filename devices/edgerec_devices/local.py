"""This machine as a device: files are not copied, and each request runs in a Python process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from edgerec.errors import BenchError
from edgerec.files import storage_failure
from edgerec_devices.facts import machine_facts
from edgerec_devices.process import answer_of, took_too_long
from edgerec_devices.protocol import AGENT, Kind, Options, Request


class Local:
    """The machine that this process runs on.

    Attributes:
        name: 'local'.
        timeout: maximum seconds of one request.
        program: arguments of Python that start the agent.
    """

    name = "local"
    memory: int | None = None
    program: ClassVar[tuple[str, ...]] = ("-P", "-m", AGENT)

    def __init__(self, *, timeout: float = 600.0) -> None:
        self.timeout = timeout

    def info(self) -> dict[str, Any]:
        """Return `machine_facts`."""
        return machine_facts()

    def push(self, folder: Path) -> str:
        """Return the folder's absolute path; nothing is copied."""
        return str(folder.resolve())

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh Python process with onnxruntime's telemetry off.

        Raises:
            BenchError: the process crashed (the message ends with its last line), ran longer than `timeout`, or its
                answer is no JSON object.
        """
        command = [sys.executable, *self.program]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=self.timeout,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise took_too_long(self.timeout) from None
        except OSError as error:
            raise BenchError(f"cannot start {sys.executable}: {error.strerror}; is Python installed whole?") from error
        return answer_of(done)

    def pull(self, place: str, folder: Path) -> None:
        """Copy the folder `place` to `folder`, unless they are the same. Raises StorageError."""
        if Path(place).resolve() == folder.resolve():
            return
        try:
            shutil.copytree(place, folder, dirs_exist_ok=True)
        except OSError as error:
            storage_failure(folder, error, "write")


def refuse_options(name: str, options: Options) -> None:
    """Raise BenchError for options of devices that are set up or started here: this machine is neither."""
    if options.offline:
        raise BenchError(f"--offline is for devices that are set up from here; leave it out with the device {name!r}")
    if options.memory is not None:
        raise BenchError(f"--memory is for devices that are started here, such as arm64; leave it out with {name!r}")


def _open(_: str, options: Options) -> AbstractContextManager[Local]:
    refuse_options(Local.name, options)
    return nullcontext(Local())


KIND = Kind("local", "local", "this machine", _open)

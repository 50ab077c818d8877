"""Node.js as a device: the same WebAssembly and the same agent as in a page, without a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from edgerec.errors import BenchError
from edgerec_devices.local import Local
from edgerec_devices.process import answer_of, took_too_long
from edgerec_devices.protocol import Kind, Missing, Options, Request
from edgerec_devices.web import files
from edgerec_devices.web.agent import KERNEL, answer_in, facts_here, refuse_others, runtime_facts

OLDEST = 18
MISSING = Missing(f"Node.js {OLDEST} or newer", "sudo apt-get install nodejs npm")


class Node(Local):
    """Node.js on this machine, with onnxruntime-web or the kernel; files are not copied.

    Attributes:
        name: 'node', or 'wasm' with the kernel.
        timeout: maximum seconds of one request.
    """

    def __init__(self, *, heap: int | None = None, timeout: float = 600.0, kernel: bool = False) -> None:
        """
        Args:
            heap: maximum bytes of WebAssembly's memory; None for Node's own limit.
            kernel: measure the kernel instead of onnxruntime-web.

        Raises:
            BenchError: no Node, a version that is too old, or onnxruntime-web is not set up.
        """
        super().__init__(timeout=timeout)
        self.name = "wasm" if kernel else "node"
        self._provider = KERNEL if kernel else "wasm"
        self._command = [_program(), str(files.DIST / "node.mjs"), str(files.DIST if kernel else files.installed())]
        self.memory = heap

    def info(self) -> dict[str, Any]:
        """Return the facts about this machine, Node and onnxruntime-web."""
        return {**facts_here(), **self.run({"task": "facts"}), **runtime_facts("node", self._provider, self.memory)}

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of Node.

        Raises:
            DoesNotFitError: the bundle needs more memory than WebAssembly can have.
            BenchError: the process crashed, ran longer than `timeout`, or cannot do the request.
        """
        refuse_others(request, "Node")
        message = {**request, "provider": self._provider, "heap": self.memory}
        try:
            done = subprocess.run(
                self._command,
                input=json.dumps(message),
                capture_output=True,
                text=True,
                timeout=self.timeout,
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise took_too_long(self.timeout) from None
        except OSError as error:
            raise BenchError(f"cannot start {self._command[0]}: {error.strerror}; install it: {MISSING.fix}") from error
        return answer_in(answer_of(done), self.name)


def _program() -> str:
    """Return Node's path. Raises BenchError if there is none, or if it is too old."""
    found = shutil.which("node")
    if found is None:
        raise BenchError(f"there is no Node.js on this machine; install it: {MISSING.fix}")
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    version = re.match(r"v(\d+)\.", said)
    if version is None or int(version[1]) < OLDEST:
        raise BenchError(f"{found} is {said.strip() or 'no Node.js'}, and EdgeRec needs {MISSING.what}")
    return found


def _open(_: str, options: Options) -> AbstractContextManager[Node]:
    if options.offline:
        raise BenchError("Node fetches nothing; leave --offline out")
    return nullcontext(Node(heap=options.memory))


def missing_program() -> list[Missing]:
    """List Node if it is missing."""
    return [] if shutil.which("node") else [MISSING]


def missing() -> list[Missing]:
    """List Node and onnxruntime-web if they are missing."""
    return [*missing_program(), *files.missing()]


KIND = Kind(
    "node",
    "node",
    "Node.js on this machine, with onnxruntime-web",
    _open,
    missing,
    files.set_up,
    place=files.runtime_folder,
)

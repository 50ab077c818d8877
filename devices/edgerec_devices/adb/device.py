"""An Android device behind adb. No app is installed; a native runner and onnxruntime's library are sent.

Files are named by their sha256 and stored in `/data/local/tmp/edgerec`, so that the next run does not send them again.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

import numpy as np

from edgerec.errors import BenchError
from edgerec.files import storage_failure
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import RawId
from edgerec_devices.adb.bridge import Bridge, Store, connected
from edgerec_devices.adb.facts import SCRIPT, abi_of, android_facts, read_answer
from edgerec_devices.adb.parts import LIBRARY, NAME, RUNNER, MissingPartError, missing, runtime_files, set_up
from edgerec_devices.process import answer_of, took_too_long
from edgerec_devices.protocol import Kind, Options, Request, Tell, silent

TASKS = ("bundle", "bare")
SLACK_S = 60.0
"""Seconds after a request's own limit, which the runner enforces, until the connection is closed."""
ALARMED = 128 + 14
"""The exit status of a runner that reached its time limit."""


class Adb:
    """An Android device behind adb, as a context manager.

    Example:
        >>> with Adb() as device:
        ...     bench("films.bundle", device=device)

    Attributes:
        name: 'adb', or 'adb:SERIAL'.
        timeout: maximum seconds of one request.
    """

    memory: int | None = None

    def __init__(self, serial: str | None = None, *, timeout: float = 600.0, tell: Tell | None = None) -> None:
        """
        Args:
            serial: serial number in the list of `adb devices`; None for the only device.
        """
        self._bridge = Bridge(serial)
        self.name, self.timeout = self._bridge.name, timeout
        self._tell = tell or silent
        self._pushed: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no connection stays open."""

    def info(self) -> dict[str, Any]:
        """Return `android_facts`, and onnxruntime, clock_ns and usable_cores from the runner if it is set up."""
        values = read_answer(self._connected.shell(SCRIPT))
        facts = {**android_facts(values), "provider": "CPUExecutionProvider", "ort_telemetry": "off", "runtime": "c"}
        with suppress(MissingPartError):
            facts |= answer_of(self._request({"task": "info"}))
        return facts

    def push(self, folder: Path) -> str:
        """Send the files of a bundle that are not on the device yet, and return its folder there.

        Raises:
            BenchError: no connection, no space on the device, or a file arrived damaged.
            StorageError: a local file cannot be read.
        """
        place = Store(self._connected, self._tell).send(
            "bundles", [path for path in folder.iterdir() if path.is_file()]
        )
        self._pushed[place] = folder
        return place

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of the runner.

        Raises:
            BenchError: the runner does not know the task, no connection, or the process failed.
        """
        if request.get("task") not in TASKS:
            raise BenchError(f"an Android device does the tasks {' and '.join(TASKS)}, not {request.get('task')!r}")
        users = request.get("ask", ())
        if not users:
            return answer_of(self._request(request))
        # The runner knows only rows: raw ids are looked up in the local copy of the bundle.
        bundle = self._local(request["bundle"])
        answer = answer_of(self._request({**request, "ask": _user_rows(bundle, users)}))
        item_ids = bundle.ids("item", bundle.manifest.items)
        return {**answer, "answers": [item_ids.raw(np.array(rows, np.int64)) for rows in answer["rows"]]}

    def pull(self, place: str, folder: Path) -> None:
        """Fetch the files of the folder `place`. Raises BenchError, StorageError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            storage_failure(folder, error, "write")
        complaint = shlex.quote(f"there is no folder {place} on the device")
        self._connected.shell(f"[ -d {shlex.quote(place)} ] || {{ echo {complaint} >&2; exit 1; }}")
        self._bridge.pull(place, folder)

    def _request(self, request: Request) -> CompletedProcess[str]:
        limit = math.ceil(self.timeout)
        script = f"cd {self._runtime} && exec ./{RUNNER} ./{LIBRARY} {limit}"
        done = self._bridge.run_script(script, json.dumps(request), self.timeout + SLACK_S)
        if done.returncode == ALARMED:
            raise took_too_long(self.timeout)
        return done

    def _local(self, place: str) -> Bundle:
        if place not in self._pushed:
            raise BenchError(f"{place} was not pushed from here; push the bundle first")
        return Bundle(self._pushed[place], verify=False)

    @cached_property
    def _connected(self) -> Bridge:
        self._tell(f"connecting to {self.name}")
        self._bridge.connect()
        return self._bridge

    @cached_property
    def _runtime(self) -> str:
        """Send the runner and onnxruntime's library if they are missing, and return their folder."""
        found = runtime_files(abi_of(read_answer(self._connected.shell(SCRIPT))))
        place = Store(self._connected, self._tell).send("runtimes", list(found))
        self._bridge.shell(f"chmod 755 {place}/{found.runner.name}")  # files from Windows are not executable
        return place


def _user_rows(bundle: Bundle, users: Sequence[RawId]) -> list[int]:
    """Return the rows of raw ids of users. Raises BenchError if the bundle has no such user."""
    entry = bundle.manifest.users
    if entry is None:
        raise BenchError("the bundle has no users to ask for; leave `ask` empty")
    rows: list[int] = bundle.ids("user", entry).rows(users).tolist()
    if -1 in rows:
        raise BenchError(f"user {users[rows.index(-1)]!r} is not in the bundle")
    return rows


def _open(address: str, options: Options) -> Adb:
    if options.memory is not None:
        raise BenchError("--memory is for devices that are started here, such as arm64; leave it out")
    if options.offline:
        raise BenchError(
            "--offline is for devices that fetch something; an Android device fetches nothing: leave it out"
        )
    _, _, serial = address.partition(":")
    return Adb(serial or None, tell=options.tell)


ABOUT = "an Android device behind adb: no app is installed"
KIND = Kind(NAME, "adb[:serial]", ABOUT, _open, missing, set_up, connected)

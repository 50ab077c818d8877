"""A Linux machine behind sshd, such as a Raspberry Pi: needs nothing but python3 there.

What is sent is named by its sha256 and kept in the device's cache folder, so that the next run sends nothing:
`agents/` (one zip), `bundles/`, and `environments/` with numpy and onnxruntime at this machine's versions.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any, Self

from edgerec.errors import BenchError
from edgerec.files import sha256, storage_failure
from edgerec.runtime.manifest import FILE_NAME
from edgerec_devices.connection import Address, Connection
from edgerec_devices.environment import Target, download, pip_failure, pins
from edgerec_devices.outcome import answer_of, took_too_long
from edgerec_devices.package import agent_zip
from edgerec_devices.protocol import AGENT, Request

FACTS = "edgerec_devices.facts"
SETUP_S = 3600.0
"""Seconds for an environment: a Pi Zero unpacks onnxruntime for minutes, on a slow link it downloads for longer."""
SLACK_S = 60.0
"""Seconds beyond a request's own limit, which the device keeps, until the link itself is given up."""

Tell = Callable[[str], None]
"""Called with what takes long now: 'sending 3 files'."""


class Ssh:
    """A device of an address. Used as a context: the connection is closed behind it.

    Example:
        >>> with Ssh("ssh://pi@raspberrypi.local") as device:
        ...     bench("films.bundle", device=device)

    Attributes:
        name: the address.
        timeout: seconds that one request may take.
    """

    def __init__(
        self, address: str, *, offline: bool = False, timeout: float = 600.0, tell: Tell | None = None
    ) -> None:
        """
        Args:
            offline: the device fetches nothing: wheels are downloaded here and sent.

        Raises:
            BenchError: no such address. Nothing is connected yet.
        """
        parsed = Address.parse(address)
        self.name, self.timeout = str(parsed), timeout
        self._offline, self._tell = offline, tell or (lambda _: None)
        self._connection = Connection(parsed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def info(self) -> dict[str, Any]:
        """See `machine_facts`, read there."""
        return answer_of(self._python(["-m", FACTS], ""))

    def push(self, folder: Path) -> str:
        """Send the files of a bundle that are not there yet; its folder there.

        Raises:
            BenchError: no connection, no space there, or a damaged arrival.
            StorageError: a file cannot be read here.
        """
        paths = [path for path in folder.rglob("*") if path.is_file()]
        # Without a manifest a folder is no bundle: it comes last.
        paths.sort(key=lambda path: (path.name == FILE_NAME, path))
        content = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
        key = hashlib.sha256(json.dumps(sorted(content.items())).encode()).hexdigest()[:32]
        self._send([(f"bundles/{key}/{name}", path) for name, path in zip(content, paths, strict=True)])
        return f"{self._root}/bundles/{key}"

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of the device.

        Raises:
            BenchError: no connection, no environment, or the process failed there; see `Local.run`.
        """
        return answer_of(self._python(["-m", AGENT], json.dumps(request)))

    def pull(self, place: str, folder: Path) -> None:
        """Fetch the files of the folder `place`. Raises BenchError, StorageError."""
        self._connection.fetch(place, folder)

    def _python(self, arguments: Sequence[str], text: str) -> CompletedProcess[str]:
        done = self._connection.ask(
            "run",
            python=self._environment,
            agent=self._agent,
            arguments=list(arguments),
            input=text,
            timeout=self.timeout,
            seconds=self.timeout + SLACK_S,
        )
        if done["status"] is None:
            raise took_too_long(self.timeout)
        return CompletedProcess(list(arguments), done["status"], done["out"], done["err"])

    @cached_property
    def _described(self) -> dict[str, Any]:
        self._tell(f"connecting to {self.name}")
        told: dict[str, Any] = self._connection.ask("describe", seconds=SLACK_S)
        return told

    @property
    def _root(self) -> PurePosixPath:
        return PurePosixPath(self._described["root"])

    @cached_property
    def _agent(self) -> str:
        """The agent's place below the cache folder."""
        name, content = agent_zip()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._send([(f"agents/{name}", path)])
        return f"agents/{name}"

    @cached_property
    def _environment(self) -> str:
        """The environment's Python there, made if it is missing."""
        target = Target.from_json(self._described)
        fields: dict[str, Any] = {"key": target.key, "pins": pins(), "timeout": SETUP_S}
        if not self._offline:
            self._tell(f"looking for {' and '.join(pins())} there, or installing them")
            return self._made(target, {**fields, "wheels": None})
        with tempfile.TemporaryDirectory() as folder:
            self._tell(f"downloading wheels for {target}")
            wheels = {f"wheels/{sha256(path)[:32]}/{path.name}": path for path in download(target, Path(folder))}
            self._send(list(wheels.items()))
            return self._made(target, {**fields, "wheels": list(wheels)})

    def _made(self, target: Target, fields: dict[str, Any]) -> str:
        answer = self._connection.ask("environment", seconds=SETUP_S + SLACK_S, **fields)
        if "pip" in answer:
            raise pip_failure(answer["pip"], target, "the device")
        return str(answer["python"])

    def _send(self, files: Sequence[tuple[str, Path]]) -> None:
        """Those that are not there, whole, yet."""
        try:
            entries = {place: (path.stat().st_size, sha256(path)) for place, path in files}
        except OSError as error:
            storage_failure(files[0][1].parent, error, "read")
        wanted = self._connection.ask("missing", files=(), entries=None)
        raise BenchError(str((entries, wanted)))

"""A Linux machine behind sshd, such as a Raspberry Pi. The machine needs nothing but python3.

Files are named by their sha256 and stored in the device's cache folder, so that the next run does not send them again:
`agents/` (one zip), `bundles/`, and `environments/` with numpy and onnxruntime at this machine's versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from subprocess import CompletedProcess
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec.runtime.manifest import FILE_NAME
from edgerec_devices.process import answer_of, took_too_long
from edgerec_devices.protocol import AGENT, Kind, Missing, Options, Request, Tell, silent
from edgerec_devices.ssh.connection import Address, Connection
from edgerec_devices.ssh.environment import Target, agent_zip, download, pins, pip_failure

FACTS = "edgerec_devices.facts"
SETUP_S = 3600.0
"""Seconds to create an environment: a Pi Zero unpacks onnxruntime for minutes, and a slow link takes longer."""
READY_S = 300.0
"""Seconds for the imports of an environment; a worn card reads slowly."""


class File(NamedTuple):
    """A local file, and its place below the device's cache folder."""

    place: str
    path: Path
    sha256: str

    @property
    def nbytes(self) -> int:
        """The file's size in bytes."""
        return self.path.stat().st_size

    @property
    def entry(self) -> tuple[str, int, str]:
        """The file's entry in requests to the remote agent: path, bytes, sha256."""
        return self.place, self.nbytes, self.sha256


class Ssh:
    """A device behind sshd. As a context manager it closes its connection at the end.

    Example:
        >>> with Ssh("ssh://pi@raspberrypi.local") as device:
        ...     bench("films.bundle", device=device)

    Attributes:
        name: the address.
        timeout: maximum seconds of one request, or without progress of a transfer.
    """

    memory: int | None = None
    patience = 60.0
    """Seconds after a request's own limit, which the device enforces, until the connection is closed."""
    variables: Mapping[str, str] = MappingProxyType({})
    """Environment variables of the measuring process."""

    def __init__(
        self,
        address: str,
        *,
        offline: bool = False,
        timeout: float = 600.0,
        tell: Tell | None = None,
        name: str | None = None,
        config: Path | None = None,
    ) -> None:
        """
        Args:
            offline: the device downloads nothing: this machine downloads the wheels and sends them.
            name: the device's name in messages; by default the address.
            config: a configuration file of ssh, instead of the user's.

        Raises:
            BenchError: the address is invalid. The connection is opened later, by the first request.
        """
        parsed = Address.parse(address)
        self.name, self.timeout = name or str(parsed), timeout
        self._offline, self._tell = offline, tell or silent
        self._connection = Connection(parsed, name=self.name, config=config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def info(self) -> dict[str, Any]:
        """Return the `machine_facts` of the device."""
        return answer_of(self.python(["-m", FACTS], ""))

    def push(self, folder: Path) -> str:
        """Send the files of a bundle that are not on the device yet, and return its folder there.

        Raises:
            BenchError: no connection, no progress, no space on the device, or a file arrived damaged.
            StorageError: a local file cannot be read.
        """
        root = self._described["root"]
        paths = [path for path in folder.rglob("*") if path.is_file()]
        # The manifest comes last: without it, a folder is no bundle.
        paths.sort(key=lambda path: (path.name == FILE_NAME, path))
        content = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
        place = f"bundles/{hashlib.sha256(json.dumps(sorted(content.items())).encode()).hexdigest()[:32]}"
        self._send([File(f"{place}/{name}", folder / name, digest) for name, digest in content.items()])
        return f"{root}/{place}"

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of the device.

        Raises:
            BenchError: no connection, no environment, or the process failed; see `Local.run`.
        """
        return answer_of(self.python(["-m", AGENT], json.dumps(request)))

    def pull(self, place: str, folder: Path) -> None:
        """Fetch the files of the folder `place`. Raises BenchError, StorageError."""
        self._connection.fetch(place, folder, seconds=self._silence)

    def python(self, arguments: Sequence[str], text: str = "") -> CompletedProcess[str]:
        """Run a program with the agent's modules, numpy and onnxruntime, in a fresh process of the device.

        Args:
            arguments: Python's command line, such as `-m MODULE`.
            text: the program's standard input.

        Raises:
            BenchError: no connection, no environment, or the program ran longer than `timeout`.
        """
        fields = {
            "python": self._environment,
            "agent": self._agent,
            "arguments": list(arguments),
            "input": text,
            "timeout": self.timeout,
            "variables": dict(self.variables),
        }
        done = self._connection.request("run", fields, seconds=self._silence)
        if done["status"] is None:
            raise took_too_long(self.timeout)
        return CompletedProcess(list(arguments), done["status"], done["out"], done["err"])

    @property
    def _silence(self) -> float:
        """Seconds without progress until the connection is closed."""
        return self.timeout + self.patience

    @cached_property
    def _described(self) -> dict[str, Any]:
        self._tell(f"connecting to {self.name}")
        described: dict[str, Any] = self._connection.request("describe", seconds=self.patience)
        return described

    @cached_property
    def _agent(self) -> str:
        """Send the agent if it is missing, and return its place below the cache folder."""
        name, content = agent_zip()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._send([File(f"agents/{name}", path, sha256(path))])
        return f"agents/{name}"

    @cached_property
    def _environment(self) -> str:
        """Return the path of the environment's Python on the device; create the environment if it is missing."""
        target, wanted = Target.from_json(self._described), pins()
        fields = {"key": target.key, "pins": wanted, "timeout": READY_S}
        python = self._connection.request("ready", fields, seconds=READY_S + self.patience)
        if python is not None:
            return str(python)
        if not self._offline:
            return self._make(target, wanted, None)
        with tempfile.TemporaryDirectory(prefix="edgerec-") as folder:
            self._tell(f"downloading wheels for {target}")
            files = [(path, sha256(path)) for path in download(target, Path(folder))]
            wheels = [File(f"wheels/{digest[:32]}/{path.name}", path, digest) for path, digest in files]
            self._send(wheels)
            return self._make(target, wanted, [file.place for file in wheels])

    def _make(self, target: Target, wanted: list[str], wheels: list[str] | None) -> str:
        self._tell(f"creating an environment on the device with {' and '.join(wanted)}")
        fields = {"key": target.key, "pins": wanted, "wheels": wheels, "timeout": SETUP_S}
        answer = self._connection.request("make", fields, seconds=SETUP_S + self.patience)
        if "pip" in answer:
            raise pip_failure(answer["pip"], target, "the device")
        return str(answer["python"])

    def _send(self, files: Sequence[File]) -> None:
        """Send those of the files that are not on the device yet."""
        absent = self._connection.request("missing", {"files": [file.entry for file in files]}, seconds=self._silence)
        wanted = [file for file in files if file.place in absent]
        if wanted:
            nbytes = sum(file.nbytes for file in wanted)
            self._tell(f"sending {len(wanted)} file{'s' * (len(wanted) > 1)}, {format_bytes(nbytes)}")
            entries = [file.entry for file in wanted]
            self._connection.request(
                "put", {"files": entries}, sent=[file.path for file in wanted], seconds=self._silence
            )


def _open(address: str, options: Options) -> Ssh:
    if options.memory is not None:
        raise BenchError("--memory is for devices that are started here, such as arm64; leave it out")
    return Ssh(address, offline=options.offline, tell=options.tell)


def missing() -> list[Missing]:
    """List OpenSSH's client if it is missing."""
    return [] if shutil.which("ssh") else [Missing("OpenSSH's client", "sudo apt-get install openssh-client")]


KIND = Kind("ssh", "ssh://[user@]host[:port]", "a Linux machine behind sshd: a Raspberry Pi, a server", _open, missing)

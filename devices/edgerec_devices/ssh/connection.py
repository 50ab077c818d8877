"""Requests to the remote agent through the system's OpenSSH client, and one-line explanations of its failures."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from edgerec.errors import BenchError
from edgerec.files import atomic_write, storage_failure
from edgerec_devices.process import exchange
from edgerec_devices.ssh import remote_agent

OLDEST_PYTHON = (3, 11)
OPTIONS = {
    "BatchMode": "yes",  # never prompt: there may be no user to answer
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a lost connection is noticed after 15 s
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
    "RequestTTY": "no",
    "RemoteCommand": "none",
}
"""Everything else comes from the user's configuration: keys, jump hosts, known hosts, names of ~/.ssh/config."""
PERSIST_S = 60
"""Seconds that a shared connection outlives its last request, if this process is killed."""
SILENT = "it said nothing"
GRACE_S = 10
"""Seconds for the remote agent to kill its processes and to remove unfinished files."""

SOURCE = inspect.getsource(remote_agent).encode()
BOOTSTRAP = (
    "import sys;"
    f'sys.version_info<{OLDEST_PYTHON}and sys.exit("too old: "+sys.version.split()[0]);'
    "b=sys.stdin.buffer;"
    'exec(compile(b.read(int(b.readline())),"edgerec-remote","exec"))'
)
"""The program on the remote command line. Without quotes and dollars, every login shell passes it on unchanged; with
syntax of all Python 3 versions, an old one reports its version."""


@dataclass(frozen=True)
class Address:
    """An address ssh://[user@]host[:port]; host may be a name of ~/.ssh/config."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address. Raises BenchError if it is invalid."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
            parts = urlsplit("")
        plain = not (parts.path.strip("/") or parts.query or parts.fragment)
        if parts.scheme != "ssh" or not host or not plain or re.search(r"[\s'\"]|^-", text.removeprefix("ssh://")):
            raise BenchError(f"{text!r} is no address of a device; give ssh://user@host or ssh://user@host:port")
        if parts.password is not None:
            raise BenchError("every user of this machine can see a password in an address; log in with a key instead")
        name = host if "[" in parts.netloc else parts.netloc.rpartition("@")[2].partition(":")[0]
        return cls(name, parts.username, port)

    @property
    def destination(self) -> str:
        """The destination on ssh's command line: [user@]host."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def command(self) -> str:
        """The command that logs in to the device."""
        return f"ssh {self._port('-p')}{shlex.quote(self.destination)}"

    def fix_command(self, what: str) -> str:
        """Return a command: trust the host ('known'), remove its old key ('changed'), or install the user's ('key')."""
        bracketed = self.host if self.port in (None, 22) else f"[{self.host}]:{self.port}"
        return {
            "known": f"ssh-keyscan {self._port('-p')}{self.host} >> ~/.ssh/known_hosts",
            "changed": f"ssh-keygen -R '{bracketed}'",
            "key": f"ssh-copy-id {self._port('-p')}{shlex.quote(self.destination)}",
        }[what]

    def _port(self, flag: str) -> str:
        return "" if self.port is None else f"{flag} {self.port} "

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}" + ("" if self.port is None else f":{self.port}")


class NoAnswerError(BenchError):
    """The connection was closed because nothing was transferred for too long."""


class Connection:
    """One login, shared by all requests until `close`.

    Attributes:
        name: the device's name in messages.
    """

    def __init__(self, address: Address, *, name: str | None = None, config: Path | None = None) -> None:
        """
        Args:
            name: the device's name in messages; by default the address.
            config: a configuration file of ssh, instead of the user's.
        """
        self.address, self.name = address, name or str(address)
        self._folder = tempfile.TemporaryDirectory(prefix="edgerec-")
        options = dict(OPTIONS)
        if os.name == "posix":  # OpenSSH for Windows shares no connections
            socket = Path(self._folder.name) / "s"  # 104 bytes are all that a socket's path may have on macOS
            options |= {"ControlMaster": "auto", "ControlPath": str(socket), "ControlPersist": str(PERSIST_S)}
        own = [] if config is None else ["-F", str(config)]
        self._ssh = ["ssh", *own, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        if address.port is not None:
            self._ssh += ["-p", str(address.port)]

    def close(self) -> None:
        """End the shared connection."""
        with suppress(OSError, subprocess.TimeoutExpired):
            command = [*self._ssh, "-O", "exit", "--", self.address.destination]
            subprocess.run(command, capture_output=True, check=False, timeout=GRACE_S)
        self._folder.cleanup()

    def request(
        self,
        verb: str,
        fields: Mapping[str, Any] | None = None,
        *,
        sent: Iterable[Path] = (),
        seconds: float,
    ) -> Any:
        """Send a request to the remote agent and return its answer.

        Args:
            fields: the request's fields, as `remote_agent` describes them.
            sent: files whose bytes follow the request.
            seconds: the connection is closed if nothing is transferred for this long. ssh notices a lost connection by
                itself, but not a device that hangs.

        Raises:
            NoAnswerError: nothing was transferred for `seconds`.
            BenchError: no connection, no python3 on the device, or an error of the remote agent.
        """
        with tempfile.TemporaryFile() as out:
            return self._exchange(out, verb, sent, seconds, fields or {})

    def fetch(self, place: str, folder: Path, *, seconds: float) -> None:
        """Copy a folder from the device; each file has a temporary name until it is complete. Raises like `request`."""
        with tempfile.TemporaryFile() as out:
            for name, nbytes, sha256 in self._exchange(out, "get", (), seconds, {"place": place}):
                target = (folder / name).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise BenchError(f"{self.name} sent a file named {name!r}, which would leave {folder}")
                digest, left = hashlib.sha256(), nbytes
                with atomic_write(target) as stream:
                    while piece := out.read(min(left, remote_agent.PIECE)):
                        digest.update(piece)
                        left -= stream.write(piece)
                    if digest.hexdigest() != sha256:
                        raise BenchError(f"{self.name}: {name} arrived damaged or in part; try again")

    def _exchange(
        self, out: IO[bytes], verb: str, sent: Iterable[Path], seconds: float, fields: Mapping[str, Any]
    ) -> Any:
        """Return the answer to a request; `out` is then at the start of the files that follow the answer."""
        command = [*self._ssh, "--", self.address.destination, f"python3 -I -c '{BOOTSTRAP}'"]
        head = b"%d\n%b%b\n" % (len(SOURCE), SOURCE, json.dumps({"verb": verb, **fields}).encode())
        # A file, not a pipe: ssh's shared connection keeps inherited pipes open.
        with tempfile.TemporaryFile() as said:
            status = self._talk(command, [head, *sent], out, said, seconds)
            out.seek(0)
            for line in out:
                if line.startswith(remote_agent.MARK.encode()):
                    answer = json.loads(line[len(remote_agent.MARK) :])
                    if "error" in answer:
                        raise BenchError(f"{self.name}: {answer['error']}")
                    return answer["ok"]
            said.seek(0)
            raise BenchError(f"{self.name}: {self._reason(status, said.read().decode(errors='replace'))}")

    def _talk(
        self,
        command: list[str],
        sent: Iterable[Path | bytes],
        out: IO[bytes],
        said: IO[bytes],
        seconds: float,
    ) -> int:
        try:
            # In its own session ssh gets no Ctrl-C: the remote agent first sees the end of its input, and cleans up.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=said, start_new_session=True)
        except FileNotFoundError:
            raise BenchError("there is no ssh on this machine; install OpenSSH's client (openssh-client)") from None
        try:
            return exchange(process, _pieces(sent), seconds, GRACE_S, lambda: os.fstat(out.fileno()).st_size)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"{self.name} gave no answer for {seconds:g} s; is the device alive?") from None

    def _reason(self, status: int, said: str) -> str:
        """Explain a failure of ssh or the remote shell, with its fix."""
        if status == 127 or re.search(r"python3['\":]*:? .*not found|Unknown command", said):
            return "there is no python3 on its PATH; install it there: sudo apt install python3 python3-venv"
        if old := re.search(r"^too old: (\S+)", said, re.MULTILINE):
            newer = ".".join(map(str, OLDEST_PYTHON))
            return f"its python3 is {old[1]}, and EdgeRec needs {newer} or newer; install a newer system there"
        last = (said.strip().splitlines() or [SILENT])[-1]
        if status != 255:
            return f"the request failed there with status {status}: {last}"
        meant = (text for pattern, text in self._meanings(last) if re.search(pattern, said or SILENT))
        return next(meant, f"ssh failed: {last}")

    def _meanings(self, last: str) -> list[tuple[str, str]]:
        address = self.address
        return [
            (
                "IDENTIFICATION HAS CHANGED",
                "its host key is another than before: the device was reinstalled, or another machine answers for it; "
                f"if you know why, remove the old key: {address.fix_command('changed')}",
            ),
            (
                "Host key verification failed|host key is known",
                "its host key is unknown here; log in once, compare the fingerprint and answer yes: "
                f"{address.command} (or trust the network: {address.fix_command('known')})",
            ),
            (
                "Permission denied|Too many authentication failures",
                f"permission denied: the device accepts none of your keys; install one: {address.fix_command('key')}",
            ),
            (
                "Could not resolve|Connection refused|timed out|No route|unreachable",
                f"cannot be reached ({last.removeprefix('ssh: ')}); is it on, and sshd at this name and port?",
            ),
            (
                f"closed by|reset by|Broken pipe|not responding|disconnect|{SILENT}",
                f"the connection was lost ({last}); did the device restart? run the command again: files that arrived "
                "are not sent again",
            ),
        ]


def _pieces(sent: Iterable[Path | bytes]) -> Iterator[bytes]:
    """Yield bytes as they are, and files in pieces. Raises StorageError."""
    for one in sent:
        if isinstance(one, bytes):
            yield one
            continue
        try:
            source = one.open("rb")
        except OSError as error:
            storage_failure(one, error, "read")
        with source:
            while piece := source.read(remote_agent.PIECE):
                yield piece

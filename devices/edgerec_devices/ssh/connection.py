"""Requests to the far end through the system's OpenSSH client, and what its failures mean in one line."""

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
    "BatchMode": "yes",  # never ask: nobody may be there to answer
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a link that dropped is noticed after 15 s
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
    "RequestTTY": "no",
    "RemoteCommand": "none",
}
"""Everything else is the user's: keys, jump hosts, known hosts, names of ~/.ssh/config."""
PERSIST_S = 60
"""Seconds that a shared connection outlives its last request, should this process be killed."""
SILENT = "it said nothing"
GRACE_S = 10
"""Seconds for the far end to kill what it runs and to remove what is unfinished."""

SOURCE = inspect.getsource(remote_agent).encode()
BOOTSTRAP = (
    "import sys;"
    f'sys.version_info<{OLDEST_PYTHON}and sys.exit("too old: "+sys.version.split()[0]);'
    "b=sys.stdin.buffer;"
    'exec(compile(b.read(int(b.readline())),"edgerec-far","exec"))'
)
"""No single quote, no dollar: every login shell passes it on as it is; and any Python 3 can say that it is too old."""


@dataclass(frozen=True)
class Address:
    """ssh://[user@]host[:port]; host may be a name of ~/.ssh/config."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises BenchError where it is no such address."""
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
            raise BenchError("an address with a password in it is shown to every user here; log in with a key instead")
        name = host if "[" in parts.netloc else parts.netloc.rpartition("@")[2].partition(":")[0]
        return cls(name, parts.username, port)

    @property
    def destination(self) -> str:
        """As ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def command(self) -> str:
        """What a person types to log in."""
        return f"ssh {self._port('-p')}{shlex.quote(self.destination)}"

    def mends(self, what: str) -> str:
        """The command that makes a host known, forgets its old key, or brings a key there."""
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
    """The far end was given up: nothing moved for too long."""


class Connection:
    """One login, shared by all requests until `close`.

    Attributes:
        name: of the device, in messages.
    """

    def __init__(self, address: Address, *, name: str | None = None, config: Path | None = None) -> None:
        """
        Args:
            name: the address, if none is given.
            config: of ssh, in place of the user's own.
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

    def ask(
        self,
        verb: str,
        fields: Mapping[str, Any] | None = None,
        *,
        sent: Iterable[Path] = (),
        seconds: float,
    ) -> Any:
        """What the far end answers to a request.

        Args:
            fields: of the request, as `remote_agent` describes them.
            sent: files whose bytes follow it.
            seconds: in which nothing moves, until the link is given up. ssh itself notices one that is dead, but not a
                device that does nothing any more.

        Raises:
            NoAnswerError: it was given up.
            BenchError: no connection, no python3 there, or the far end's own reason.
        """
        with tempfile.TemporaryFile() as out:
            return self._exchange(out, verb, sent, seconds, fields or {})

    def fetch(self, place: str, folder: Path, *, seconds: float) -> None:
        """Copy a folder of the far end, each file under a temporary name until it is whole. Raises as `ask` does."""
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
        """The answer to a request; `out` then stands behind it, at the files that came with it."""
        command = [*self._ssh, "--", self.address.destination, f"python3 -I -c '{BOOTSTRAP}'"]
        head = b"%d\n%b%b\n" % (len(SOURCE), SOURCE, json.dumps({"verb": verb, **fields}).encode())
        # A file, not a pipe: ssh's shared connection keeps what it inherits open.
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
            # In a session of its own Ctrl-C does not reach it: the far end is told first, by the end of its input.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=said, start_new_session=True)
        except FileNotFoundError:
            raise BenchError("there is no ssh on this machine; install OpenSSH's client (openssh-client)") from None
        try:
            return exchange(process, _pieces(sent), seconds, GRACE_S, lambda: os.fstat(out.fileno()).st_size)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"{self.name} gave no answer for {seconds:g} s; is the device alive?") from None

    def _reason(self, status: int, said: str) -> str:
        """What ssh or the far shell meant, and what mends it."""
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
                "its host key is another than before: the device was set up anew, or something stands between; "
                f"if you know why, forget the old one: {address.mends('changed')}",
            ),
            (
                "Host key verification failed|host key is known",
                "its host key is unknown here; log in once, compare the fingerprint and answer yes: "
                f"{address.command} (or take what the network says: {address.mends('known')})",
            ),
            (
                "Permission denied|Too many authentication failures",
                f"permission denied: no key of yours is accepted there; bring one: {address.mends('key')}",
            ),
            (
                "Could not resolve|Connection refused|timed out|No route|unreachable",
                f"cannot be reached ({last.removeprefix('ssh: ')}); is it on, and sshd at this name and port?",
            ),
            (
                f"closed by|reset by|Broken pipe|not responding|disconnect|{SILENT}",
                f"the connection was lost ({last}); did the device restart? run the same again: what arrived is kept",
            ),
        ]


def _pieces(sent: Iterable[Path | bytes]) -> Iterator[bytes]:
    """Bytes as they are, and those of files. Raises StorageError."""
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

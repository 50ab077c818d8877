"""A connection to one Android device through the system's `adb`, with one-line errors, and a store of files on it."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec.runtime.manifest import FILE_NAME
from edgerec_devices.process import exchange
from edgerec_devices.protocol import Tell

ROOT = "/data/local/tmp/edgerec"
"""The folder of all EdgeRec files on a device: adb's user may write and run programs there."""
INSTALL_CLIENT = "sudo apt-get install adb (or Android's platform-tools)"
SHELL_S = 120.0
"""Seconds for a request that only lists or hashes files."""
SLOWEST = 64 << 10
"""Minimum bytes per second of a transfer; USB 1.1 is ten times faster. adb itself has no timeout."""
GRACE_S = 5.0
SIGNALS = 128
"""Statuses above this are 128 + the signal that ended the process."""
LINK = r"closed|protocol fault|Broken pipe|reset|connection refused|no response|EOF"


class Bridge:
    """A connection to one device, or to the only one that is connected.

    Attributes:
        name: the device's name in messages and on command lines: 'adb', 'adb:SERIAL'.
    """

    def __init__(self, serial: str | None = None) -> None:
        self.name = "adb" if serial is None else f"adb:{serial}"
        self._adb = ["adb", *([] if serial is None else ["-s", serial])]

    def connect(self) -> None:
        """Check the connection. Raises BenchError with the fix if the device cannot be reached."""
        done = self._run(["get-state"], SHELL_S)
        state = done.stdout.strip()
        if done.returncode != 0 or state != "device":
            raise self._failure(done.stderr or f"device {state}")

    def shell(self, script: str, *, seconds: float = SHELL_S) -> str:
        """Run a script on the device and return its output. Raises BenchError if it fails."""
        done = self._run(["shell", "-T", "-n", script], seconds)
        if done.returncode != 0:
            raise self._failure(done.stderr)
        return done.stdout

    def push(self, files: Sequence[Path], place: str) -> None:
        """Copy files into an existing folder of the device. Raises BenchError: no space, no connection."""
        nbytes = sum(path.stat().st_size for path in files)
        done = self._run(["push", *map(str, files), f"{place}/"], SHELL_S + nbytes / SLOWEST)
        if done.returncode != 0:
            raise self._failure(done.stderr + done.stdout)

    def pull(self, place: str, folder: Path) -> None:
        """Copy the content of a folder of the device into a local folder. Raises BenchError."""
        kib = int(self.shell(f"du -sk {shlex.quote(place)}").split()[0])
        done = self._run(["pull", f"{place}/.", str(folder)], SHELL_S + kib * 1024 / SLOWEST)
        if done.returncode != 0:
            raise self._failure(done.stderr + done.stdout)

    def run_script(self, script: str, line: str, seconds: float) -> CompletedProcess[str]:
        """Run a script that reads one line, and return its status and output; the status is 128 + a signal's number.

        The script's input stays open until it ends, so that it notices the end of this process.

        Raises:
            BenchError: the script did not end within `seconds`, or the connection was lost.
        """
        # Files, not pipes: they take an answer of any size while the input is open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = self._exchange([*self._adb, "shell", "-T", script], line, out, err, seconds)
            out.seek(0)
            err.seek(0)
            done = CompletedProcess(
                [script], status, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )
        silent = not (done.stdout or done.stderr) and status < SIGNALS
        if silent or re.match("adb: |error: ", done.stderr):  # adb ends with status 0 if the connection is lost
            self.connect()
            raise self._failure(done.stderr)
        return done

    def _exchange(self, command: list[str], line: str, out: IO[bytes], err: IO[bytes], seconds: float) -> int:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err)
        except FileNotFoundError:
            raise _no_client() from None
        try:
            return exchange(process, [line.encode() + b"\n"], seconds, GRACE_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} gave no answer for {seconds:g} s; is the device alive?") from None

    def _run(self, words: Sequence[str], seconds: float) -> CompletedProcess[str]:
        command = [*self._adb, *words]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError:
            raise _no_client() from None
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} gave no answer for {seconds:g} s; restart adb: adb kill-server") from None

    def _failure(self, said: str) -> BenchError:
        lines = [line for line in said.strip().splitlines() if not line.startswith("* daemon")]
        last = re.sub(r"^(adb: |error: )+", "", lines[-1]) if lines else "it said nothing"
        meant = (text for pattern, text in self._meanings(last) if re.search(pattern, said.strip() or last))
        return BenchError(f"{self.name}: {next(meant, last)}")

    def _meanings(self, last: str) -> list[tuple[str, str]]:
        """Return pairs of a pattern in adb's output and an explanation; the first match counts."""
        return [
            (
                "unauthorized|still authorizing",
                "the phone does not trust this computer yet; unlock it, and accept the question about USB debugging "
                "(if there is none: adb kill-server, and plug it in again)",
            ),
            ("more than one", "more than one device is connected; name one: --device adb:SERIAL (see: adb devices)"),
            (
                "no devices",
                "no device is connected; plug a phone in, with USB debugging switched on in its developer options, "
                "and check with: adb devices",
            ),
            ("device '.*' not found", f"it is not connected ({last}); what is: adb devices"),
            ("offline", "the device is offline; wake it, plug it in again, or: adb reconnect"),
            (
                "insufficient permissions|no permissions",
                "this user may not use the device's USB port; sudo apt-get install android-sdk-platform-tools-common, "
                "and plug it in again",
            ),
            (
                "No space left|ENOSPC",
                "no space on the device; free some, or remove what earlier runs left: "
                f"{shlex.join(self._adb)} shell rm -r {ROOT}",
            ),
            (
                f"{LINK}|it said nothing",
                f"the connection was lost ({last}); did the device restart? run the command again: files that arrived "
                "are not sent again",
            ),
        ]


def connected() -> list[str]:
    """List the addresses of the devices that adb reaches."""
    try:
        done = subprocess.run(["adb", "devices"], capture_output=True, text=True, timeout=SHELL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [f"adb:{serial}" for serial in re.findall(r"^(\S+)\tdevice$", done.stdout, re.MULTILINE)]


def _no_client() -> BenchError:
    return BenchError(f"there is no adb on this machine; {INSTALL_CLIENT}")


class Store:
    """Files on a device, in folders below `/data/local/tmp/edgerec`, each sent only once."""

    def __init__(self, bridge: Bridge, tell: Tell) -> None:
        self._bridge, self._tell = bridge, tell

    def send(self, kind: str, paths: list[Path]) -> str:
        """Send those of the files that are not on the device yet.

        Args:
            kind: the parent of the folder that holds the files.

        Returns:
            The files' folder, which is named by a hash of their contents.

        Raises:
            BenchError: no connection, no space on the device, or a file arrived damaged.
            StorageError: a local file cannot be read.
        """
        content = {path: sha256(path) for path in paths}
        named = sorted((path.name, digest) for path, digest in content.items())
        place = f"{ROOT}/{kind}/{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"
        wanted = self._missing(place, content)
        if wanted:
            nbytes = sum(path.stat().st_size for path in wanted)
            self._tell(f"sending {len(wanted)} file{'s' * (len(wanted) > 1)}, {format_bytes(nbytes)}")
            self._put(place, {path: content[path] for path in wanted})
        return place

    def _put(self, place: str, content: Mapping[Path, str]) -> None:
        part = f"{ROOT}/parts/{secrets.token_hex(8)}"
        # The manifest comes last: without it, a folder is no bundle.
        paths = sorted(content, key=lambda path: (path.name == FILE_NAME, path))
        try:
            self._bridge.shell(f"mkdir -p {part} {place}")
            self._bridge.push(paths, part)
            if damaged := self._missing(part, content):
                raise BenchError(f"{self._bridge.name}: {damaged[0].name} arrived damaged or in part; try again")
            self._bridge.shell(" && ".join(f"mv -f {part}/{shlex.quote(path.name)} {place}/" for path in paths))
        finally:
            with suppress(BenchError):  # the error was already raised, or will be by the next request
                self._bridge.shell(f"rm -rf {part}")

    def _missing(self, folder: str, content: Mapping[Path, str]) -> list[Path]:
        """List the files that a folder of the device does not have with this sha256, or this size without sha256sum."""
        script = (
            f"cd {folder} 2>/dev/null || exit 0; if command -v sha256sum >/dev/null; then sha256sum *; else wc -c *; fi"
        )
        lines = (
            line.split(maxsplit=1) for line in self._bridge.shell(f"{{ {script}; }} 2>/dev/null; true").splitlines()
        )
        seen = {words[1]: words[0] for words in lines if len(words) == 2}
        return [
            path for path, digest in content.items() if seen.get(path.name) not in (digest, str(path.stat().st_size))
        ]

"""Android's debug bridge: one device through the system's `adb`, its failures in one line, the files kept there."""

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
"""All that is ours on a device: adb's user may write there, and start programs."""
INSTALL_CLIENT = "sudo apt-get install adb (or Android's platform-tools)"
SHELL_S = 120.0
"""Seconds for a request that only looks, or hashes what is there."""
SLOWEST = 64 << 10
"""Bytes a second of a transfer that goes on: USB 1.1 brings ten times as many. adb itself waits for ever."""
GRACE_S = 5.0
SIGNALS = 128
"""From here on a status says which signal ended a process."""
LINK = r"closed|protocol fault|Broken pipe|reset|connection refused|no response|EOF"


class Bridge:
    """One device, or the only one that is connected.

    Attributes:
        name: of the device, in messages and on command lines: 'adb', 'adb:SERIAL'.
    """

    def __init__(self, serial: str | None = None) -> None:
        self.name = "adb" if serial is None else f"adb:{serial}"
        self._adb = ["adb", *([] if serial is None else ["-s", serial])]

    def connect(self) -> None:
        """Raises BenchError where the device cannot be reached, with what to do."""
        done = self._run(["get-state"], SHELL_S)
        state = done.stdout.strip()
        if done.returncode != 0 or state != "device":
            raise self._failure(done.stderr or f"device {state}")

    def shell(self, script: str, *, seconds: float = SHELL_S) -> str:
        """What a script prints on the device. Raises BenchError where it fails."""
        done = self._run(["shell", "-T", "-n", script], seconds)
        if done.returncode != 0:
            raise self._failure(done.stderr)
        return done.stdout

    def push(self, files: Sequence[Path], place: str) -> None:
        """Copy files into a folder that is there. Raises BenchError: no space, no connection."""
        nbytes = sum(path.stat().st_size for path in files)
        done = self._run(["push", *map(str, files), f"{place}/"], SHELL_S + nbytes / SLOWEST)
        if done.returncode != 0:
            raise self._failure(done.stderr + done.stdout)

    def pull(self, place: str, folder: Path) -> None:
        """Copy what is in a folder of the device into a folder here. Raises BenchError."""
        kib = int(self.shell(f"du -sk {shlex.quote(place)}").split()[0])
        done = self._run(["pull", f"{place}/.", str(folder)], SHELL_S + kib * 1024 / SLOWEST)
        if done.returncode != 0:
            raise self._failure(done.stderr + done.stdout)

    def talk(self, script: str, line: str, seconds: float) -> CompletedProcess[str]:
        """Run a script that reads one line, and what became of it; killed on the device, it has 128 + the signal.

        Its input stays open until it ends, so that the far end notices where this one goes.

        Raises:
            BenchError: no end within `seconds`, or the connection was lost.
        """
        # Files, not pipes: an answer of any size is taken while the input is open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = self._converse([*self._adb, "shell", "-T", script], line, out, err, seconds)
            out.seek(0)
            err.seek(0)
            done = CompletedProcess(
                [script], status, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )
        silent = not (done.stdout or done.stderr) and status < SIGNALS
        if silent or re.match("adb: |error: ", done.stderr):  # adb ends with status 0 where a link drops
            self.connect()
            raise self._failure(done.stderr)
        return done

    def _converse(self, command: list[str], line: str, out: IO[bytes], err: IO[bytes], seconds: float) -> int:
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
            raise BenchError(f"{self.name} gave no answer for {seconds:g} s; start adb anew: adb kill-server") from None

    def _failure(self, said: str) -> BenchError:
        lines = [line for line in said.strip().splitlines() if not line.startswith("* daemon")]
        last = re.sub(r"^(adb: |error: )+", "", lines[-1]) if lines else "it said nothing"
        meant = (text for pattern, text in self._meanings(last) if re.search(pattern, said.strip() or last))
        return BenchError(f"{self.name}: {next(meant, last)}")

    def _meanings(self, last: str) -> list[tuple[str, str]]:
        """In the order in which they are looked for."""
        return [
            (
                "unauthorized|still authorizing",
                "the phone does not trust this computer yet; unlock it, and accept the question about USB debugging "
                "(where none comes: adb kill-server, and plug it in again)",
            ),
            ("more than one", "more than one device is connected; say which: --device adb:SERIAL (see: adb devices)"),
            (
                "no devices",
                "no device is connected; plug a phone in, with USB debugging switched on in its developer options, "
                "and look with: adb devices",
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
                f"the connection was lost ({last}); did the device restart? run the same again: what arrived is kept",
            ),
        ]


def connected() -> list[str]:
    """The addresses of devices that adb reaches now."""
    try:
        done = subprocess.run(["adb", "devices"], capture_output=True, text=True, timeout=SHELL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [f"adb:{serial}" for serial in re.findall(r"^(\S+)\tdevice$", done.stdout, re.MULTILINE)]


def _no_client() -> BenchError:
    return BenchError(f"there is no adb on this machine; {INSTALL_CLIENT}")


class Store:
    """What is kept on a device, in folders below `/data/local/tmp/edgerec`."""

    def __init__(self, bridge: Bridge, tell: Tell) -> None:
        self._bridge, self._tell = bridge, tell

    def send(self, kind: str, paths: list[Path]) -> str:
        """Those of the files that are not there, whole, yet.

        Args:
            kind: the folder that the files' own folder is made in.

        Returns:
            Their folder; it is named by all their contents.

        Raises:
            BenchError: no connection, no space there, or a damaged arrival.
            StorageError: a file cannot be read here.
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
        # Without a manifest a folder is no bundle: it comes last.
        paths = sorted(content, key=lambda path: (path.name == FILE_NAME, path))
        try:
            self._bridge.shell(f"mkdir -p {part} {place}")
            self._bridge.push(paths, part)
            if damaged := self._missing(part, content):
                raise BenchError(f"{self._bridge.name}: {damaged[0].name} arrived damaged or in part; try again")
            self._bridge.shell(" && ".join(f"mv -f {part}/{shlex.quote(path.name)} {place}/" for path in paths))
        finally:
            with suppress(BenchError):  # what went wrong has been told, or will be the next time
                self._bridge.shell(f"rm -rf {part}")

    def _missing(self, folder: str, content: Mapping[Path, str]) -> list[Path]:
        """Those that are not in a folder there with these bytes; of this size, where it has no sha256sum."""
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

"""Clients of others: node-wot and the playground by npm, Home Assistant by pip."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from tests.devices.android.parts import kept

FOLDER = Path(__file__).parent


def lacking(what: str, fix: str) -> NoReturn:
    """CI installs everything: there, a test that cannot run has failed."""
    reason = f"NOT TESTED: there is no {what} on this machine: {fix}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need(*programs: str, fix: str) -> None:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    for name in programs:
        if shutil.which(name, path=path) is None:
            lacking(name, fix)


def node_folder(target: Path) -> Path:
    """A folder with the scripts of `wot/` and the packages of its lock file, which are fetched once for all runs."""
    need("npm", "node", fix="apt install nodejs npm")
    lock = (FOLDER / "wot" / "package-lock.json").read_bytes()
    modules = kept(f"wot-{hashlib.sha256(lock).hexdigest()[:16]}", _install) / "node_modules"
    for path in (FOLDER / "wot").iterdir():
        if path.suffix in (".mjs", ".cjs"):
            shutil.copy(path, target)
    (target / "node_modules").symlink_to(modules)
    return target


def _install(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FOLDER / "wot" / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lacking("node-wot", f"npm could not fetch it: {done.stderr.strip().splitlines()[-1:]}")


class NodeWot:
    """node-wot in a process of its own, which reports what it reads, hears and is answered."""

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        command = ["node", str(folder / "client.mjs")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()
        self._said: IO[str] = self._process.stdout
        self.lines: list[dict[str, Any]] = []

    def until(self, member: str) -> None:
        """Read on until a report has this member."""
        while not (self.lines and member in self.lines[-1]):
            line = self._said.readline()
            assert line, f"node-wot ended: {self.lines}"
            self.lines.append(json.loads(line))

    def ended(self, seconds: float) -> bool:
        """Return true if it ends within this time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def rest(self) -> None:
        """Read on until it ends by itself."""
        self.lines += [json.loads(line) for line in self._said]
        assert self._process.wait(60) == 0, self.lines

    def failures(self) -> list[dict[str, Any]]:
        """Streams that ended and actions that were refused."""
        return [line for line in self.lines if "failed" in line or "refused" in line]

    def found(self, kind: str) -> dict[str, Any]:
        """The last value of each property, action or event that was reported."""
        return {line[kind]: line.get("value", line.get("error")) for line in self.lines if kind in line}


def awaited(holds: Callable[[], Any], seconds: float = 60) -> bool:
    """Wait until something holds; False if it does not in the time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


class Mosquitto:
    """A broker of MQTT on a free port, for a user with a password; it can be stopped and started again."""

    user, password = "films", "a word of the broker"

    def __init__(self, folder: Path) -> None:
        need("mosquitto", "mosquitto_passwd", fix="apt install mosquitto")
        folder.mkdir()
        self.port = free_port()
        self.password_file = folder / "password"
        self.password_file.write_text(self.password)
        hashed = folder / "hashed"
        command = [_program("mosquitto_passwd"), "-c", "-b", str(hashed), self.user, self.password]
        subprocess.run(command, check=True, capture_output=True)
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {hashed}\npersistence false\n"
            "user root\n"  # otherwise it would give up the rights of one, and could not read its files
        )
        self._log = folder / "log"

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [_program("mosquitto"), "-c", str(self._settings)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

        def listens() -> bool:
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", self.port)) == 0

        assert awaited(listens), self._log.read_text()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class HomeAssistant:
    """Home Assistant's own core with its MQTT integration, in an environment of its own, which is made once.

    Its last version for Python 3.11 is used: newer ones need newer Pythons than the tests run on.
    """

    VERSION = "2024.3.3"

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        folder.mkdir()
        requirements = FOLDER / "home_assistant" / "requirements.txt"
        key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
        python = kept(f"home-assistant-{key}", _install_home_assistant) / "bin" / "python"
        program = FOLDER / "home_assistant" / "core.py"
        command = [
            str(python),
            str(program),
            str(folder),
            str(broker.port),
            broker.user,
            broker.password,
            str(free_port()),
        ]
        self.errors = folder.with_suffix(".log")
        with self.errors.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.states: dict[str, dict[str, Any]] = {}
        self.devices: list[list[str]] = []
        self.version = ""

    def __enter__(self) -> HomeAssistant:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()

    def say(self, line: str) -> None:
        """Press a button, or ask for the devices."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def until(self, holds: Callable[[], bool]) -> None:
        """Read what it says until its entities are so."""
        assert self._process.stdout is not None
        while not holds():
            line = self._process.stdout.readline()
            assert line, f"{self.states}\n{self.errors.read_text()}"
            said = json.loads(line)
            self.version = said.get("running", self.version)
            self.devices = said.get("devices", self.devices)
            if "entity" in said:
                self.states[said["entity"]] = said


def _install_home_assistant(folder: Path) -> None:
    if sys.version_info[:2] > (3, 12):
        lacking("Home Assistant for this Python", "run the tests with Python 3.11")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    # Whose own list has packages that the MQTT integration never imports, and some that must be compiled.
    command += ["--no-deps", "--no-compile", "--requirement", str(FOLDER / "home_assistant" / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lacking("Home Assistant", f"pip could not fetch it: {done.stderr.strip().splitlines()[-1:]}")

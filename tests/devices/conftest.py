"""A real sshd on loopback, with keys, known hosts and a home of its own, reached by the system's own ssh."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec_export import export, from_arrays

HOST = "127.0.0.1"
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
"""sshd is outside of most users' PATH."""


@dataclass
class Server:
    """The device of the tests: this machine, behind an sshd.

    Attributes:
        folder: keys, configuration and log.
        cache: where what is sent and made is kept, as the far end sees it now.
        sshd: its process.
    """

    folder: Path
    port: int
    cache: Path
    sshd: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@{HOST}:{self.port}"

    @property
    def kept(self) -> Path:
        """What the far end keeps."""
        return self.cache / "edgerec"

    def force(self, *, cache: Path | None = None, path: str = "/usr/bin:/bin", around: str = "") -> None:
        """What every login gets: an environment of these alone, as if the device had no more.

        Args:
            around: a command that runs the shell.
        """
        self.cache = cache or self.cache
        home = self.folder / "home"
        variables = f"HOME={home} PATH={path} XDG_CACHE_HOME={self.cache}"
        write_script(
            self.folder / "force", f'exec /usr/bin/env -i {variables} {around} /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
        )

    def files(self) -> dict[Path, int]:
        """What is kept, with the time that it was written; environments apart."""
        found = [path for path in self.kept.rglob("*") if path.is_file() and "environments" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in found}

    def leftovers(self) -> list[Path]:
        """What is half-made."""
        return list((self.kept / "parts").glob("*"))

    def measuring(self) -> list[int]:
        """The processes that measure there now."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"edgerec_devices.agent" in command and str(self.kept).encode() in command:
                found.append(int(folder.name))
        return found


def write_script(path: Path, body: str) -> None:
    """An executable script for /bin/sh; replaced as a whole, because sshd may start it at any moment."""
    part = path.with_suffix(".part")
    part.write_text(f"#!/bin/sh\n{body}\n")
    part.chmod(0o755)
    part.replace(path)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


def awaited(holds: Callable[[], Any]) -> bool:
    """Whether it comes to hold within the time that the far end has to tidy up."""
    end = time.monotonic() + 30
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


def lacking(what: str, mend: str = "apt install openssh-server openssh-client") -> None:
    """CI installs everything: there, a test that cannot run has failed."""
    reason = f"there is no {what} on this machine: {mend}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, started once; tests take `server`."""
    programs = {name: shutil.which(name, path=PLACES) for name in ("sshd", "ssh", "ssh-keygen")}
    for name, found in programs.items():
        if found is None or sys.platform == "win32":
            lacking(name)
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "home").mkdir()
    for name in ("host", "key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copyfile(folder / "key.pub", folder / "authorized_keys")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it as root, and its service's start would make it
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {HOST}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nForceCommand {folder / 'force'}\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    # ssh reads the account's ~/.ssh, whatever HOME says: only -F keeps a test away from it.
    (folder / "bin").mkdir()
    command = shlex.join([str(programs["ssh"]), "-F", str(folder / "ssh_config")])
    write_script(folder / "bin" / "ssh", f'exec {command} "$@"')
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        arguments = [str(programs["sshd"]), "-D", "-e", "-f", str(folder / "sshd_config")]
        sshd = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            await_port(port, sshd, folder / "log")
            yield Server(folder, port, folder / "cache", sshd)
        finally:
            sshd.terminate()
            sshd.wait()


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until something listens there."""
    while process.poll() is None:
        with socket.socket() as asked:
            if asked.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"sshd ended: {log.read_text()}")


@pytest.fixture
def server(listening: Server) -> Server:
    """The server as it should be: key and host key known, python3 there, the session's cache."""
    folder = listening.folder
    known = f"[{HOST}]:{listening.port} {(folder / 'host.pub').read_text()}"
    (folder / "known_hosts").write_text(known)
    client(listening, key="key")
    listening.force(cache=folder / "cache")
    return listening


def client(server: Server, *, key: str) -> None:
    """Configure the ssh of the tests to log in with that key."""
    folder = server.folder
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder / key}\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {folder / 'known_hosts'}\nGlobalKnownHostsFile none\n"
    )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with users."""
    rng = np.random.default_rng(0)
    items, users = rng.standard_normal((500, 16), np.float32), rng.standard_normal((40, 16), np.float32)
    folder = tmp_path_factory.mktemp("bundle") / "films.bundle"
    return export(from_arrays(items, users), folder, verify=False).folder


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one file that takes a moment to send: 256 MiB."""
    folder = tmp_path_factory.mktemp("large")
    with (folder / "tables.bin").open("wb") as stream:
        stream.truncate(256 << 20)
    return folder

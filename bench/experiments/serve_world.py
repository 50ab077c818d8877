"""A server of one bundle in a process of its own, for the experiments that measure and attack `edgerec serve`."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from bench.experiments.patch_tables import export_line, versions
from edgerec.errors import BenchError
from edgerec.models.encoder import LinearEncoder
from edgerec_export import ExportRequest, Source

RIGHTS = ("read", "read,feedback", "read,update")


@dataclass
class World:
    """A running server.

    Attributes:
        address: host and port.
        tokens: one for each of `RIGHTS`.
        folder: the folder with the bundle, the tokens and the state.
        log: lines of the server's log.
    """

    process: subprocess.Popen[str]
    address: tuple[str, int]
    tokens: Sequence[str]
    folder: Path
    log: list[str] = field(default_factory=list)

    def rss_kib(self) -> int:
        """Return the resident memory of the server. Raises BenchError if it is gone."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError as error:
            raise BenchError("the server is gone; see its log") from error
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


@contextmanager
def world(folder: Path, bundle: Path, *options: str) -> Iterator[World]:
    """Serve a bundle with tokens until the block ends. Raises BenchError if the server does not start."""
    tokens = [secrets.token_hex(16) for _ in RIGHTS]
    file = folder / "tokens"
    file.touch(0o600)
    file.write_text("".join(f"{rights} {token}\n" for rights, token in zip(RIGHTS, tokens, strict=True)))
    command = [sys.executable, "-m", "edgerec.serve", f"films={bundle}", "--port", "0", "--token-file", str(file)]
    command += ["--state", str(folder / "state"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        url = urlsplit(process.stdout.readline().strip())
        if url.hostname is None or url.port is None:
            raise BenchError(f"the server did not start: {''.join(log)}")
        yield World(process, (url.hostname, url.port), tokens, folder, log)
    finally:
        process.terminate()
        process.wait(60)
        reader.join(60)


def history_bundles(folder: Path, items: int, count: int, seed: int = 0) -> list[Path]:
    """Export versions of a bundle without users and with titles, each with a tenth of the rows of the last changed."""
    return export_line(
        _without_users(versions(items, 1, seed=seed)), folder, count, ExportRequest(verify=False, titles=True)
    )


def _without_users(sources: Iterator[Source]) -> Iterator[Source]:
    for source in sources:
        n_items = len(source.item_ids)
        yield replace(
            source,
            users=None,
            user_ids=None,
            encoder=LinearEncoder(np.ones(n_items, np.float32)),
            item_counts=np.arange(n_items)[::-1].copy(),
            titles=np.array([f"Item {one}" for one in source.item_ids]),
        )


def http_request(
    method: str, path: str, host: str, body: bytes = b"", token: str | None = None, kind: str = "application/json"
) -> bytes:
    """Return a request of HTTP/1.1 as its bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body or method == "POST":
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(address: tuple[str, int], sent: bytes, *, timeout_s: float = 5.0, half: bool = False) -> bytes:
    """Send bytes on a connection of their own, and return what comes back until it ends.

    Args:
        timeout_s: seconds to wait for more.
        half: True to end the sending side first.
    """
    received = b""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        try:
            connection.sendall(sent)
            if half:
                connection.shutdown(socket.SHUT_WR)
            while not is_whole(received) and (part := connection.recv(1 << 16)):
                received += part
        except OSError:  # it was closed, or nothing more comes
            pass
    return received


def is_whole(received: bytes) -> bool:
    """Return True if the last response in the bytes is complete, as far as its length says."""
    head, ends, body = received.partition(b"\r\n\r\n")
    if not ends:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return head.startswith((b"HTTP/1.1 304", b"HTTP/1.1 204"))

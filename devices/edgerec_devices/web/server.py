"""A server for one measuring page: its files, the bundles, the requests to it and its answers.

It serves only registered files: paths are looked up, never constructed, and all of them begin with a random word that
only the printed address contains.
"""

from __future__ import annotations

import json
import secrets
import select
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edgerec.errors import BenchError
from edgerec_devices.process import took_too_long
from edgerec_devices.protocol import Request
from edgerec_devices.web.local_http import HEADERS, LOOPBACK, TICK_S, TYPES, LocalHttp, Quiet

POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
POLL_S = 20.0
"""Seconds that a page waits for a request before it polls again."""
GRACE_S = 0.5
LARGEST_ANSWER = 1 << 28
GONE = "the page went away before it answered: it was closed, or the browser ended it; is there enough memory?"
OVER = "Measured. This page can be closed."
OTHER = "Another page is being measured. Close this one."


@dataclass
class PendingRequest:
    """One request and its state."""

    number: int
    request: Request
    taken_at: float | None = None
    gone: bool = False
    answer: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """True if the page has answered, or is gone."""
        return self.gone or self.answer is not None


class WebServer:
    """A server that runs until `close`.

    Attributes:
        address: URL of the page.
        log: paths of the requests without the random word; refused ones begin with '!'.
    """

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        """Start to listen. Raises BenchError if it cannot listen there."""
        self.log: list[str] = []
        self._root = f"/{secrets.token_urlsafe(16)}/"
        self._files: dict[str, tuple[Path, bool]] = {}
        self._changed = threading.Condition()
        self._pending: PendingRequest | None = None
        self._n_requests, self._tab, self._over = 0, "", False
        self._watched: set[socket.socket] = set()
        self._http = LocalHttp(host, port, _Handler, self)
        self.address = f"{self._http.address}{self._root}"

    def close(self) -> None:
        """Tell the page that the measurement is over, and stop the server."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            watched = list(self._watched)
        for connection in watched:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.stop()

    def serve(self, files: Iterable[Path], place: str = "", *, lasting: bool = False) -> None:
        """Serve files below the path `place`; the browser may cache lasting ones."""
        self._files |= {f"{place}{path.name}": (path, lasting) for path in files}

    def request(
        self, request: Request, *, connect: float, seconds: float, ended: Callable[[], str | None], same: bool
    ) -> dict[str, Any]:
        """Send a request to the page and return its answer.

        Args:
            connect: maximum seconds until a page takes the request.
            seconds: maximum seconds from then until its answer.
            ended: returns why no page can answer any more, or None; called while waiting.
            same: the page must be in the tab that answered before.

        Raises:
            BenchError: no page connected, the page went away, or it took too long.
        """
        with self._changed:
            self._n_requests += 1
            self._tab = self._tab if same else ""
            pending = self._pending = PendingRequest(self._n_requests, request)
            self._changed.notify_all()
            try:
                return self._await(pending, connect, seconds, ended)
            finally:
                self._pending = None

    def _await(
        self, pending: PendingRequest, connect: float, seconds: float, ended: Callable[[], str | None]
    ) -> dict[str, Any]:
        limit = time.monotonic() + connect
        while not self._changed.wait_for(lambda: pending.over, TICK_S):
            if (why := ended()) is not None:
                raise BenchError(why)
            if pending.taken_at is not None:
                limit = pending.taken_at + seconds
            if time.monotonic() > limit:
                missed = BenchError(f"no browser opened {self.address} within {connect:g} s")
                raise missed if pending.taken_at is None else took_too_long(seconds)
        if pending.answer is None:
            self._changed.wait(GRACE_S)  # a browser ends a moment after its connections
            raise BenchError(ended() or GONE)
        return pending.answer

    # The requests of the page; each runs in its own thread.

    def next_request(self, tab: str, connection: socket.socket) -> dict[str, Any]:
        """Wait for the next request and return it, while the page keeps the connection open."""
        limit = time.monotonic() + POLL_S
        with self._changed:
            while not self._changed.wait_for(self._waiting, TICK_S):
                if time.monotonic() > limit or _closed(connection):
                    return {"wait": True}
            if self._pending is None or _closed(connection):
                return {"end": OVER}
            self._tab = self._tab or tab
            if tab != self._tab:
                return {"end": OTHER}
            self._pending.taken_at = time.monotonic()
            return {"id": self._pending.number, "request": self._pending.request}

    def _waiting(self) -> bool:
        return self._over or (self._pending is not None and self._pending.taken_at is None)

    def take_answer(self, number: int, answer: dict[str, Any]) -> None:
        """Accept the answer to a request; ignore it if nothing waits for it any more."""
        with self._changed:
            if self._pending is not None and self._pending.number == number:
                self._pending.answer = answer
                self._changed.notify_all()

    def watch(self, number: int, connection: socket.socket) -> None:
        """Wait until the page closes a connection, and mark its request as gone."""
        with self._changed:
            self._watched.add(connection)
        with suppress(OSError):
            connection.settimeout(None)
            connection.recv(1)
        with self._changed:
            self._watched.discard(connection)
            if self._pending is not None and self._pending.number == number:
                self._pending.gone = True
                self._changed.notify_all()

    def find(self, path: str) -> tuple[Path, bool] | None:
        """Return the file of a path below the root, and whether the browser may cache it."""
        return self._files.get(path or "index.html")

    def below_root(self, path: str) -> str | None:
        """Return the path after the random word; None if the word is wrong."""
        return path.removeprefix(self._root) if path.startswith(self._root) else None


def _closed(connection: socket.socket) -> bool:
    """Return true if the other end has closed a connection."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True


class _Handler(Quiet, BaseHTTPRequestHandler):
    server: LocalHttp[WebServer]

    def do_GET(self) -> None:
        path, query = self._parsed()
        page = self.server.site
        if path == "request":
            self._json(page.next_request(query.get("tab", ""), self.connection))
        elif path == "alive":
            self.close_connection = True
            self._head(HTTPStatus.OK, {"Content-Type": "text/plain"})
            self.wfile.flush()
            page.watch(int(query["id"]), self.connection)
        else:
            found = None if path is None else page.find(path)
            self._file(found)

    def do_POST(self) -> None:
        path, query = self._parsed()
        length = int(self.headers.get("Content-Length", 0))
        if path != "answer" or length > LARGEST_ANSWER:
            self.close_connection = True  # the body is not read
            self._file(None)
            return
        self.server.site.take_answer(int(query["id"]), json.loads(self.rfile.read(length)))
        self._head(HTTPStatus.NO_CONTENT, {})

    def _parsed(self) -> tuple[str | None, dict[str, str]]:
        parts = urlsplit(self.path)
        path = self.server.site.below_root(parts.path)
        return path, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def _file(self, found: tuple[Path, bool] | None) -> None:
        path, lasting = found or (Path(), False)
        try:
            stream = path.open("rb") if found else None
        except OSError:
            stream = None
        if stream is None:
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        with stream:
            nbytes = path.stat().st_size
            kind = TYPES.get(path.suffix, "application/octet-stream")
            keep = "private, max-age=86400" if lasting else "no-store"
            self._head(HTTPStatus.OK, {"Content-Length": str(nbytes), "Content-Type": kind, "Cache-Control": keep})
            shutil.copyfileobj(stream, self.wfile)

    def _json(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        fields = {"Content-Length": str(len(content)), "Content-Type": "application/json", "Cache-Control": "no-store"}
        self._head(HTTPStatus.OK, fields)
        self.wfile.write(content)

    def _head(self, status: HTTPStatus, fields: dict[str, str]) -> None:
        page = self.server.site
        path = page.below_root(urlsplit(self.path).path)
        page.log.append(("" if status < HTTPStatus.BAD_REQUEST else "!") + (self.path if path is None else path))
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Security-Policy": POLICY, **fields}.items():
            self.send_header(name, value)
        self.end_headers()

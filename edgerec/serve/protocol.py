"""HTTP by uvicorn, with additions: connections are counted when accepted, requests must arrive and answers be read in
time, and streams end before a stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from contextlib import suppress
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgerec.errors import ServeError
from edgerec.serve.app import Server, app_of
from edgerec.serve.limits import client_of
from edgerec.serve.settings import Settings

STOP_S = 10
"""Seconds that requests under way get when the server stops."""
HEAD_S = 15.0
"""Seconds in which a client sends the head of a request."""
HANDSHAKE_S = 10.0
"""Seconds in which a client finishes a TLS handshake."""
WRITE_S = 30.0
"""Seconds after which a client that reads nothing of its answer is given up."""
MOST_CONNECTIONS = 512
"""Connections at once; beyond them new ones are closed, so that half-open ones cannot use up the process's files."""


class Listener(socket.socket):
    """A listening socket that closes connections beyond a limit, those without a TLS handshake counted too.

    The limit is `MOST_CONNECTIONS`, and half of the files that the process may open.
    """

    def __init__(self, bound: socket.socket, *, shared: bool) -> None:
        """
        Args:
            shared: one client gets half of the connections, so that it cannot keep others away.
        """
        super().__init__(fileno=bound.detach())
        self._accepted, self._shared = WeakKeyDictionary[socket.socket, str](), shared
        self._most = MOST_CONNECTIONS
        with suppress(ImportError):  # Windows
            import resource

            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if files != resource.RLIM_INFINITY:
                self._most = min(MOST_CONNECTIONS, files // 2)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a new connection. Raises ConnectionAbortedError if there are too many: asyncio tries again."""
        accepted, address = super().accept()
        client = client_of(address[0]) if self._shared else ""
        open = {one: client for one, client in self._accepted.items() if one.fileno() >= 0}
        self._accepted = WeakKeyDictionary(open)
        if len(open) >= self._most or (self._shared and [*open.values()].count(client) >= self._most // 2):
            accepted.close()
            raise ConnectionAbortedError
        self._accepted[accepted] = client
        return accepted, address


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, which calls `Listener.accept`, with the time of a head for a TLS handshake: uvicorn sets none."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen as asyncio does."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = HANDSHAKE_S
        return await super().create_server(*arguments, **options)


class Http(H11Protocol):
    """HTTP/1.1, with limits of the times in which a head arrives and nothing of an answer is read.

    h11 is always used: it is what the tests send malformed requests to.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that ended its side open until its answer is sent."""
        return self.scheme == "http" and self.cycle is not None and not self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading(None)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def _expect_reading(self, before: int | None) -> None:
        """Close the connection once as many bytes wait for the client as the last time."""
        waiting = self.transport.get_write_buffer_size()
        if waiting == before:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(WRITE_S, self._expect_reading, waiting)

    def _expect_head(self) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._timer = self.loop.call_later(HEAD_S, self._close_late, self.cycle)

    def _close_late(self, before: object) -> None:
        """Close the connection if no request has begun since."""
        self._timer = None
        if self.cycle is before and not self.transport.is_closing():
            self.transport.abort()


class StoppingServer(uvicorn.Server):
    """A server that ends the streams of observers first: uvicorn waits for every answer to end."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; uvicorn would also send itself the signal again, and the process would not end with status 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for thing in self._server.things.values():
            thing.end()
        await super().shutdown(sockets)


def prepared(server: Server) -> StoppingServer:
    """Return the server of HTTP, which runs on a bound socket until SIGTERM or SIGINT.

    Raises ServeError for an unusable --cert, --key or --page.
    """
    settings = server.settings
    more: dict[str, Any] = {}
    if settings.cert is not None:
        _check_certificate(settings)
        more = {"ssl_certfile": settings.cert, "ssl_keyfile": settings.key}
    config = uvicorn.Config(
        app_of(server),
        http=Http,
        loop=f"{__name__}:{Loop.__name__}",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.behind_proxy is not None,
        forwarded_allow_ips="127.0.0.1,::1",
        timeout_graceful_shutdown=STOP_S,
        **more,
    )
    return StoppingServer(config, server)


def _check_certificate(settings: Settings) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(str(settings.cert), str(settings.key))
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"--cert {settings.cert} and --key {settings.key} cannot be used: {error.strerror}") from error

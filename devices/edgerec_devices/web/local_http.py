"""What servers for browsers have in common: a thread, silence, and the headers of a page alone in its process."""

from __future__ import annotations

import ipaddress
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, TypeVar

from edgerec.errors import BenchError

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
TICK_S = 0.1
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
HEADERS = {
    # A page that is alone in its process gets threads and the finer clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_known(host: str, listens: str, given: str) -> bool:
    """Whether a request's Host is an address of the server, not the name of somebody else.

    Args:
        host: with a port or without: one that is forwarded has another number here.
        listens: the address of this machine that was asked.
        given: the host that it was given, which may be a name.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    if name in (given.lower(), "localhost"):
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or not ipaddress.ip_address(listens).is_loopback
    return False


class LocalHttp(ThreadingHTTPServer, Generic[T]):
    """Serves from its making until `stop`.

    Attributes:
        site: what its handlers answer from.
        host: that it listens on, as it was given.
        address: of its root, without a slash at the end.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler], site: T) -> None:
        """Raises BenchError where it cannot listen there."""
        self.site, self.host = site, host
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise BenchError(
                f"cannot listen on {host}:{port}: {reason}; give an address of this machine, a free port"
            ) from None
        self.address = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(TICK_S,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that is closed breaks its connections: nothing to tell."""

    def stop(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()


class Quiet(BaseHTTPRequestHandler):
    """A handler that keeps connections open, and says nothing: standard error is the command line's.

    It answers pages of its own address alone. Any page of the web can name this machine's loopback address by a name of
    its own (DNS rebinding), and then reads what is served: the name stands in Host. What a page of another address asks
    has that one in Origin.
    """

    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self._is_ours():
            return True
        self.close_connection = True  # a body stays unread
        self.send_response(HTTPStatus.MISDIRECTED_REQUEST)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _is_ours(self) -> bool:
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        given = self.server.host if isinstance(self.server, LocalHttp) else ""
        listens = self.connection.getsockname()[0]
        known = len(hosts) == 1 and is_known(hosts[0], listens, given)
        return known and all(origin == f"http://{hosts[0]}" for origin in origins)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

"""Base of the local servers for browsers: a thread, no logging, and the headers of cross-origin isolated pages."""

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
    # A cross-origin isolated page gets threads and a finer clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_known(host: str, listens: str, given: str) -> bool:
    """Return true if a request's Host header is an address of the server, not another name.

    Args:
        host: the header's value; its port is ignored, because forwarding changes it.
        listens: the address of this machine that received the request.
        given: the host that the server was started with, which may be a name.
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
    """A server that runs in a thread until `stop`.

    Attributes:
        site: the content for its handlers.
        host: the host that it was started with.
        address: URL of its root, without a slash at the end.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler], site: T) -> None:
        """Start to listen. Raises BenchError if it cannot listen there."""
        self.site, self.host = site, host
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise BenchError(
                f"cannot listen on {host}:{port}: {reason}; give an address of this machine and a free port"
            ) from None
        self.address = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(TICK_S,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a browser that is closed breaks its connections."""

    def stop(self) -> None:
        """Stop the server."""
        self.shutdown()
        self.server_close()


class Quiet(BaseHTTPRequestHandler):
    """A handler with persistent connections and no logging: standard error belongs to the command line.

    It answers only pages of its own address. Any page of the web can resolve a name of its own to this machine's
    loopback address (DNS rebinding) and read the content: that name is in the Host header. Requests of pages from
    another address have that address in the Origin header.
    """

    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self._is_ours():
            return True
        self.close_connection = True  # the body is not read
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
        """Log nothing."""

"""What servers for browsers have in common: a thread, silence, and the headers of a page alone in its process."""

from __future__ import annotations

import threading
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


class LocalHttp(ThreadingHTTPServer, Generic[T]):
    """Serves from its making until `stop`.

    Attributes:
        site: what its handlers answer from.
        address: of its root, without a slash at the end.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler], site: T) -> None:
        """Raises BenchError where it cannot listen there."""
        self.site = site
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


class Quiet:
    """Of a handler that keeps connections open, and says nothing: standard error is the command line's."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

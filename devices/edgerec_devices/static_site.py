"""A static site: files by the paths that pages ask for, served from where they lie or written into a folder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from edgerec.errors import BenchError
from edgerec.files import atomic_write

LOOPBACK = "127.0.0.1"
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
    # A page that is alone in its process gets the finer clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Files = Mapping[str, Path | bytes]
"""Files, or their content, by path below the site's root: 'ort/a.wasm'."""


def write_site(files: Files, folder: Path) -> None:
    """Copy a site into a folder, each file whole or not at all. Raises StorageError."""
    for name, content in files.items():
        with atomic_write(folder / name) as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)


class StaticServer:
    """Serves a site from its making until `close`. A path is looked up, never built.

    Attributes:
        address: of its root.
        log: the paths that were asked for; refused ones begin with '!'.
    """

    def __init__(self, files: Files, *, host: str = LOOPBACK, port: int = 0, headers: Mapping[str, str] = {}) -> None:
        """Raises BenchError where it cannot listen there."""
        self.files, self.headers = files, {**HEADERS, **headers}
        self.log: list[str] = []
        try:
            self._http = _Http((host, port), self)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise BenchError(f"cannot listen on {host}:{port}: {reason}; give a free port") from None
        self.address = f"http://{host}:{self._http.server_port}/"
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, place: tuple[str, int], site: StaticServer) -> None:
        self.site = site
        super().__init__(place, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that is closed breaks its connections: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Standard error is the command line's."""

    def _answer(self, *, body: bool) -> None:
        site, path = self.server.site, unquote(urlsplit(self.path).path).removeprefix("/")
        found = site.files.get(path or "index.html")
        site.log.append(path if found is not None else f"!{path}")
        if found is None or (isinstance(found, Path) and not found.is_file()):
            self._head(HTTPStatus.NOT_FOUND, "text/plain", 0)
            return
        kind = TYPES.get(PurePosixPath(path or "index.html").suffix, "application/octet-stream")
        nbytes = len(found) if isinstance(found, bytes) else found.stat().st_size
        self._head(HTTPStatus.OK, kind, nbytes)
        if not body:
            return
        if isinstance(found, bytes):
            self.wfile.write(found)
        else:
            with found.open("rb") as stream:
                shutil.copyfileobj(stream, self.wfile)

    def _head(self, status: HTTPStatus, kind: str, nbytes: int) -> None:
        self.send_response(status)
        for name, value in {**self.server.site.headers, "Content-Type": kind, "Content-Length": str(nbytes)}.items():
            self.send_header(name, value)
        self.end_headers()

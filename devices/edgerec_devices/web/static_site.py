"""A static site: files by path, served from their original places or written into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from typing import Self
from urllib.parse import unquote, urlsplit

from edgerec.files import atomic_write, filling
from edgerec_devices.web.local_http import HEADERS, LOOPBACK, TYPES, LocalHttp, Quiet

Files = Mapping[str, Path | bytes]
"""Files or their content, by path below the site's root: 'ort/a.wasm'."""


def write_site(files: Files, folder: Path) -> None:
    """Copy a site into a folder, each file completely or not at all.

    Raises InUseError if another process writes a site there, StorageError.
    """
    with filling(folder):
        for name, content in files.items():
            with atomic_write(folder / name) as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, stream)


class StaticServer:
    """A server of a site, which runs until `close`. Paths are looked up, never constructed.

    Attributes:
        address: URL of its root.
        log: the requested paths; refused ones begin with '!'.
    """

    def __init__(self, files: Files, *, host: str = LOOPBACK, port: int = 0, headers: Mapping[str, str] = {}) -> None:
        """Start to listen. Raises BenchError if it cannot listen there."""
        self.files, self.headers = files, {**HEADERS, "Cache-Control": "no-cache", **headers}
        self.log: list[str] = []
        self._http = LocalHttp(host, port, _Handler, self)
        self.address = f"{self._http.address}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server."""
        self._http.stop()


class _Handler(Quiet, BaseHTTPRequestHandler):
    server: LocalHttp[StaticServer]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

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

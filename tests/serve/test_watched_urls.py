"""Patches and bundles that are fetched from a URL, from sites that answer well or badly."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from tests.serve.conftest import Serve, sha256, until


class Site(BaseHTTPRequestHandler):
    """Files by path, with ETags."""

    files: dict[str, bytes]
    requests: list[tuple[str, int]]
    cut: int | None = None
    """Bytes after which the connection of the first whole answer ends."""
    padding: str = ""
    """The end of each ETag."""

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        status = 404 if content is None else 304 if self.headers.get("If-None-Match") == f'"{len(content)}"' else 200
        self.requests.append((self.path, status))
        self.send_response(status)
        if content is not None:
            self.send_header("ETag", f'"{len(content)}"{self.padding}')
        self.send_header("Content-Length", str(len(content or b"") if status == 200 else 0))
        self.end_headers()
        if status == 200 and content is not None:
            kind, cut = type(self), self.cut
            kind.cut = None
            self.wfile.write(content[:cut])

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, bytes], list[tuple[str, int]]]]:
    handler = type("Handler", (Site,), {"files": {}, "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.files, handler.requests  # type: ignore[attr-defined]
        server.shutdown()


def test_a_patch_at_a_url_is_named_by_its_version(
    serve: Serve, signed: Path, tmp_path: Path, site: tuple[str, dict[str, bytes], list[tuple[str, int]]]
) -> None:
    url, files, requests = site
    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    two, three = (Recommender.load(signed / name).sha256 for name in ("two", "three"))
    watched = ("--watch", f"{url}/{{model}}.patch", "--watch-every", "0.2", "--trusted", signed / "mine.pub")
    served = serve(f"films={bundle}", *watched)
    until(lambda: (f"/{two}.patch", 404) in requests)
    assert sha256(served) == two
    files[f"/{two}.patch"] = (signed / "two-three.patch").read_bytes()
    until(lambda: sha256(served) == three)
    until(lambda: (f"/{three}.patch", 404) in requests)
    assert not [line for line in served.log if "failed" in line]


def test_a_url_is_fetched_once_for_each_version(
    serve: Serve, signed: Path, tmp_path: Path, site: tuple[str, dict[str, bytes], list[tuple[str, int]]]
) -> None:
    url, files, requests = site
    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    files["/latest"] = (signed / "foreign.edgerec").read_bytes()
    watched = ("--watch", f"{url}/latest", "--watch-every", "0.2", "--trusted", signed / "mine.pub")
    served = serve(f"films={bundle}", *watched)
    until(lambda: requests.count(("/latest", 304)) > 1)
    assert requests.count(("/latest", 200)) == 1
    files["/latest"] = (signed / "three.edgerec").read_bytes() + b"garbage"
    until(lambda: requests.count(("/latest", 200)) == 2)
    files["/latest"] = (signed / "three.edgerec").read_bytes()
    until(lambda: sha256(served) == Recommender.load(signed / "three").sha256)
    assert served.stop() == 0
    events = [json.loads(line) for line in served.log]
    assert [line["error"] for line in events if line["event"] == "update refused"] == ["SignatureError", "BundleError"]


def test_a_file_that_is_cut_on_its_way_is_fetched_again(serve: Serve, signed: Path, tmp_path: Path) -> None:
    content = (signed / "two-three.patch").read_bytes()
    handler = type("Handler", (Site,), {"files": {"/latest": content}, "requests": [], "cut": len(content) // 2})
    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/latest"
        watched = ("--watch", url, "--watch-every", "0.2", "--trusted", signed / "mine.pub")
        served = serve(f"films={bundle}", *watched)
        until(lambda: sha256(served) == Recommender.load(signed / "three").sha256)
        assert served.stop() == 0
        server.shutdown()
    events = [json.loads(line)["event"] for line in served.log]
    assert events == ["listening", "watch failed", "model updated", "stopped"]


def test_an_etag_that_cannot_be_sent_back_keeps_no_update_away(serve: Serve, signed: Path, tmp_path: Path) -> None:
    """Its line of the answer is as long as may be, and that of the next request longer, so that it is refused."""
    files = {"/latest": (signed / "foreign.edgerec").read_bytes()}
    requests: list[tuple[str, int]] = []
    handler = type("Handler", (Site,), {"files": files, "requests": requests, "padding": "x" * 65515})
    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/latest"
        served = serve(f"films={bundle}", "--watch", url, "--watch-every", "0.2", "--trusted", signed / "mine.pub")
        until(lambda: ("/latest", 200) in requests)
        files["/latest"] = (signed / "three.edgerec").read_bytes()
        until(lambda: sha256(served) == Recommender.load(signed / "three").sha256)
        server.shutdown()


def test_a_site_that_never_ends_its_answer_does_not_keep_the_server(serve: Serve, signed: Path, tmp_path: Path) -> None:
    asked, over = threading.Event(), threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            with suppress(OSError):
                while not over.wait(0.5):
                    self.wfile.write(b"H")

    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/latest"
        served = serve(f"films={bundle}", "--watch", url, "--trusted", signed / "mine.pub")
        assert asked.wait(60)
        assert served.stop() == 0
        over.set()
        server.shutdown()

"""The demo page of a server: its files, the bundle that answers now, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerec.runtime import Recommender
from edgerec.runtime.stored import pack
from tests.serve.conftest import READ, UPDATE, Client, Serve, Served, refused


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A page as `edgerec demo --out` writes it, as far as the server looks at it; tests/devices opens real ones."""
    site = tmp_path / "site"
    for name in ("index.html", "worker.mjs", "ort/runtime.wasm", "bundle/0/manifest.json", "bundle/list.json"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(f"the file {name}")
    (site / "link.html").symlink_to(tmp_path / "tokens")
    return site


@pytest.fixture
def served(serve: Serve, bundle: Path, token_file: Path, site: Path) -> Served:
    return serve(f"films={bundle}", "--token-file", token_file, "--page", site)


def test_the_page_is_served_without_a_token(served: Client) -> None:
    assert served.get("/").headers["location"] == "/films/page/"
    for path, kind in (("", "text/html"), ("index.html", "text/html"), ("worker.mjs", "text/javascript")):
        answer = served.get(f"/films/page/{path}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert served.get("/films/page/ort/runtime.wasm").headers["content-type"] == "application/wasm"
    assert served.get("/films/properties/model").status == 401


def test_its_bundle_is_the_one_that_answers(served: Served, films: Path, bundle: Path) -> None:
    def manifest() -> bytes:
        return served.get("/films/page/bundle/0/manifest.json").raw

    assert served.get("/films/page/bundle/list.json").value == ["0"]
    before = manifest()
    assert before == (films / "old.bundle" / "manifest.json").read_bytes()
    names = [entry.name for entry in Recommender.load(films / "old.bundle").manifest.files]
    assert served.holding(UPDATE).patch((films / "there.patch").read_bytes()).status == 200
    assert manifest() == (films / "new.bundle" / "manifest.json").read_bytes()
    for entry in Recommender.load(films / "new.bundle").manifest.files:
        found = served.get(f"/films/page/bundle/0/{entry.name}").raw
        assert found == (films / "new.bundle" / entry.name).read_bytes()
    assert {served.get(f"/films/page/bundle/0/{name}").status for name in names} == {200}  # who began with the old one


def test_a_bundle_in_one_file_has_no_page(films: Path, site: Path, tmp_path: Path) -> None:
    pack(films / "old.bundle", tmp_path / "films.edgerec")
    message = refused(tmp_path / "films.edgerec", "--page", site, "--state", tmp_path / "state")
    assert "--page reads a bundle in a folder" in message


def test_nothing_else_is_served(served: Served, bundle: Path, tmp_path: Path) -> None:
    (bundle / "notes.txt").write_text("secret")
    for path in (
        "link.html",
        "../tokens",
        "%2e%2e/tokens",
        "..%2ftokens",
        "bundle/0/../notes.txt",
        "bundle/0/notes.txt",
        "bundle/0/",
        "bundle/1/manifest.json",
        "bundle/0/tables-000000000000.bin",
        "ort",
        "ort/",
        f"/{tmp_path}/tokens",
        "%00",
    ):
        answer = served.get(f"/films/page/{path}")
        assert answer.status == 404, path
        assert READ not in answer.raw.decode()

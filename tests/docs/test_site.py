"""The site builds without a warning, leads to nothing that is missing, and loads nothing from other hosts."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

from docs import generated
from edgerec.runtime import Recommender
from tests.devices.chrome import chrome
from tests.devices.web import need_programs
from tests.docs.look import LIVE, faults
from tests.docs.pages import ROOT

LOADED = {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}
"""Elements whose addresses a browser requests by itself; so it does those of a link that is no anchor."""
PASSIVE = {"canonical", "next", "prev", "search", "index"}


class Page(HTMLParser):
    """The anchors of a page, the addresses that it leads to, and those that a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        address = given.get("href", given.get("src", given.get("data")))
        if address is None or tag in ("meta", "use"):  # the icons of TypeDoc are added by its script
            return
        self.links.append(address)
        if tag in LOADED or (tag == "link" and given.get("rel") not in PASSIVE):
            self.loaded.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(
        r"^docs: setup\n\t\$\(BIN\)/python (.*) -d \S+ \. \S+$", (ROOT / "Makefile").read_text(), re.M
    )
    where = ["-d", str(folder / "doctrees"), ".", str(folder / "site")]
    done = subprocess.run(
        [sys.executable, *command.split(), *where], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 40
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].anchors
            ):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not [one for one in Page(path).loaded if urlsplit(one).scheme not in ("", "data")], path
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", path.read_text()), path


def test_programs_find_the_pages_and_the_names(site: Path) -> None:
    listed = re.findall(r"^- \[.+?\]\((\S+?)\): \S+", (site / "llms.txt").read_text(), re.MULTILINE)
    assert len(listed) > 40
    assert all((site / one).is_file() for one in listed)
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    assert {"edgerec.fit", "edgerec.Recommender.recommend", "edgerec_export.export"} <= inventory.data.keys() | {
        name for names in inventory.data.values() for name in names
    }


def test_signatures_in_other_languages_are_part_of_it(site: Path) -> None:
    need_programs("npm", "javadoc")
    for page in (site / "javascript/interfaces/edgerec.Recommender.html", site / "java/org/edgerec/Recommender.html"):
        assert "popular" in page.read_text()  # a function of both
        assert any(link.endswith("/docs/index.html") for link in Page(page).links)
    language = Page(site / "docs" / "reference" / "languages.html").links
    assert {"../../javascript/index.html", "../../java/index.html"} <= set(language)


def test_a_machine_without_their_tools_builds_a_page_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    generated.write(tmp_path)
    said = capsys.readouterr().err
    for name, cure in (("javascript", "apt install nodejs npm"), ("java", "apt install openjdk-17-jdk-headless")):
        assert cure in (tmp_path / name / "index.html").read_text()
        assert cure in said
    monkeypatch.setenv("CI", "true")
    with pytest.raises(generated.MissingToolError, match="npm"):
        generated.write(tmp_path)


def test_pages_open_from_disk_without_a_fault_and_the_first_one_recommends(site: Path, tmp_path: Path) -> None:
    """The whole site is looked at by `python -m tests.docs.look build/site`."""
    need_programs("chromium", "npm")
    content = json.loads((site / "_static" / "live-data.js").read_text().partition(" = ")[2].removesuffix(";\n"))
    for name, text in content["bundle"].items():
        (tmp_path / name).write_bytes(base64.b64decode(text))
    model = Recommender.load(tmp_path)
    with chrome() as browser:
        for name, size in (("index", "desktop"), ("index", "phone-dark"), ("guide/export", "phone")):
            assert not list(faults(browser, site / "docs" / f"{name}.html", size))
        for name in ("javascript/interfaces/edgerec.Recommender", "java/org/edgerec/Recommender"):
            assert not list(faults(browser, site / f"{name}.html", "phone-dark"))
        page = browser.open((site / "docs" / "index.html").as_uri())
        page.until(LIVE)
        page.click(f"[data-item={content['start'][2]}]")
        best = [model.title(item) for item, _ in model.recommend(history=[content["start"][2]], k=6)]
        page.until(
            f"JSON.stringify([...document.querySelectorAll('.live-best button')].map((one) => one.textContent))"
            f" === {json.dumps(json.dumps(best, separators=(',', ':'), ensure_ascii=False))}"
        )
        assert page.js("document.getElementById('live-requests').textContent") == "0"
        page.go((site / "search.html").as_uri() + "?q=rollback")
        page.until("document.querySelectorAll('ul.search li a').length > 1")

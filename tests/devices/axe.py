"""axe-core in a page of a browser, and what is cut off there."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from edgerec.files import cache_folder
from edgerec_devices.web import files as web_files
from tests.devices.chrome import Page

LOCK = Path(__file__).parents[2] / "devices" / "web" / "package-lock.json"
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"
CUT = """[...document.querySelectorAll('body *')].filter((e) => {
  const hidden = e.clientWidth <= 1 || e.closest('svg');  // text for screen readers alone
  return !hidden && (e.getBoundingClientRect().right > innerWidth + 0.5
    || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'));
}).map((e) => e.outerHTML.slice(0, 200))"""


@cache
def _source() -> str:
    """Return axe-core as the npm project locks it, fetched once for all runs."""
    locked = json.loads(LOCK.read_text())["packages"]["node_modules/axe-core"]
    place = cache_folder("tests") / f"axe-core-{locked['version']}.js"
    if not place.exists():
        package = web_files.Package("axe-core", locked["version"], locked["integrity"])
        with (
            tempfile.TemporaryDirectory() as folder,
            tarfile.open(web_files.fetch(package, Path(folder))) as archive,
        ):
            stream = archive.extractfile("package/axe.min.js")
            assert stream is not None
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_suffix(f".{os.getpid()}")
            part.write_bytes(stream.read())
            part.rename(place)
    return place.read_text(encoding="utf-8")


def violations(page: Page) -> Any:
    """Return the rules that the page breaks now, each with its elements."""
    page.js(f"window.axe ?? {_source()}; 0")
    return page.js(
        f"axe.run({RULES}).then((found) => found.violations.map((rule) => "
        "[rule.id, rule.nodes.map((n) => n.failureSummary + n.html)]))"
    )


def cut_off(page: Page) -> Any:
    """Return the elements that reach beyond the screen, or hold more than they show."""
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    return page.js(CUT)

"""Look at the site in headless Chromium: every page opened from disk, wide and narrow, light and dark, with axe-core.

usage: python -m tests.docs.look SITE [FOLDER]   (FOLDER gets a picture of each; needs Chromium, and npm for axe-core)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.devices.axe import violations
from tests.devices.chrome import Chrome, chrome

SIZES = {
    "desktop": (1280, 900, False),
    "desktop-dark": (1280, 900, True),
    "phone": (390, 844, False),
    "phone-dark": (390, 844, True),
}
LIVE = "document.querySelectorAll('.live-best li').length === 6"
"""The front page's recommender has answered."""


def faults(browser: Chrome, path: Path, size: str, picture: Path | None = None) -> Iterator[str]:
    """Open a page; yield what axe-core finds, what is wider than the screen, requests and complaints."""
    width, height, dark = SIZES[size]
    browser.events.clear()
    page = browser.open(path.as_uri(), width=width, height=height, dark=dark)
    if page.js("document.getElementById('live') !== null"):
        page.until(LIVE)
    yield from page.complaints()  # before axe-core, which tries to fetch style sheets
    yield from (f"{rule}: {nodes}" for rule, nodes in violations(page))
    if page.js("document.documentElement.scrollWidth > innerWidth"):
        yield "wider than the screen"
    for event in list(browser.events):
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                yield f"requests {url}"
    if picture is not None:
        page.picture(picture)
    browser.ask("Target.closeTarget", targetId=page.ask("Target.getTargetInfo")["targetInfo"]["targetId"])


def main(site: Path, folder: Path | None) -> int:
    """Look at every page in every size, and print what is wrong."""
    found = 0
    with chrome() as browser:
        for path in sorted(site.rglob("*.html")):
            if 'http-equiv="refresh"' in path.read_text().lower():  # a page that leads to another
                continue
            name = path.relative_to(site).with_suffix("").as_posix().replace("/", "-")
            for size in SIZES:
                for fault in faults(browser, path, size, folder / f"{name}.{size}.png" if folder else None):
                    found += 1
                    print(f"{name} {size}: {fault[:1500]}")
    print(f"{found} faults")
    return min(found, 1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None))

"""Photographs the demo's page for the README: on a desktop in the light, on a phone in the dark.

usage, from the repository's root: python -m docs.pictures.demo BUNDLE...   (films, without users; needs Chromium)
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgerec_devices.web.demo_site import demo_site
from edgerec_devices.web.static_site import StaticServer
from tests.devices.chrome import Page, chrome

HERE = Path(__file__).parent
PICKS = ("Star Wars", "Fargo", "Blade Runner")
READY = "document.getElementById('offline').classList.contains('yes')"


def pick(page: Page, title: str) -> None:
    """Search for a title and like it."""
    page.click("#search")
    page.js("document.getElementById('search').select()")
    page.type(title)
    page.until(f"document.querySelector('#found .name')?.textContent === '{title}'")
    page.click("#found li button.like")
    page.until(f"document.getElementById('picks').textContent.includes('{title}')")


def main(bundles: list[Path]) -> None:
    """Write demo.png and demo-phone.png next to this file."""
    with chrome() as browser, StaticServer(demo_site(bundles)) as server:
        page = browser.open(server.address, width=1180, height=1420)
        page.ask("Emulation.setScrollbarsHidden", hidden=True)
        page.until(READY)
        for title in PICKS:
            pick(page, title)
        page.js(
            "const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input')); s.blur()"
        )
        page.until("document.querySelectorAll('#found li').length === 0")
        page.until("document.querySelectorAll('#best li').length === 12")
        page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        page.picture(HERE / "demo.png")
        phone = browser.open(server.address, width=390, height=844, dark=True)
        phone.until(READY)
        phone.until("document.querySelectorAll('#best li').length === 12")
        phone.picture(HERE / "demo-phone.png")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])

"""`--mdns`: what zeroconf finds on loopback is what the server is."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

from edgerec.errors import ServeError
from edgerec.serve.mdns import Announcement
from tests.serve.conftest import Serve


class Found(ServiceListener):
    """The services that are there now, by name."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.add(name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.discard(name)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        pass

    def until(self, names: set[str]) -> None:
        """Wait until this server's services are these; another's may be on the same network."""
        end = time.monotonic() + 60
        while {name for name in self.names if "(test)" in name} != names:
            assert time.monotonic() < end, self.names
            time.sleep(0.05)


def test_things_are_announced_and_withdrawn(serve: Serve, bundle: Path, users: Path) -> None:
    found = Found()
    with Zeroconf(interfaces=["127.0.0.1"]) as network:
        browser = ServiceBrowser(network, "_wot._tcp.local.", found)
        served = serve(f"films={bundle}", f"books={users}", "--name", "Shop (test)", "--mdns")
        names = {f"Shop (test): {name}._wot._tcp.local." for name in ("films", "books")}
        found.until(names)
        for name in names:
            info = network.get_service_info("_wot._tcp.local.", name)
            assert info is not None
            assert info.port == urlsplit(served.url).port
            assert info.parsed_addresses() == ["127.0.0.1"]
            text = {key.decode(): value.decode() for key, value in info.properties.items() if value is not None}
            assert text["type"] == "Thing"
            with urlopen(f"{text['scheme']}://127.0.0.1:{info.port}{text['td']}") as answer:
                assert answer.headers["content-type"] == "application/td+json"
        assert served.stop() == 0
        found.until(set())
        browser.cancel()


def test_a_name_is_no_address() -> None:
    with pytest.raises(ServeError, match=r"--mdns announces an address, and --host pi\.local is a name"):
        Announcement({}, "pi.local", 8080, "http")

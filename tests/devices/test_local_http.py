"""Servers of this machine answer pages of their own address: a name that was made to lead here reads nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from edgerec_devices.web.local_http import is_known
from edgerec_devices.web.server import WebServer
from edgerec_devices.web.static_site import StaticServer


@pytest.fixture(params=["static", "measuring"])
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a page."""
    if request.param == "static":
        with StaticServer({"index.html": b"a page"}) as server:
            yield server.address
    else:
        measuring = WebServer()
        yield measuring.address
        measuring.close()


def status(address: str, *headers: str, method: str = "GET", body: str = "") -> int:
    """What a server answers to a request of these headers alone."""
    place, _, path = address.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    lines = [f"{method} /{path} HTTP/1.1", *headers, f"Content-Length: {len(body)}", "Connection: close", "", body]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def test_only_the_address_itself_is_answered(served: str) -> None:
    port = served.split(":")[2].partition("/")[0]
    found = status(served, f"Host: 127.0.0.1:{port}")
    assert found in (200, 404)  # where there is no page, it is told so
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "127.0.0.1:8080"):
        assert status(served, f"Host: {host}") == found
    for hosts in (["evil.example"], [f"evil.example:{port}"], [f"127.0.0.1.evil.example:{port}"], ["10.0.0.1"], [""]):
        assert status(served, *(f"Host: {host}" for host in hosts)) == 421
    assert status(served, f"Host: 127.0.0.1:{port}", "Host: evil.example") == 421
    assert status(served) == 421


def test_pages_of_other_addresses_ask_for_nothing(served: str) -> None:
    port = served.split(":")[2].partition("/")[0]
    host = f"Host: 127.0.0.1:{port}"
    assert status(served, host, f"Origin: http://127.0.0.1:{port}") in (200, 404)
    for origin in ("http://evil.example", f"http://evil.example:{port}", "null", "http://127.0.0.1:1"):
        assert status(served, host, f"Origin: {origin}") == 421
        assert status(f"{served}answer?id=1", host, f"Origin: {origin}", method="POST", body=json.dumps({})) == 421


def test_a_server_for_other_machines_has_their_names_for_it() -> None:
    assert is_known("192.168.1.7:8000", "0.0.0.0", "0.0.0.0")
    assert is_known("pi.local:8000", "192.168.1.7", "pi.local")
    assert not is_known("pi.local:8000", "127.0.0.1", "127.0.0.1")
    assert not is_known("192.168.1.7:8000", "127.0.0.1", "127.0.0.1")

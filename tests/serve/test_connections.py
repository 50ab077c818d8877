"""Connections: too many, those that never say anything, send or read slowly, and https."""

from __future__ import annotations

import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edgerec.serve import protocol
from tests.serve.conftest import FEEDBACK, OTHER, READ, UPDATE, Client, Serve


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a gateway")]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, private.public_key(), 1, now - timedelta(1), now + timedelta(1))
    cert.write_bytes(made.add_extension(names, False).sign(private, SHA256()).public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, key


def test_too_many_at_once(serve: Serve, bundle: Path) -> None:
    served = serve(f"films={bundle}", "--concurrency", "2", "--rate", "0")
    streams = [served.events("/films/events/modelUpdated") for _ in range(2)]
    assert [next(stream) for stream in streams] == [200, 200]
    answer = served.get("/films/events/patchRefused")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "2 streams of events at once are the most" in answer.value["detail"]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: served.act("recommend", {"k": 50}), range(200)))
    assert {one.status for one in answers} <= {200, 503}
    assert any(one.status == 200 for one in answers)
    for stream in streams:
        stream.close()


def test_clients_that_never_end(serve: Serve, bundle: Path) -> None:
    """Heads and bodies that do not arrive, and a client that goes: the server answers others meanwhile."""
    start = "import runpy, edgerec.serve.protocol as p, edgerec.serve.limits as l; p.HEAD_S = l.BODY_S = 2"
    assert protocol.HEAD_S > 2
    served = serve(f"films={bundle}", program=f"{start}; runpy.run_module('edgerec.serve', run_name='__main__')")
    place = urlsplit(served.url)
    head = f"POST /films/actions/recommend HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    slow: list[socket.socket] = []
    for sent in ("", "POST /fil", head, f"{head}Content-Length: 50\r\n\r\n", f"{head}Content-Length: 50\r\n\r\n{{"):
        one = socket.create_connection((str(place.hostname), place.port or 0), timeout=30)
        one.sendall(sent.encode())
        slow.append(one)
    slow.append(socket.create_connection((str(place.hostname), place.port or 0), timeout=30))
    slow[-1].close()
    assert served.act("recommend").status == 200
    assert [one.recv(12) for one in slow[:3]] == [b"", b"", b""]
    for one in slow[3:5]:
        received = b""
        while part := one.recv(4096):
            received += part
        assert received.startswith(b"HTTP/1.1 408 ")
        one.close()
    assert served.act("recommend").status == 200
    assert served.stop() == 0


def test_a_refused_request_is_read_before_its_end(serve: Serve, bundle: Path, token_file: Path) -> None:
    """Otherwise a client that still sends finds its connection reset, and may never see the answer."""
    place = urlsplit(serve(f"films={bundle}", "--token-file", token_file).url)
    for token, status in ((None, 401), (READ, 413)):
        head = f"POST /films/actions/recommend HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        head += "" if token is None else f"Authorization: Bearer {token}\r\n"
        with socket.create_connection((str(place.hostname), place.port or 0), timeout=30) as one:
            one.sendall(f"{head}Content-Length: 2000000\r\n\r\n".encode())
            received = one.recv(65536)
            assert received.startswith(f"HTTP/1.1 {status} ".encode())
            for _ in range(20):
                one.sendall(bytes(100_000))
            one.sendall(f"GET /healthz HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
            while part := one.recv(65536):  # it is the same connection
                received += part
            assert b"HTTP/1.1 200 " in received
        with socket.create_connection((str(place.hostname), place.port or 0), timeout=30) as one:
            one.sendall(f"{head}Content-Length: 9000000\r\nExpect: 100-continue\r\n\r\n".encode())
            received = b""
            while part := one.recv(65536):  # nothing else is waited for
                received += part
            assert received.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_client_that_reads_nothing_is_given_up(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name, size in (("index.html", 1), ("worker.mjs", 1), ("large.wasm", 64 << 20)):
        (site / name).write_bytes(bytes(size))
    start = "import runpy, edgerec.serve.protocol as p; p.WRITE_S = 1"
    program = f"{start}; runpy.run_module('edgerec.serve', run_name='__main__')"
    served = serve(f"films={bundle}", "--page", site, program=program)
    place = urlsplit(served.url)
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=60) as one:
        one.sendall(f"GET /films/page/large.wasm HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        time.sleep(5)
        received = 0
        with suppress(ConnectionResetError):
            while part := one.recv(1 << 20):
                received += len(part)
    assert received < 64 << 20
    assert len(served.get("/films/page/large.wasm").raw) == 64 << 20


def test_silent_connections_are_counted_before_tls(serve: Serve, bundle: Path, certificate: tuple[Path, Path]) -> None:
    """They take half of the files that the process may open, and are closed when the time of a handshake is over."""
    cert, key = certificate
    start = "import resource as r, runpy, edgerec.serve.protocol as p; p.HANDSHAKE_S = 8"
    start += "; r.setrlimit(r.RLIMIT_NOFILE, (240, 240)); runpy.run_module('edgerec.serve', run_name='__main__')"
    served = serve(f"films={bundle}", "--cert", cert, "--key", key, program=start)
    place, context = urlsplit(served.url), ssl.create_default_context(cafile=str(cert))
    with ExitStack() as stack:
        silent = [socket.create_connection((str(place.hostname), place.port or 0), timeout=60) for _ in range(300)]
        for one in silent:
            stack.enter_context(one)
        assert {one.recv(1) for one in silent[120:]} == {b""}  # those beyond the limit, at once
        assert len([*Path(f"/proc/{served.process.pid}/fd").iterdir()]) < 160
        assert {one.recv(1) for one in silent[:120]} == {b""}
    with urlopen(f"{served.url}films", context=context) as response:
        assert json.load(response)["base"] == served.url


def test_one_client_cannot_take_all_connections(serve: Serve, bundle: Path, token_file: Path) -> None:
    start = "import resource as r, runpy, edgerec.serve.protocol as p; p.HEAD_S = 300"
    program = (
        f"{start}; r.setrlimit(r.RLIMIT_NOFILE, (200, 200)); runpy.run_module('edgerec.serve', run_name='__main__')"
    )
    served = serve(f"films={bundle}", "--host", "0.0.0.0", "--token-file", token_file, program=program)
    place = "127.0.0.1", urlsplit(served.url).port or 0
    with ExitStack() as stack:
        mine = [socket.create_connection(place, 60, ("127.0.0.2", 0)) for _ in range(150)]
        for one in mine:
            stack.enter_context(one)
        assert {one.recv(1) for one in mine[50:]} == {b""}
        assert Client(f"http://127.0.0.1:{place[1]}/").get("/healthz").status == 200


def test_a_token_has_its_share_of_the_streams(serve: Serve, bundle: Path, token_file: Path) -> None:
    """Four tokens of the file may read."""
    served = serve(f"films={bundle}", "--concurrency", "8", "--token-file", token_file)
    path = "/films/events/modelUpdated"
    greedy = [served.holding(READ).events(path) for _ in range(2)]
    assert [next(stream) for stream in greedy] == [200, 200]
    connection = served.connection()
    connection.request("GET", path, headers=served.holding(READ).headers({}))
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("retry-after")) == (503, "1")
    assert "2 streams of events at once are the most of one token" in json.load(answer)["detail"]
    others = [served.holding(token).events(path) for token in (FEEDBACK, OTHER, UPDATE) for _ in range(2)]
    assert [next(stream) for stream in others] == [200] * 6
    for stream in [*greedy, *others]:
        stream.close()


def test_https(serve: Serve, bundle: Path, token_file: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    served = serve(f"films={bundle}", "--cert", cert, "--key", key, "--token-file", token_file)
    assert served.url.startswith("https://127.0.0.1:")
    with urlopen(f"{served.url}films", context=ssl.create_default_context(cafile=str(cert))) as response:
        assert json.load(response)["base"] == served.url

"""The real server on loopback, in a process of its own, and a small client."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgerec.errors import EdgeRecError
from edgerec.runtime.stored import pack
from edgerec.serve import serve as run
from edgerec.serve.settings import parsed
from edgerec.signatures import new_key
from edgerec_export import ExportRequest, export
from edgerec_export.patch import diff
from tests.conftest import history_source
from tests.patches import Kind, bundles

READ, FEEDBACK, UPDATE = "read-0123456789abcdef", "feedback-0123456789abcdef", "update-0123456789abcdef"
OTHER = "other-0123456789abcdef"
TOKENS = f"# the tests' own\nread {READ}\nread,feedback {FEEDBACK}\nread,feedback {OTHER}\n\nread,update {UPDATE}\n"


class Answer(SimpleNamespace):
    """Status, headers, raw body, and the value of the body."""

    status: int
    headers: dict[str, str]
    raw: bytes
    value: Any


@dataclass
class Client:
    """A client of a server, on one connection for each request."""

    url: str
    token: str | None = None

    def connection(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=timeout)

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        return {**({} if self.token is None else {"Authorization": f"Bearer {self.token}"}), **more}

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = self.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, self.headers(named))
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        value = json.loads(raw) if "json" in found.get("content-type", "") and raw else None
        return Answer(status=response.status, headers=found, raw=raw, value=value)

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def act(self, action: str, given: Any = None, **headers: str) -> Answer:
        """Invoke an action of 'films', or of the Thing that a path begins with."""
        path = f"/films/actions/{action}" if "/" not in action else action
        body = None if given is None else json.dumps(given).encode()
        return self.call("POST", path, body, **{"Content_Type": "application/json", **headers})

    def patch(self, content: bytes) -> Answer:
        return self.call("POST", "/films/actions/applyPatch", content, Content_Type="application/octet-stream")

    def holding(self, token: str | None) -> Client:
        return Client(self.url, token)

    def events(self, path: str) -> Iterator[Any]:
        """Yield the values of a stream; the first item is the status, once it is open."""
        connection = self.connection()
        connection.request("GET", path, headers=self.headers({"Accept": "text/event-stream"}))
        response = connection.getresponse()
        assert response.getheader("content-type", "").startswith("text/event-stream")
        yield response.status
        for line in response:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
            assert line.startswith((b"data: ", b": ")) or not line.strip()  # no names, no ids
        connection.close()


@dataclass
class Served(Client):
    """A running server.

    Attributes:
        log: the lines that it has written, each a JSON object.
    """

    process: subprocess.Popen[str] = field(kw_only=True)
    log: list[str] = field(kw_only=True)
    reader: threading.Thread = field(kw_only=True)

    def stop(self) -> int:
        """Stop it gracefully, and return its exit status."""
        self.process.terminate()
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        status = self.process.wait(60)
        self.reader.join(60)
        return status


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundles without users, two of one catalogue with titles and genres, and the patches between."""
    folder = tmp_path_factory.mktemp("films")
    kind = Kind(ExportRequest(verify=False, titles=True), subject="linear", titles=True, genres=True)
    old, new = bundles(kind, folder)
    diff(old, new, folder / "there.patch")
    diff(new, export(history_source(150), folder / "third.bundle", verify=False).folder, folder / "further.patch")
    return folder


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with users and text ids of items."""
    return bundles(Kind(ExportRequest(verify=False), ids="str"), tmp_path_factory.mktemp("users"))[0]


@pytest.fixture
def bundle(films: Path, tmp_path: Path) -> Path:
    """A copy of the old bundle, to be changed."""
    return Path(shutil.copytree(films / "old.bundle", tmp_path / "films.bundle"))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    path.chmod(0o600)
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers, whose state is in `tmp_path`; they are killed at the end."""
    with Serving(tmp_path / "state") as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers for all tests of a module."""
    with Serving(tmp_path_factory.mktemp("serve") / "state") as start:
        yield start


class Serving:
    def __init__(self, state: Path) -> None:
        self.state, self.started = state, list[Served]()

    def __enter__(self) -> Serve:
        return self.start

    def __exit__(self, *_: object) -> None:
        for one in self.started:
            one.kill()

    def start(self, *arguments: str | Path, program: str = "", **options: Any) -> Served:
        """Start a server; `program` is run instead of the module."""
        run = ["-c", program] if program else ["-m", "edgerec.serve"]
        command = [sys.executable, *run, *map(str, arguments), "--port", "0", "--state", str(self.state)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        assert process.stdout is not None
        assert process.stderr is not None
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
        reader.start()
        url = process.stdout.readline().strip()
        served = Served(url, process=process, log=log, reader=reader)
        self.started.append(served)
        assert url, (process.wait(60), log)
        return served


def sha256(client: Client) -> str:
    found: str = client.get("/films/properties/model").value["sha256"]
    return found


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within a minute")


def refused(*arguments: str | Path) -> str:
    """Start a server that cannot start, here, and return the message of its named error."""
    with pytest.raises(EdgeRecError) as found:
        run(parsed([*map(str, arguments)]), lambda url: pytest.fail(f"it serves on {url}"))
    message = str(found.value)
    assert message.count("\n") == 0
    return message


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles signed by `mine`, with the rollback indexes 2, 3 and 1, the first two with a patch between them."""
    folder = tmp_path_factory.mktemp("signed")
    new_key(folder / "mine")
    new_key(folder / "other")
    for name, index, key in (("two", 2, "mine"), ("three", 3, "mine"), ("one", 1, "mine"), ("foreign", 9, "other")):
        export(history_source(100, seed=index), folder / name, verify=False, sign=folder / key, rollback_index=index)
        pack(folder / name, folder / f"{name}.edgerec")
    diff(folder / "two", folder / "three", folder / "two-three.patch")
    return folder

"""Rights of tokens, limits of requests, and requests that come from elsewhere."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgerec.files import locked
from edgerec.serve.limits import Rates, RefusedError, client_of
from edgerec.signatures import new_key
from tests.serve.conftest import FEEDBACK, OTHER, READ, UPDATE, Serve, Served, refused, until


@pytest.fixture
def guarded(serve: Serve, bundle: Path, token_file: Path) -> Served:
    return serve(f"films={bundle}", "--token-file", token_file)


def item_of(served: Served) -> int:
    found: int = served.act("recommend").value["items"][0]["item"]
    return found


def test_each_right_is_its_own(guarded: Served) -> None:
    """Statuses of a reader, one who gives feedback, one who updates, an unknown token and none."""
    tokens = (READ, FEEDBACK, UPDATE, "unknown-0123456789abcdef", None)
    one = {"session": "a", "item": item_of(guarded.holding(READ))}
    for method, path, given, statuses in (
        ("GET", "/healthz", None, (200, 200, 200, 200, 200)),
        ("GET", "/.well-known/wot", None, (200, 200, 200, 200, 200)),
        ("GET", "/films", None, (200, 200, 200, 200, 200)),
        ("GET", "/models/recommender", None, (200, 200, 200, 200, 200)),
        ("GET", "/things", None, (200, 200, 200, 401, 401)),
        ("GET", "/metrics", None, (200, 200, 200, 401, 401)),
        ("GET", "/films/properties/model", None, (200, 200, 200, 401, 401)),
        ("HEAD", "/films/properties/model/observe", None, (200, 200, 200, 401, 401)),
        ("HEAD", "/films/events/modelUpdated/poll", None, (200, 200, 200, 401, 401)),
        ("POST", "/films/actions/recommend", {}, (200, 200, 200, 401, 401)),
        ("POST", "/films/actions/feedback", one, (403, 200, 403, 401, 401)),
        ("POST", "/films/actions/history", {"session": "a"}, (403, 200, 403, 401, 401)),
        ("POST", "/films/actions/forget", {"session": "a"}, (403, 200, 403, 401, 401)),
        ("POST", "/films/actions/applyPatch", "bm9uZQ==", (403, 403, 409, 401, 401)),
        ("POST", "/films/actions/undo", None, (403, 403, 409, 401, 401)),
    ):
        body = None if given is None else json.dumps(given).encode()
        for token, status in zip(tokens, statuses, strict=True):
            answer = guarded.holding(token).call(method, path, body, Content_Type="application/json")
            assert answer.status == status, (method, path, token)
            assert ("www-authenticate" in answer.headers) == (status == 401)
            assert guarded.url not in answer.headers.get("location", "")
    for header in ("Bearer", "Bearer ", f"Basic {READ}", f"Bearer {READ} {READ}", f"bearer {READ}x", "é"):
        answer = guarded.call("GET", "/films/properties/model", Authorization=header.encode().decode("latin-1"))
        assert answer.status == 401, header
    assert guarded.call("GET", "/films/properties/model", Authorization=f"bearer {READ}").status == 200


def test_a_session_is_its_tokens_alone(guarded: Served, tmp_path: Path) -> None:
    mine, other = guarded.holding(FEEDBACK), guarded.holding(OTHER)
    item = item_of(mine)
    mine.act("feedback", {"session": "anna", "item": item})
    assert other.act("history", {"session": "anna"}).value["items"] == []
    assert other.act("forget", {"session": "anna"}).status == 200
    ordinary = other.act("recommend", {"k": 3}).value
    assert other.act("recommend", {"session": "anna", "k": 3}).value == ordinary
    assert guarded.holding(READ).act("recommend", {"session": "anna", "k": 3}).value == ordinary
    assert mine.act("history", {"session": "anna"}).value["items"] == [item]
    (file,) = (tmp_path / "state" / "sessions").rglob("*.json")
    assert json.loads(file.read_text()) == {"format": "edgerec.history", "version": 1, "items": [item]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, file.parent.parent, tmp_path / "state" / "sessions", tmp_path / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert not {FEEDBACK, "anna"} & set(str(file).split("/"))
    mine.act("forget", {"session": "anna"})
    assert not file.exists()


def test_settings_that_are_refused(bundle: Path, token_file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("read short\n")
    short.chmod(0o600)
    none = tmp_path / "none"
    none.write_text("update 0123456789abcdef0123456789\n")
    none.chmod(0o600)
    for arguments, message in (
        ((bundle, "--host", "0.0.0.0"), "anybody could use it; give --token-file"),
        ((bundle, "--host", "::"), "anybody could use it; give --token-file"),
        ((bundle, "--behind-proxy", "https://example.org"), "anybody could use it; give --token-file"),
        ((bundle, "--behind-proxy", "example.org", "--token-file", token_file), "is no URL"),
        ((bundle, "--token-file", short), "line 1, is not 'RIGHTS TOKEN'"),
        ((bundle, "--token-file", none), "no token of"),
        ((bundle, "--token-file", tmp_path / "missing"), "check the name"),
        ((bundle, "--cert", bundle), "--cert and --key belong together"),
        ((bundle, "--cert", token_file, "--key", token_file), "cannot be used"),
        ((f"healthz={bundle}",), "cannot be a Thing's name"),
        ((f"Films={bundle}",), "cannot be a Thing's name"),
        ((bundle, bundle), "two bundles are named 'films'"),
        ((bundle, "--port", "70000"), "there is no port 70000"),
        ((bundle, "--host", "203.0.113.7", "--token-file", token_file), "cannot listen on 203.0.113.7:8080"),
        ((tmp_path / "nothing.bundle",), "nothing.bundle"),
        ((bundle, "--trusted", new_key(tmp_path / "key")), "is not signed"),
        ((bundle, "--watch", "http://127.0.0.1/a.patch"), "needs --trusted"),
        ((bundle, "--watch", tmp_path, "--watch", tmp_path), "one place for each"),
        ((bundle, "--page", tmp_path), "holds no page"),
        ((bundle, "--cors", "null"), "is no origin"),  # of any page in a frame of its own, or in a file
        ((bundle, "--cors", "*"), "is no origin"),
        ((bundle, "--cors", "https://example.org/page"), "is no origin"),
    ):
        assert message in refused(*arguments, "--state", tmp_path / "state"), arguments
    (tmp_path / "state" / "watched").mkdir(exist_ok=True)
    (tmp_path / "state" / "watched" / "films.json").write_text('["')
    assert "films.json is damaged" in refused(bundle, "--watch", tmp_path, "--state", tmp_path / "state")
    command = [sys.executable, "-m", "edgerec.serve", str(bundle), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    token_file.chmod(0o640)
    assert "others on this machine can read" in refused(bundle, "--token-file", token_file)


def test_pages_and_names_of_others_are_refused(serve: Serve, bundle: Path) -> None:
    served = serve(f"films={bundle}", "--cors", "https://friend.example")
    host = urlsplit(served.url).netloc
    port = host.rpartition(":")[2]
    for name, status in (
        (host, 200),
        (f"localhost:{port}", 200),
        (f"[::1]:{port}", 200),
        (f"evil.example:{port}", 421),
        ("192.168.1.7", 421),
        ("", 421),
        ("a b", 421),
    ):
        assert served.call("GET", "/films", Host=name).status == status, name
    for origin, status in (
        (f"http://{host}", 200),
        ("https://friend.example", 200),
        ("https://evil.example", 403),
        (f"https://{host}", 403),
        ("null", 403),
    ):
        answer = served.act("recommend", {}, Origin=origin)
        assert answer.status == status, origin
        allowed = answer.headers.get("access-control-allow-origin")
        assert (allowed == origin) == (origin == "https://friend.example")
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    path = "/films/actions/recommend"
    assert served.call("OPTIONS", path, Origin="https://friend.example", **asked).status == 200
    assert served.call("OPTIONS", path, Origin="https://evil.example", **asked).status == 403


def test_behind_a_proxy(serve: Serve, bundle: Path, token_file: Path) -> None:
    proxy = ("--token-file", token_file, "--behind-proxy", "https://example.org/things/")
    served = serve(f"films={bundle}", *proxy)
    td = served.get("/films", Host="example.org").value
    assert td["base"] == "https://example.org/things/"
    assert served.get("/films", Host="evil.example").status == 421
    mine = served.holding(READ)
    assert mine.act("recommend", {}, Origin="https://example.org", Host="example.org").status == 200
    assert mine.act("recommend", {}, Origin="https://evil.example", Host="example.org").status == 403


def test_too_many_requests(serve: Serve, bundle: Path) -> None:
    served = serve(f"films={bundle}", "--rate", "0.5")
    answers = [served.act("recommend") for _ in range(5)]
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 429}
    last = next(answer for answer in answers if answer.status == 429)
    assert int(last.headers["retry-after"]) >= 1
    assert last.value["detail"] == "more than 0.5 requests a second; send fewer"


def test_clients_are_counted_apart() -> None:
    rates = Rates(2)
    for client in ("a", "b"):
        for _ in range(4):
            rates.take(client, 10)
        with pytest.raises(RefusedError):
            rates.take(client, 10)
    rates.take("a", 10.5)
    with pytest.raises(RefusedError):
        rates.take("a", 10.5)
    rates.take("c", 10)
    addresses = ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1", "::ffff:192.0.2.1", "192.0.2.1", "?")
    assert [client_of(one) for one in addresses] == [
        *("2001:db8:1:2::/64", "2001:db8:1:2::/64", "2001:db8:1:3::/64", "192.0.2.1", "192.0.2.1", "")
    ]
    assert client_of("fe80::1") != client_of("fe80::2")


def test_a_task_that_fails_ends_nothing_else(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    """No broker can have this name, which is found out late."""
    served = serve(
        f"films={bundle}", "--mqtt", f"mqtt://{'a' * 70}.example", "--watch", tmp_path, "--watch-every", "0.1"
    )
    (tmp_path / "damaged.patch").write_bytes(b"none")
    os.utime(tmp_path / "damaged.patch", (1_700_000_000, 1_700_000_000))
    for _ in range(600):
        if any("update refused" in line for line in served.log):
            break
        time.sleep(0.1)
    assert served.stop() == 0
    events = [json.loads(line)["event"] for line in served.log]
    assert (events.count("task failed"), events.count("update refused")) == (1, 1)


def test_a_slow_disk_delays_no_recommendation(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    """Feedback waits for the lock of its folder, as it would for a disk; what is too much of it is refused."""
    served = serve(f"films={bundle}", "--concurrency", "16")
    one = {"session": "a", "item": item_of(served)}
    assert served.act("feedback", one).status == 200
    (folder,) = (tmp_path / "state" / "sessions" / "films").iterdir()
    with ThreadPoolExecutor(12) as pool:
        with locked(folder):
            waiting = [pool.submit(served.act, "feedback", one) for _ in range(12)]
            until(lambda: sum(one.done() for one in waiting) == 8)
            assert served.act("recommend").status == 200
        assert sorted(one.result().status for one in waiting) == [200] * 4 + [503] * 8


def test_nothing_of_a_user_is_logged(serve: Serve, bundle: Path, token_file: Path) -> None:
    served = serve(f"films={bundle}", "--token-file", token_file, "--access-log")
    mine = served.holding(FEEDBACK)
    item = item_of(mine)
    mine.act("feedback", {"session": "secret-session", "item": item})
    mine.act("recommend", {"session": "secret-session", "history": ["secret-history"]})
    mine.get("/films/properties/model?secret-query=1", X_Secret="secret-header")
    mine.get("/secret-path")
    served.holding("secret-token-0123456789abcdef").get("/metrics")
    assert served.stop() == 0
    lines = [json.loads(line) for line in served.log]
    assert [line["event"] for line in lines if line["event"] != "request"] == ["listening", "stopped"]
    assert {"thing": "films", "of": "actions/feedback", "status": 200}.items() <= lines[2].items()
    text = "".join(served.log)
    assert "secret" not in text
    assert FEEDBACK not in text
    assert "127.0.0.1" not in text.replace(served.url, "")
    assert time.strptime(lines[0]["time"][:19], "%Y-%m-%dT%H:%M:%S")

"""Attack on a server: mutated requests, wrong tokens, clients that are slow or leave; nothing may break or leak.

usage: python -m bench.experiments.serve_attack [--requests 10000] [--seed 0] [--out result.json]

Sixteen clients send at once. Each request begins as a valid one of any endpoint, with a token of any right, an unknown
one or none. One or two of the mutations below change it, and a tenth of the clients end their side first. An answer is
a fault if its status is 5xx but not 503; if it, or the server's log, holds a token, a path of the machine, a traceback
or the content of a file next to the bundle; or if none comes to a request that is complete. At the end the server must
answer as before. A hundred connections with half a request must not keep it from others.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.serve_world import World, exchange, history_bundles, http_request, world
from edgerec.console import messages, print_table
from edgerec.runtime import Recommender
from edgerec_export import diff

SECRET = "content-of-a-file-next-to-the-bundle"
ITEMS = 2000
WORDS: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1.5, 1e308, "", "a", "../../tokens", "\x00", "é" * 40, "x" * 300,
    [], {}, [[]], [None], {"a": 1}, ["../tokens"], list(range(2000)), {"": []},
)  # fmt: skip
PATHS = (
    "/../tokens", "/films/../../tokens", "/films/page/../../tokens", "/%2e%2e/tokens", "/films/page/%2e%2e%2ftokens",
    "/films/page/bundle/0/../tokens", "//etc/passwd", "/films/page//etc/passwd", "/..%5ctokens", "/films/page/%00",
    "/films/properties/__class__", "/films/actions/__init__", "/films/actions/", "/films/events/../../tokens", "*",
    "http://127.0.0.1/tokens", "/\xc3\xa9", "/films?k=" + "x" * 500, "/" + "a" * 5000, "/films/actions/recommend/..",
)  # fmt: skip
HEADERS = (
    "Host: evil.example", "Host: ", "Origin: https://evil.example", "Origin: null", "Content-Length: -1",
    "Content-Length: 99999999999", "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip",
    "Content-Type: text/plain", "Content-Type: ", "Expect: 100-continue", "Connection: close", "Upgrade: websocket",
    "Range: bytes=0-5", "Range: bytes=5-0,-1", "If-None-Match: *", "If-None-Match: " + "a" * 2000,
    "Authorization: Bearer", "Authorization: Basic YTpi", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example",
    "X-Long: " + "a" * 40_000, "Cookie: a=b", "Content-Encoding: gzip", "Bad Header: 1", " : ", "\x00: 1",
)  # fmt: skip
Mutation = Callable[[np.random.Generator, bytes], bytes]


def valid(rng: np.random.Generator, world: World, items: list[Any], patch: bytes) -> bytes:
    """Return a valid request of any endpoint, by a client of any right."""
    some = [items[at] for at in rng.integers(0, len(items), 3)]
    who = {"session": f"s{rng.integers(5)}"}
    actions: dict[str, Any] = {
        "recommend": {"history": some, "k": int(rng.integers(1, 30))},
        "similar": {"item": some[0]},
        "score": {**who, "items": some},
        "feedback": {**who, "item": some[0]},
        "history": who,
        "forget": who,
        "undo": None,
    }
    gets = ["/", "/films", "/.well-known/wot", "/things", "/healthz", "/metrics", "/models/recommender"]
    gets += ["/films/properties/model", "/films/properties/stats"]
    token = ([*world.tokens, None, "f" * 32])[int(rng.integers(5))]
    host = f"{world.address[0]}:{world.address[1]}"
    choice = int(rng.integers(20))
    if choice < 6:
        return http_request("GET", gets[int(rng.integers(len(gets)))], host, token=token)
    if choice == 6:
        return http_request("POST", "/films/actions/applyPatch", host, patch, token, "application/octet-stream")
    name = list(actions)[int(rng.integers(len(actions)))]
    body = b"" if actions[name] is None else json.dumps(actions[name]).encode()
    return http_request("POST", f"/films/actions/{name}", host, body, token)


def flipped(rng: np.random.Generator, sent: bytes) -> bytes:
    """Change up to four bytes."""
    found = bytearray(sent)
    for at in rng.integers(0, len(found), rng.integers(1, 5)):
        found[at] = rng.integers(256)
    return bytes(found)


def cut(rng: np.random.Generator, sent: bytes) -> bytes:
    """Cut the end off."""
    return sent[: rng.integers(len(sent))]


def longer(rng: np.random.Generator, sent: bytes) -> bytes:
    """Append bytes, or another request."""
    return sent + (sent if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 3000))))


def another_path(rng: np.random.Generator, sent: bytes) -> bytes:
    """Request another path."""
    method, _, rest = sent.partition(b" ")
    path = PATHS[int(rng.integers(len(PATHS)))].encode("latin-1")
    return b" ".join([method, path, rest.partition(b" ")[2]])


def another_method(rng: np.random.Generator, sent: bytes) -> bytes:
    """Use another method."""
    methods = (b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"get", b"POST", b"GET", b"\xff")
    return methods[int(rng.integers(len(methods)))] + b" " + sent.partition(b" ")[2]


def another_header(rng: np.random.Generator, sent: bytes) -> bytes:
    """Add a header, before the others or after them."""
    line = HEADERS[int(rng.integers(len(HEADERS)))].encode("latin-1") + b"\r\n"
    head, _, body = sent.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    lines = [first, b"\r\n", line, rest] if rng.random() < 0.5 else [head, b"\r\n", line[:-2]]
    return b"".join([*lines, b"\r\n\r\n", body])


def another_value(rng: np.random.Generator, sent: bytes) -> bytes:
    """Replace a member of the body, add one, or replace the whole body; its length is right."""
    head, _, body = sent.partition(b"\r\n\r\n")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    word = WORDS[int(rng.integers(len(WORDS)))]
    if isinstance(given, dict) and given and rng.random() < 0.8:
        names = [*given, "k", "session", "exclude", "allow", "onUnknown", "user", "unknown"]
        given[names[int(rng.integers(len(names)))]] = word
    else:
        given = word
    text = json.dumps(given).encode()
    if rng.random() < 0.1:
        text = (b"[" * 50_000, b'{"k":' * 20_000, b'{"k": NaN}', b"\xff\xfe", b"9" * 10_000, b" " * 300_000)[
            int(rng.integers(6))
        ]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(text)]) + b"\r\n\r\n" + text


def another_token(rng: np.random.Generator, sent: bytes) -> bytes:
    """Change the token, or leave out the header."""
    lines = sent.split(b"\r\n")
    for at, line in enumerate(lines):
        if line.startswith(b"Authorization"):
            lines[at] = (line[:-1] + b"0", line + b" x", line.replace(b"Bearer", b"Token"), b"A: b")[
                int(rng.integers(4))
            ]
    return b"\r\n".join(lines)


MUTATIONS: dict[str, Mutation] = {
    "none": lambda _, sent: sent,
    "bytes flipped": flipped,
    "cut": cut,
    "longer": longer,
    "another path": another_path,
    "another method": another_method,
    "another header": another_header,
    "another value": another_value,
    "another token": another_token,
}
CLIENTS = 16
WHOLE_S, SLOW_S = 20.0, 0.3
"""Seconds to wait for the answer to a request that is complete, and to one that need not be."""
COMPLETE = ("none", "another path", "another value", "another token")
"""Mutations after which a request is complete, so that an answer must come."""


@dataclass(frozen=True)
class Attacker:
    """Sends mutated requests to a server.

    Attributes:
        items: ids of the bundle's items.
        patch: a patch that the bundle takes.
        hidden: texts that no answer may hold, unless the request does.
    """

    world: World
    items: list[Any]
    patch: bytes
    seed: int
    hidden: list[str]

    def send(self, number: int) -> tuple[str, str, dict[str, Any] | None]:
        """Send a request, determined by its number and the seed.

        Returns:
            the last mutation, the status or 'none', and the fault or None.
        """
        rng, names = np.random.default_rng([self.seed, number]), list(MUTATIONS)
        sent, chosen = (
            valid(rng, self.world, self.items, self.patch),
            [names[at] for at in rng.integers(0, len(names), 2)],
        )
        for name in chosen:
            sent = MUTATIONS[name](rng, sent or b"\r\n")
        whole = set(chosen) <= {*COMPLETE}
        got = exchange(self.world.address, sent, timeout_s=WHOLE_S if whole else SLOW_S, half=rng.random() < 0.1)
        status = got[9:12].decode(errors="replace") if got.startswith(b"HTTP/1.") else "none"
        shown = got.decode(errors="replace")
        leaked = [one for one in self.hidden if one in shown and one.encode() not in sent]
        if leaked or (status.startswith("5") and status != "503") or (status == "none" and whole):
            return chosen[-1], status, {"number": number, "mutations": chosen, "status": status, "leaked": len(leaked)}
        return chosen[-1], status, None


def attack(world: World, bundle: Path, patch: bytes, requests: int, seed: int) -> Figures:
    """Send mutated requests from `CLIENTS` clients at once, and return what became of them, with the faults."""
    model = Recommender.load(bundle)
    items, before = model.item_ids(range(50)), model.sha256
    hidden = [*world.tokens, str(world.folder), str(Path(__file__).parents[2]), "Traceback", SECRET]
    answers, faults = Counter[tuple[str, str]](), list[dict[str, Any]]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for name, status, fault in pool.map(Attacker(world, items, patch, seed, hidden).send, range(requests)):
            answers[name, status if status in ("none", "503") else f"{status[:1]}xx"] += 1
            faults += [] if fault is None else [fault]
    if world.process.poll() is not None:
        faults.append({"status": "the server is gone"})
    return {**_after(world, bundle, before, items, faults), "rows": _rows(answers)}


def _after(world: World, bundle: Path, before: str, items: list[Any], faults: list[dict[str, Any]]) -> Figures:
    """Return the faults, also those that show at the end: other answers, another bundle, a log that leaks."""
    host = f"{world.address[0]}:{world.address[1]}"
    body = json.dumps({"history": items[:3], "k": 5}).encode()
    got = exchange(world.address, http_request("POST", "/films/actions/recommend", host, body, world.tokens[0]))
    answer = json.loads(got.partition(b"\r\n\r\n")[2] or b"{}")
    model = Recommender.load(bundle)
    expected = [one.item for one in model.recommend(history=items[:3], k=5)]
    if [one["item"] for one in answer.get("items", [])] != expected or answer.get("model") != model.sha256:
        faults.append({"status": "another answer at the end"})
    log = "".join(world.log)
    if any(one in log for one in (*world.tokens, SECRET, "Traceback")):
        faults.append({"status": "the log leaks"})
    failures = log.count('"event": "failed"')
    return {
        "faults": faults,
        "failures_in_log": failures,
        "patched": model.sha256 != before,
        "rss_kib": world.rss_kib(),
    }


def _rows(answers: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    statuses = ("1xx", "2xx", "3xx", "4xx", "503", "5xx", "none")
    return [{"mutation": name, **{status: answers[name, status] for status in statuses}} for name in MUTATIONS]


def slow_clients(world: World, clients: int) -> int:
    """Open connections that send half a request, and return how many answers others got meanwhile."""
    held = []
    for number in range(clients):
        connection = socket.create_connection(world.address, timeout=10)
        connection.sendall(
            b"POST /films/actions/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"[: number % 90]
        )
        held.append(connection)
    host = f"{world.address[0]}:{world.address[1]}"
    request = http_request("GET", "/healthz", host)
    answered = sum(exchange(world.address, request).startswith(b"HTTP/1.1 200") for _ in range(20))
    for connection in held:
        connection.close()
    return answered


COLUMNS = ("last mutation", "answered", "redirected", "refused", "no answer")


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells; '1xx' is a client's wait for 100 Continue."""
    counts = (row["1xx"] + row["2xx"], row["3xx"], row["4xx"] + row["503"], row["none"])
    return [row["mutation"], *map(str, counts)]


@experiment("serve-attack")
@click.option("--requests", default=10_000, show_default=True, help="Number of requests.")
@click.option("--seed", default=0, show_default=True, help="Seed of the requests.")
def main(requests: int, seed: int) -> Figures:
    """Attack a server with mutated requests."""
    with tempfile.TemporaryDirectory(prefix="edgerec-attack-") as scratch:
        figures = run_attack(Path(scratch), requests, seed)
    print_table("requests by the last mutation", COLUMNS, map(cells, figures["rows"]))
    messages.print(f"{len(figures['faults'])} faults")
    return figures


def run_attack(folder: Path, requests: int, seed: int) -> Figures:
    """Serve a bundle from `folder`, with files next to it that nobody may get, and attack it."""
    (folder / "secret.txt").write_text(SECRET)
    bundle, other = history_bundles(folder, ITEMS, 2)
    diff(bundle, other, folder / "patch")
    started = time.monotonic()
    with world(folder, bundle, "--rate", "0") as served:
        others = slow_clients(served, 100)
        figures = attack(served, bundle, (folder / "patch").read_bytes(), requests, seed)
    if others != 20:
        figures["faults"].append({"status": f"{others} of 20 others were answered next to slow clients"})
    return {**figures, "requests": requests, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    main()

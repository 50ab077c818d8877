"""Load of a server: throughput and times next to the bare runtime and a FastAPI app, and answers while patches arrive.

usage: python -m bench.experiments.serve_load [--minutes 10] [--connections 32] [--every 5] [--out result.json]

One request is sent again and again, over connections that stay open: ten items for a history of ten, with titles.
First the contenders are measured in rounds, interleaved: the bare `Recommender`, called in a process of its own by one
thread; `edgerec serve`; and `serve_tutorial`, under uvicorn. Both servers run all the time, and one of them is idle.
Where other work shares the processors, the processor time of an answer is what compares contenders.
Then `edgerec serve` answers for minutes, while a patch is applied or undone every few seconds; each answer must be, in
all ids, titles and scores, that of one of the two versions. Memory is flat if the median of the last tenth of the
readings, one a second, equals that of the second tenth. The client is a process of its own (this one), on the same
machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.serve_world import World, exchange, history_bundles, http_request, world
from edgerec.console import messages, print_table
from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec_export import diff

ITEMS, HISTORY, K = 10_000, 10, 10
BARE = """
import json, sys, time
from edgerec import Recommender
model, history = Recommender.load(sys.argv[1]), json.loads(sys.argv[2])
def ask():
    return [(one.item, one.score, model.title(one.item)) for one in model.recommend(history=history, k=10)]
for _ in range(50):
    ask()
times, end, before = [], time.perf_counter() + float(sys.argv[3]), time.process_time()
while (now := time.perf_counter()) < end:
    ask()
    times.append(time.perf_counter() - now)
print(json.dumps({"seconds": times, "cpu_s": time.process_time() - before}))
"""
"""The program that calls the bare runtime."""


@dataclass
class Load:
    """Answers to one request.

    Attributes:
        seconds: time of each answer.
        answers: number of answers by head and body, without the date.
    """

    seconds: list[float] = field(default_factory=list)
    answers: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    lost: int = 0

    def figures(self, wall_s: float, cpu_s: float | None = None) -> dict[str, float]:
        """Return answers a second, percentiles of their times, and the processor time of one if it is given."""
        return _figures(self.seconds, wall_s, cpu_s)


def _figures(seconds: list[float], wall_s: float, cpu_s: float | None = None) -> dict[str, float]:
    times = 1e3 * np.array(seconds)
    p50, p99 = np.percentile(times, [50, 99]).tolist() if len(times) else (0.0, 0.0)
    cpu = {} if cpu_s is None else {"cpu_ms": 1e3 * cpu_s / max(1, len(times))}
    return {"per_second": len(seconds) / wall_s, "p50_ms": p50, "p99_ms": p99, **cpu}


class _Connection(asyncio.Protocol):
    """A connection that sends a request again when it was answered."""

    def __init__(self, load: Load, request: bytes, until: float) -> None:
        self._load, self._request, self._until = load, request, until
        self._received, self._sent_at, self._closing = b"", 0.0, False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ends, body = self._received.partition(b"\r\n\r\n")
        if not ends or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self._load.seconds.append(now - self._sent_at)
        self._load.answers[head.partition(b"\r\n")[0], body] += 1
        self._received = b""
        if now < self._until:
            self._send()
        else:
            self._closing = True
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost += not self._closing
        self.ended.set_result(None)


async def _loaded(address: tuple[str, int], request: bytes, connections: int, seconds: float) -> Load:
    load, until = Load(), time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: _Connection(load, request, until), *address) for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in pairs))
    return load


@contextmanager
def tutorial(bundle: Path) -> Iterator[tuple[int, tuple[str, int]]]:
    """Run the FastAPI app until the block ends; yield its process and address. Raises BenchError if it cannot start."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bench.experiments.serve_tutorial:app",
        "--port",
        "0",
        "--no-access-log",
    ]
    environment = {**os.environ, "EDGEREC_BUNDLE": str(bundle)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "running on http://127.0.0.1:" in line:
                yield process.pid, ("127.0.0.1", int(line.partition("http://127.0.0.1:")[2].split()[0]))
                return
        raise BenchError(f"the FastAPI app did not start (pip install fastapi): {''.join(seen)[-300:]}")
    finally:
        process.terminate()
        process.wait(30)


def compare(
    served: World, bundle: Path, history: list[Any], connections: int, rounds: int, seconds: float
) -> list[Any]:
    """Measure the contenders in rounds, and return a row for each: medians over rounds."""
    body = json.dumps({"history": history, "k": K}).encode()
    host = "127.0.0.1"
    ours = http_request("POST", "/films/actions/recommend", host, body, served.tokens[0])
    with tutorial(bundle) as (process, other):
        contenders: dict[str, Callable[[], dict[str, float]]] = {
            "bare Recommender": lambda: _bare(bundle, history, seconds)
        }
        for count in (1, connections):
            for name, pid, address, request in (
                ("edgerec serve", served.process.pid, served.address, ours),
                ("FastAPI", process, other, http_request("POST", "/recommend", host, body)),
            ):
                contenders[f"{name}, {count} connections"] = partial(_answered, pid, address, request, count, seconds)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for number in range(rounds + 1):
            for name, measure in contenders.items():
                figures = measure()
                if number:  # the first round warms up
                    found[name].append(figures)
    return [
        {"contender": name, **{figure: median(one[figure] for one in rows) for figure in rows[0]}}
        for name, rows in found.items()
    ]


def _bare(bundle: Path, history: list[Any], seconds: float) -> dict[str, float]:
    command = [sys.executable, "-c", BARE, str(bundle), json.dumps(history), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return _figures(found["seconds"], seconds, found["cpu_s"])


def _answered(pid: int, address: tuple[str, int], request: bytes, connections: int, seconds: float) -> dict[str, float]:
    before = _cpu_s(pid)
    load = asyncio.run(_loaded(address, request, connections, seconds))
    wrong = load.lost + sum(count for (status, _), count in load.answers.items() if b" 200 " not in status)
    if wrong or len(load.answers) != 1:
        raise BenchError(f"{wrong} answers are no 200, and {len(load.answers)} differ, where one request is sent")
    return load.figures(seconds, _cpu_s(pid) - before)


def _cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def soak(served: World, versions: list[Path], patch: bytes, history: list[Any], how: dict[str, Any]) -> Figures:
    """Load a server while patches arrive, and return its figures with the faults.

    Args:
        how: 'connections', 'seconds', and 'every', the seconds between two patches.
    """
    body = json.dumps({"history": history, "k": K}).encode()
    host = f"{served.address[0]}:{served.address[1]}"
    request = http_request("POST", "/films/actions/recommend", host, body, served.tokens[0])
    readings, faults, patches = list[int](), list[str](), 0

    async def read_memory() -> None:
        while True:
            readings.append(served.rss_kib())
            await asyncio.sleep(1)

    async def update() -> None:
        nonlocal patches
        there = http_request(
            "POST", "/films/actions/applyPatch", host, patch, served.tokens[2], "application/octet-stream"
        )
        back = http_request("POST", "/films/actions/undo", host, b"", served.tokens[2])
        while True:
            await asyncio.sleep(how["every"])
            got = await asyncio.to_thread(exchange, served.address, back if patches % 2 else there, timeout_s=60)
            patches += 1
            if not got.startswith(b"HTTP/1.1 200"):
                faults.append(f"a patch was answered by {got[:200]!r}")

    async def run() -> Load:
        tasks = [asyncio.create_task(task()) for task in (read_memory, update)]
        load = await _loaded(served.address, request, how["connections"], how["seconds"])
        for task in tasks:
            task.cancel()
        return load

    load = asyncio.run(run())
    counts: Counter[str] = Counter()
    for (status, content), count in load.answers.items():
        of = _version(versions, history, content) if b" 200 " in status else None
        counts[of or "wrong"] += count
    if counts["wrong"] or load.lost:
        faults.append(f"{counts['wrong']} wrong answers, {load.lost} connections lost")
    tenth = max(1, len(readings) // 10)
    return {
        **load.figures(how["seconds"]),
        "answers": counts.total(),
        "of_each_version": [counts[path.name] for path in versions],
        "patches": patches,
        "memory_kib": {
            "second_tenth": median(readings[tenth : 2 * tenth] or readings),
            "last_tenth": median(readings[-tenth:]),
        },
        "faults": faults,
    }


def _version(versions: list[Path], history: list[Any], content: bytes) -> str | None:
    """Return the name of the version that an answer is of, in all ids and scores; None for another answer."""
    answer = json.loads(content)
    for path in versions:
        model = Recommender.load(path)
        expected = [
            {"item": one.item, "score": one.score, "title": model.title(one.item)}
            for one in model.recommend(history=history, k=K)
        ]
        if answer == {"items": expected, "model": model.sha256}:
            return path.name
    return None


@experiment("serve-load")
@click.option("--minutes", default=10.0, show_default=True, help="Minutes of requests while patches arrive.")
@click.option("--connections", default=32, show_default=True, help="Connections at once.")
@click.option("--every", default=5.0, show_default=True, help="Seconds between two patches.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of the comparison.")
@click.option("--seconds", default=5.0, show_default=True, help="Seconds of each contender in a round.")
@click.option("--items", default=ITEMS, show_default=True, help="Items of the bundle.")
def main(minutes: float, connections: int, every: float, rounds: int, seconds: float, items: int) -> Figures:
    """Measure a server under load, next to the bare runtime and a FastAPI app."""
    with tempfile.TemporaryDirectory(prefix="edgerec-load-") as scratch:
        folder = Path(scratch)
        old, new = history_bundles(folder, items, 2)
        diff(old, new, folder / "patch")
        live = folder / "live"
        subprocess.run(["cp", "-r", str(old), str(live)], check=True)
        both = set(Recommender.load(new).known(Recommender.load(old).item_ids(range(1000))))
        history = sorted(both)[:HISTORY]
        with world(folder, live, "--rate", "0", "--concurrency", str(2 * connections)) as served:
            rows = compare(served, old, history, connections, rounds, seconds)
            print_table("one request again and again", COLUMNS, map(cells, rows))
            how = {"connections": connections, "seconds": 60 * minutes, "every": every}
            load = soak(served, [old, new], (folder / "patch").read_bytes(), history, how)
    bare, ours = (
        next(row for row in rows if row["contender"].startswith(name)) for name in ("bare", "edgerec serve, ")
    )
    overhead = 1e6 / ours["per_second"] - 1e6 / bare["per_second"]
    messages.print(f"{load['answers']} answers, {load['patches']} patches, {len(load['faults'])} faults", markup=False)
    messages.print(f"{overhead:.0f} µs of HTTP an answer on one connection", markup=False)
    return {"rows": rows, "overhead_us": overhead, "load": load, "faults": load["faults"]}


COLUMNS = ("contender", "answers a second", "p50 ms", "p99 ms", "processor ms")


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    times = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "cpu_ms"))
    return [row["contender"], f"{row['per_second']:,.0f}", *times]


if __name__ == "__main__":
    main()

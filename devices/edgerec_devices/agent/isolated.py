"""Scenarios that run in a process of their own: a cold load, minutes of sustained load, and throughput."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec_devices.agent.clock import timed
from edgerec_devices.agent.counters import evict, faults_since, page_faults
from edgerec_devices.agent.scenarios import Feed, Questions, backend_of, caller
from edgerec_devices.facts import machine_facts

Request = dict[str, Any]

WINDOW_S = 1.0
MOMENTARY = ("mhz", "temperature_c", "throttled")
BATCHES = (1, 16, 256)
MOST_SCORES = 1 << 24
"""Maximum number of scores of a batch (users times items), 64 MiB: larger ones would measure swapping."""
FEWEST_CALLS = 3


def cold_load(request: Request) -> dict[str, Any]:
    """Open the bundle and call it once after its files were evicted from the page cache.

    The files of Python and onnxruntime stay in the cache.

    Returns:
        {"cold": {load_ms, first_ms, faults}}, or {"warm_because": reason} if the files could not be evicted, or if
        that could not be checked.
    """
    folder = Path(request["bundle"])
    reason = evict([path for path in folder.iterdir() if path.is_file()])
    if reason:
        return {"warm_because": reason}
    before = page_faults()
    (bundle, call), load_ms = timed(lambda: _open(request, int(request["threads"])))
    subject = Questions(bundle, request).rows()
    _, first_ms = timed(lambda: call(subject))
    return {"cold": {"load_ms": load_ms, "first_ms": first_ms, "faults": faults_since(before)}}


def _open(request: Request, threads: int) -> tuple[Bundle, Callable[[Feed], Any]]:
    """Return an open bundle, and a function that recommends."""
    bundle, backend = Bundle(request["bundle"], verify=False, threads=threads), backend_of(request)
    return bundle, caller(bundle, Recommender(bundle, backend), backend, "recommend")


def sustained(request: Request) -> dict[str, Any]:
    """Recommend without a pause for request['sustained_seconds'].

    Returns:
        {"sustained": windows}, one per second: at_s (its start), count and p50_ms of its calls, and mhz, temperature_c
        and throttled at its end if they can be read.
    """
    bundle, call = _open(request, int(request["threads"]))
    questions = Questions(bundle, request)
    windows: list[dict[str, Any]] = []
    started = perf_counter_ns()
    while (began := perf_counter_ns()) - started < 1e9 * float(request["sustained_seconds"]):
        times = array("q")
        while perf_counter_ns() - began < 1e9 * WINDOW_S:
            subject = questions.rows()
            start = perf_counter_ns()
            call(subject)
            times.append(perf_counter_ns() - start)
        facts = machine_facts()
        seen = {name: facts[name] for name in MOMENTARY if name in facts}
        windows.append({"at_s": (began - started) / 1e9, "count": len(times), "p50_ms": median(times) / 1e6, **seen})
    return {"sustained": windows}


def offline(request: Request) -> dict[str, Any]:
    """Recommend for batches of users.

    Returns:
        {"offline": points}: threads, batch, calls, users_per_second, for 1, 2, 4, ... threads up to the number of
        usable cores (the kernel has one), and batches of 1, 16 and 256 users whose scores fit into 64 MiB.
    """
    points = []
    cores = 1 if backend_of(request) == "kernel" else machine_facts().get("usable_cores", 1)
    for threads in _thread_counts(cores):
        bundle, call = _open(request, threads)
        questions = Questions(bundle, request)
        for batch in BATCHES:
            if batch == 1 or batch * questions.n_items <= MOST_SCORES:
                figures = _throughput(partial(questions.rows, batch), call, float(request["seconds"]))
                points.append({"threads": threads, "batch": batch, **_per_second(batch, *figures)})
    return {"offline": points}


def _thread_counts(cores: int) -> Iterator[int]:
    threads = 1
    while threads < cores:
        yield threads
        threads *= 2
    yield cores


def _throughput(prepare: Callable[[], Any], call: Callable[[Any], Any], seconds: float) -> tuple[int, int]:
    """Return the number of timed calls and their total nanoseconds; the first call is not timed."""
    call(prepare())
    calls, spent = 0, 0
    while calls < FEWEST_CALLS or spent < 1e9 * seconds:
        subject = prepare()
        start = perf_counter_ns()
        call(subject)
        spent += perf_counter_ns() - start
        calls += 1
    return calls, spent


def _per_second(batch: int, calls: int, spent: int) -> dict[str, Any]:
    return {"calls": calls, "users_per_second": 1e9 * batch * calls / spent}


ISOLATED: dict[str, Callable[[Request], dict[str, Any]]] = {
    "load": cold_load,
    "offline": offline,
    "sustained": sustained,
}

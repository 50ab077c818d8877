"""Operation of a server: counters and times, Prometheus' text of them, and a log of JSON lines.

Nothing of a user is counted or logged: no addresses, tokens, sessions, ids or bodies.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgerec.errors import escaped
from edgerec.runtime.memory import memory_kib

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram of times."""
_RECENT = 1000
"""Answers whose times the percentiles of `stats` are of."""
LOG = logging.getLogger("edgerec.serve")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Stats:
    """Counters of one Thing, or of the requests that belong to none."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.answers: Counter[tuple[str, int]] = Counter()
        """Answers by what was requested, such as 'recommend', and status."""
        self.events: Counter[str] = Counter()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def count(self, request: str, status: int, seconds: float | None = None) -> None:
        """Count an answer, and its time if it is an action's that was not refused."""
        self.answers[request, status] += 1
        if status < 400 and seconds is not None:
            self._recent.append(seconds)
            self._buckets.setdefault(request, [0] * (len(BUCKETS_S) + 1))[bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds[request] += seconds  # type: ignore[assignment]  # a Counter adds floats too

    def summary(self) -> dict[str, Any]:
        """Return the property 'stats'."""
        times = sorted(self._recent)
        refused = sum(count for (_, status), count in self.answers.items() if status >= 400)
        return {
            "requests": self.answers.total() - refused,
            "refused": refused,
            "p50": _percentile(times, 0.5),
            "p99": _percentile(times, 0.99),
            "memory": memory_bytes(),
            "uptime": round(time.monotonic() - self.started, 1),
        }

    def lines(self, thing: str) -> Iterator[tuple[str, str]]:
        """Yield the samples of Prometheus' text, each with the name of its metric."""
        of = f'thing="{thing}"'
        for (request, status), count in sorted(self.answers.items()):
            yield "requests", f'edgerec_requests_total{{{of},request="{request}",status="{status}"}} {count}'
        for name, count in sorted(self.events.items()):
            yield "events", f'edgerec_events_total{{{of},event="{name}"}} {count}'
        for request, counts in sorted(self._buckets.items()):
            labels, total = f'{of},request="{request}"', 0
            for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
                total += count
                yield "seconds", f'edgerec_request_seconds_bucket{{{labels},le="{bound}"}} {total}'
            yield "seconds", f"edgerec_request_seconds_sum{{{labels}}} {self._seconds[request]:.6f}"
            yield "seconds", f"edgerec_request_seconds_count{{{labels}}} {total}"


_KINDS = {
    "requests": ("edgerec_requests_total", "counter", "Answers by what was requested and status."),
    "events": ("edgerec_events_total", "counter", "Updates of models, and refused ones."),
    "seconds": ("edgerec_request_seconds", "histogram", "Seconds until an answer."),
    "model": ("edgerec_model_info", "gauge", "The version that answers."),
    "bytes": ("edgerec_model_bytes", "gauge", "Bytes of the bundle."),
}


def metrics(stats: Mapping[str, Stats], models: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Prometheus' text of the counters and models of all Things by name."""
    samples: dict[str, list[str]] = {name: [] for name in _KINDS}
    for thing, one in stats.items():
        for name, line in one.lines(thing):
            samples[name].append(line)
    for thing, model in models.items():
        samples["model"].append(f'edgerec_model_info{{thing="{thing}",sha256="{model["sha256"]}"}} 1')
        samples["bytes"].append(f'edgerec_model_bytes{{thing="{thing}"}} {model["bytes"]}')
    lines = []
    for name, (metric, kind, help) in _KINDS.items():
        if samples[name]:
            lines += [f"# HELP {metric} {help}", f"# TYPE {metric} {kind}", *samples[name]]
    lines += [
        "# HELP process_resident_memory_bytes Resident memory size in bytes.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {memory_bytes()}",
    ]
    return "\n".join(lines) + "\n"


def memory_bytes() -> int:
    """Return the resident memory of this process; 0 if the system does not tell."""
    return 1024 * memory_kib().get("VmRSS", 0)


def _percentile(ascending: list[float], share: float) -> float:
    """Return a percentile of seconds in milliseconds; 0 without any."""
    return round(1e3 * ascending[int(share * (len(ascending) - 1))], 3) if ascending else 0.0


def log(event: str, **facts: Any) -> None:
    """Write a line of the log; `facts` hold nothing of a user."""
    LOG.info(event, extra={"facts": facts})


def log_failure(event: str, error: BaseException, **facts: Any) -> None:
    """Write an unexpected error to the log: its type and its places in the code. Its text may hold a user's data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
    LOG.error(event, extra={"facts": {**facts, "error": type(error).__name__, "at": places}})


class JsonLines(logging.Formatter):
    """Lines of JSON: time, level, event and facts."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        # uvicorn's own messages hold no more than counts and the causes of failed starts.
        message = record.msg if "facts" in record.__dict__ else escaped(record.getMessage())
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname.lower(), "event": message, **facts}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
        return json.dumps(line, ensure_ascii=False, default=str)


def start_log() -> None:
    """Write the log to standard error. uvicorn's warnings and errors belong to it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("edgerec.serve", logging.INFO), ("uvicorn.error", logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)

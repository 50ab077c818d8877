"""Facts of every record: the command, the time and the machine; metrics over seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edgerec.files import write_json
from edgerec_devices import Local


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_average() -> float | None:
    """Processes that wanted to run in the last minute, the mean; None on Windows, which does not count them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """A metric as results have it: each seed's, their 'mean', and their 'stdev' where there are several."""
    return {"seeds": list(values), "mean": mean(values), "stdev": stdev(values) if len(values) > 1 else None}


def with_spread(metric: Mapping[str, Any]) -> str:
    """A metric's 'mean', and in brackets its 'stdev' over the seeds where there were several."""
    spread = metric["stdev"]
    return f"{metric['mean']:.4f}" + ("" if spread is None else f" ({spread:.4f})")


def write_record(out: Path, kind: str, command: str, figures: dict[str, Any]) -> None:
    """Write figures as JSON of format 'edgerec.`kind`', version 1. Raises StorageError.

    Args:
        command: that measured them, as others type it.
    """
    about = {"format": f"edgerec.{kind}", "version": 1, "command": command, "measured": now()}
    write_json(out, {**about, "device": Local().info(), **figures})

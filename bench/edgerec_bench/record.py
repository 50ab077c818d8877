"""Facts that every result file holds: the command, the time and the machine; and metrics over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edgerec.files import write_json
from edgerec_devices import Local


def now() -> str:
    """Return the current time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return a metric as results store it: the value of each seed, the 'mean', and the 'stdev' (None for one seed)."""
    return {"seeds": list(values), "mean": mean(values), "stdev": stdev(values) if len(values) > 1 else None}


def with_spread(metric: Mapping[str, Any]) -> str:
    """Format a metric as its mean, followed by its standard deviation in brackets if there are several seeds."""
    spread = metric["stdev"]
    return f"{metric['mean']:.4f}" + ("" if spread is None else f" ({spread:.4f})")


def write_record(out: Path, kind: str, command: str, figures: dict[str, Any]) -> None:
    """Write figures as JSON of format 'edgerec.`kind`', version 1. Raises StorageError.

    Args:
        command: command line that measures the figures again.
    """
    about = {"format": f"edgerec.{kind}", "version": 1, "command": command, "measured": now()}
    write_json(out, {**about, "device": Local().info(), **figures})

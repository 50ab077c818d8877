"""What every result of a `python -m edgerec_bench...` command says of itself: the command, the time, the machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgerec.files import write_json
from edgerec_devices import Local


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(out: Path, kind: str, command: str, figures: dict[str, Any]) -> None:
    """Write figures as JSON of format 'edgerec.`kind`', version 1. Raises StorageError.

    Args:
        command: that measured them, as others type it.
    """
    about = {"format": f"edgerec.{kind}", "version": 1, "command": command, "measured": now()}
    write_json(out, {**about, "device": Local().info(), **figures})

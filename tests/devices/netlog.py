"""What a browser said on its console and asked the network for, from its own logs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from edgerec_devices.web.chromium import find_chromium, own_flags

CONSOLE = re.compile(r":(INFO|WARNING|ERROR):CONSOLE[:(]\d+\)?\] \"(.*)\", source: ")

NOBODY = "not an origin"


def log_flags(path: Path) -> list[str]:
    """Flags that make Chromium log what its network does to a file."""
    return [f"--log-net-log={path}"]


def requested(path: Path) -> list[str]:
    """What the page asked the network for. The browser's own requests have no origin for an initiator."""
    text = path.read_text(errors="replace")
    try:
        content = json.loads(text)
    except ValueError:  # a browser that was killed has not closed the list, and may have cut its last line
        try:
            content = json.loads(text.rstrip().rstrip(",") + "]}")
        except ValueError:
            content = json.loads(text[: text.rindex("},\n") + 1] + "]}")
    starts = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    params = [event.get("params", {}) for event in content["events"] if event["type"] == starts]
    urls = [found["url"] for found in params if found.get("initiator", NOBODY) != NOBODY]
    return [url for url in urls if not url.startswith(("data:", "file:", "chrome:", "blob:"))]


class Seen(NamedTuple):
    """A page, opened for a moment."""

    complaints: list[str]
    requests: list[str]


def look_at(page: Path, folder: Path, picture: Path | None = None, *, width: int = 1200, height: int = 2400) -> Seen:
    """Open a file in headless Chromium until it is drawn. `picture` gets what is seen."""
    log, shot = folder / "net.json", picture or folder / "page.png"
    command = [find_chromium(), *own_flags(), f"--user-data-dir={folder / 'profile'}", *log_flags(log)]
    command += ["--enable-logging=stderr", f"--window-size={width},{height}", "--timeout=20000", f"--screenshot={shot}"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert shot.stat().st_size > 0
    return Seen([found[2] for found in CONSOLE.finditer(done.stderr)], requested(log))

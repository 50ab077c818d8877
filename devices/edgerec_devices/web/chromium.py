"""Headless Chromium, started for one page with a fresh profile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgerec.errors import BenchError
from edgerec_devices.protocol import Missing
from edgerec_devices.web.local_http import LOOPBACK

PROGRAMS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
MISSING = Missing("Chromium or Chrome", "sudo apt-get install chromium")
FLAGS = (
    "--headless",
    *("--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic", "--no-proxy-server"),
    # No request leaves this machine: no name resolves to an address.
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}",
    "--disable-dev-shm-usage",  # containers have little shared memory
    # Reports a page's memory at once; by default the browser waits for its next garbage collection.
    "--enable-blink-features=ForceEagerMeasureMemory",
)
GRACE_S = 5.0


def find_chromium() -> str:
    """Return the path of Chromium or Chrome. Raises BenchError if there is none."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    raise BenchError(
        f"there is no {MISSING.what} on this machine; install it: {MISSING.fix}; or open a page in any browser: "
        "--device browser:open"
    )


def missing() -> list[Missing]:
    """List the browser if there is none."""
    return [] if any(map(shutil.which, PROGRAMS)) else [MISSING]


def own_flags() -> list[str]:
    """Return the command line options of every started browser."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, *(["--no-sandbox"] if is_root else [])]  # root cannot have Chromium's sandbox


class Chromium:
    """A running browser."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process, self._said = process, said

    def ended(self) -> str | None:
        """Return how the browser ended; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        how = f"with status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
        return f"the browser ended before the page answered, {how}: {lines[-1] if lines else 'it said nothing'}"


@contextmanager
def launch(address: str, flags: Sequence[str] = ()) -> Iterator[Chromium]:
    """Run a fresh browser with its own profile at an address, until the block ends. Raises BenchError."""
    program = find_chromium()
    with (
        tempfile.TemporaryDirectory(prefix=f"edgerec-browser-{os.getpid()}-", ignore_cleanup_errors=True) as profile,
        Path(profile, "said").open("w+b") as said,
    ):
        command = [program, *own_flags(), *flags, f"--user-data-dir={profile}/profile", address]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env={**os.environ, "XDG_CONFIG_HOME": profile},  # crash reports are stored next to profiles
            )
        except OSError as error:
            raise BenchError(f"cannot start {program}: {error.strerror}; is it installed completely?") from error
        try:
            yield Chromium(process, said)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a browser and all its processes."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()

"""The program at the remote end of a connection: stores files, creates environments, runs the agent.

Its source is sent with every request and run by the device's own python3: nothing has to be installed before, and the
versions always match. It needs only the standard library. Standard input has a line of JSON, then the bytes of files;
standard output gets one marked line of JSON, {"ok": value} or {"error": one line with the fix}, then bytes of files.

    {"verb": "describe"}                                        the properties that decide which wheels run
    {"verb": "missing", "files": [[PATH, BYTES, SHA256], ...]}  the paths of files that are not there, complete
    {"verb": "put", "files": [...]}  + their bytes              each gets its name once it is verified
    {"verb": "ready", "key": NAME, "pins": [...], "timeout": seconds}   the environment's Python, or null
    {"verb": "make", "key": NAME, "pins": [...], "wheels": [PATH, ...] or null, "timeout": seconds}
    {"verb": "run", "python": ..., "arguments": [...], "agent": PATH, "input": TEXT, "timeout": seconds,
     "variables": {NAME: VALUE, ...}}
    {"verb": "get", "place": FOLDER}                            its files, and their bytes

Paths are below the device's cache folder. Files and folders are created under a temporary name in `parts/` and renamed
when they are complete. The host keeps standard input open: when it ends, the host is gone, processes are killed and
unfinished files are removed.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MARK = "edgerec-remote: "
"""Prefix of the answer's line: a login script may print other lines."""
PIECE = 1 << 20
SPARE = 16 << 20
"""Bytes that stay free: a full file system breaks other programs too."""
ENVIRONMENT_BYTES = 300 << 20
"""Free space required for an environment: one takes 180 MiB on x86-64, and pip stores 45 MiB of wheels."""

Request = dict[str, Any]
ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgerec"


class RemoteError(Exception):
    """An error on the device, in one line with its fix."""


def describe(request: Request) -> None:
    """Reply with Python, system and C library, which decide which wheels run; and the cache folder."""
    _reply(
        {
            "python": list(sys.version_info[:2]),
            "system": platform.system(),
            "machine": platform.machine(),
            "bits": 64 if sys.maxsize > 2**32 else 32,
            "libc": list(platform.libc_ver()),
            "musl": "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")),
            "root": str(ROOT),
        }
    )


def missing(request: Request) -> None:
    """Reply with the files that are missing or differ; an error if they would not fit on the disk."""
    _sweep()
    absent = [entry for entry in request["files"] if not _whole(*entry)]
    _need_space(sum(nbytes for _, nbytes, _ in absent))
    _reply([path for path, _, _ in absent])


def put(request: Request) -> None:
    """Store files from standard input; a file that does not arrive completely leaves nothing."""
    for path, nbytes, sha256 in request["files"]:
        with _part() as part:
            digest = hashlib.sha256()
            with part.open("xb") as stream:
                for piece in _arriving(nbytes):
                    digest.update(piece)
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
            if digest.hexdigest() != sha256:
                raise RemoteError(
                    f"{path} arrived damaged: it changed while it was sent, or the link is bad; try again"
                )
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            part.replace(ROOT / path)
    _reply(None)


def ready(request: Request) -> None:
    """Reply with the Python of the environment of that name; null if there is none that works."""
    home = _home(request)
    _reply(str(_python(home)) if _works(home, request["pins"], request["timeout"]) else None)


def make(request: Request) -> None:
    """Create an environment; reply with {"python": PATH}, or {"pip": output} if pip could not install."""
    home, timeout, wheels = _home(request), request["timeout"], request["wheels"]
    absent = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if absent:
        raise RemoteError(f"python3 there has no {absent[0]}; on the device: sudo apt install python3-venv")
    _need_space(ENVIRONMENT_BYTES)
    with _part() as part:
        done = _supervised([sys.executable, "-m", "venv", str(part)], timeout)
        if done["status"] != 0:
            raise RemoteError(
                f"python3 -m venv failed: {_last_line(done)}; on the device: sudo apt install python3-venv"
            )
        local = ["--no-index", "--no-deps", *(str(ROOT / path) for path in wheels or ())]
        installed = _supervised([*_pip(part), *(request["pins"] if wheels is None else local)], timeout)
        if installed["status"] != 0:
            _reply({"pip": installed["out"] + installed["err"]})
            return
        if not _works(part, request["pins"], timeout):
            raise RemoteError(f"{' and '.join(request['pins'])} were installed, but cannot be imported there")
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        part.rename(home)  # only `bin/python -m` is used, which works under any name
    for path in wheels or ():
        shutil.rmtree((ROOT / path).parent, ignore_errors=True)
    _reply({"python": str(_python(home))})


def run(request: Request) -> None:
    """Run a fresh process of the environment; reply with {"status", "out", "err"}, status None after a timeout."""
    variables = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT / request["agent"]), **request["variables"]}
    command = [request["python"], "-P", *request["arguments"]]
    _reply(_supervised(command, request["timeout"], request["input"], variables))


def get(request: Request) -> None:
    """Send the files of a folder."""
    place = ROOT / request["place"]
    if not place.is_dir():
        raise RemoteError(f"there is no folder {place} on the device")
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    _reply([[path.relative_to(place).as_posix(), path.stat().st_size, _sha256(path)] for path in paths])
    for path in paths:
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, PIECE)


VERBS: dict[str, Callable[[Request], None]] = {
    verb.__name__: verb for verb in (describe, missing, put, ready, make, run, get)
}


def _pip(folder: Path) -> list[str]:
    """Return the command `pip install` without builds: a Raspberry Pi would compile numpy for an hour."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1")
    return [str(_python(folder)), "-I", "-m", "pip", "install", *quiet, "--only-binary", ":all:"]


def _home(request: Request) -> Path:
    return ROOT / "environments" / str(request["key"])


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _works(home: Path, pins: list[str], timeout: float) -> bool:
    """Return true if the packages can be imported in an environment and have the requested versions."""
    if not _python(home).exists():
        return False
    names = [pin.partition("==")[0] for pin in pins]
    code = f"import {', '.join(names)}; from importlib.metadata import version; print(*map(version, {names}))"
    command = [str(_python(home)), "-I", "-c", code]
    done = _supervised(command, timeout, "", {"ORT_DISABLE_TELEMETRY": "1"})
    return (done["status"], done["out"].split()) == (0, [pin.partition("==")[2] for pin in pins])


def _supervised(
    command: list[str], timeout: float, text: str = "", variables: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a command to its end; if the host goes away first, kill it with all its children."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(variables or {})},
        start_new_session=True,
    )
    with suppress(OSError):  # if memory runs out, Linux kills this process and no other
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    gone = threading.Event()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        gone.set()
        _kill(process)

    threading.Thread(target=watch, daemon=True).start()
    try:
        out, err = process.communicate(text, timeout)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        out, err, status = "", "", None
    finally:
        _kill(process)
    if gone.is_set():
        raise RemoteError("the host is gone")
    return {"status": status, "out": out, "err": err}


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and its session."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(done: dict[str, Any]) -> str:
    lines = (done["out"] + done["err"]).strip().splitlines()
    return lines[-1] if lines else f"status {done['status']}, and it said nothing"


def _arriving(nbytes: int) -> Iterator[bytes]:
    left = nbytes
    while left:
        piece = sys.stdin.buffer.read(min(left, PIECE))
        if not piece:
            raise RemoteError("the host is gone")
        left -= len(piece)
        yield piece


@contextmanager
def _part() -> Iterator[Path]:
    """Yield a temporary path, removed after the block; its name starts with the process id of its owner."""
    parts = ROOT / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    part = parts / f"{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield part
    finally:
        _remove(part)


def _sweep() -> None:
    """Remove parts whose process is gone, for example after a loss of power."""
    for part in (ROOT / "parts").glob("*-*"):
        try:
            os.kill(int(part.name.partition("-")[0]), 0)
        except ProcessLookupError:
            _remove(part)
        except (ValueError, PermissionError):
            continue


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _whole(path: str, nbytes: int, sha256: str) -> bool:
    found = ROOT / path
    return found.is_file() and found.stat().st_size == nbytes and _sha256(found) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _need_space(nbytes: int) -> None:
    free = shutil.disk_usage(ROOT).free
    if nbytes and nbytes + SPARE > free:
        wanted = f"{(nbytes + SPARE) / 2**20:.0f} MiB are needed in {ROOT} and {free / 2**20:.0f} are free"
        raise RemoteError(
            f"no space on the device: {wanted}; free some, or remove what earlier runs left: rm -r {ROOT}"
        )


def _reply(value: Any) -> None:
    _say({"ok": value})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


def _refused(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space on the device; free some, or remove what earlier runs left: rm -r {ROOT}"
    return f"{error.filename or ROOT} on the device: {error.strerror}; fix its permissions, or set XDG_CACHE_HOME there"


def main() -> None:
    """Answer one request. A killed connection ends it like an error, so that unfinished files are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        request = json.loads(sys.stdin.buffer.readline())
        ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
        VERBS[request["verb"]](request)
    except RemoteError as error:
        _say({"error": str(error)})
    except OSError as error:
        _say({"error": _refused(error)})


if __name__ == "__main__":
    main()

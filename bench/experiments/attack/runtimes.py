"""Runtimes under attack: one process each, asked line by line, watched for crashes, hangs and memory.

A request is a line: number, bundle, patch or -, public key or -, "user" or "history", and ids with commas (i5, or s
and hexadecimal UTF-8). The reply is the number, and three JSON texts: "answer", "refused" or "unnamed"; the error; the
text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.experiments.attack import MOST_MESSAGE
from bench.experiments.attack.mutants import Base, Mutant, make_bases, mutant

HERE = Path(__file__).parent
MOST_ADDRESSES = 3 << 30
"""Bytes of address space of the Python runtime."""
MOST_GROWTH = 128 << 20
"""Bytes of resident memory that one mutant of some 20 KB may cost."""
MOST_CPU_S = 10.0
"""Seconds of processor time that one mutant may take."""
MOST_WALL_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")
WHOLE_EVERY = 100
"""Mutants after which a whole bundle has to be answered, by a process that may have refused all that came before."""


@dataclass(frozen=True)
class Reply:
    """An outcome: "answer", "refused", "unnamed", or "killed" where the process ended or was ended."""

    outcome: str
    name: str
    text: str
    growth: int = 0


class Runtime:
    """A process that answers mutants; started again after one that ended it."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.command, self.environment = command, environment
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""

    def start(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            environment = {**os.environ, **(self.environment or {})}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(self.command, env=environment, **pipes)  # type: ignore[call-overload]
            self.buffer = b""
            if self.line() != "ready":
                raise RuntimeError(f"{self.command[0]} does not start: run {' '.join(self.command)}")
        return self.process

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, request: str) -> Reply:
        process = self.start()
        status = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            (status / "clear_refs").write_text("5")  # the peak counts from here
        before = _memory(status, "VmRSS")
        if process.stdin is None:
            raise RuntimeError("no pipe")
        try:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
            line = self.line()
            while line is not None and line.count("\t") < 3:  # what a virtual machine that crashes prints
                line = self.line()
        except BrokenPipeError:
            line = None
        except TimeoutError as error:
            self.close()
            return Reply("killed", "hang", str(error))
        if line is None:
            return Reply("killed", f"status {process.wait()}", "the process ended")
        _, *said = line.split("\t", 3)
        outcome, name, text = map(json.loads, said)
        return Reply(outcome, name, text, max(0, _memory(status, "VmHWM") - before))

    def line(self) -> str | None:
        """Return the next line; None where the process ended."""
        process = self.process
        if process is None or process.stdout is None:
            return None
        cpu, wall = _cpu(process.pid), time.monotonic()
        while b"\n" not in self.buffer:
            if select.select([process.stdout], [], [], 0.5)[0]:
                content = os.read(process.stdout.fileno(), 1 << 16)
                if not content:
                    return None
                self.buffer += content
            elif process.poll() is not None:
                return None
            elif _cpu(process.pid) - cpu > MOST_CPU_S:
                raise TimeoutError(f"more than {MOST_CPU_S:.0f} s of processor time")
            elif time.monotonic() - wall > MOST_WALL_S:
                raise TimeoutError(f"more than {MOST_WALL_S:.0f} s")
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("utf-8", "replace")


def _memory(status: Path, key: str) -> int:
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", (status / "status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def python() -> Runtime:
    return Runtime(
        [sys.executable, str(HERE / "worker.py"), str(MOST_ADDRESSES)], {"PYTHONPATH": os.pathsep.join(sys.path)}
    )


def node(library: Path, onnxruntime: Path) -> Runtime:
    return Runtime(["node", "--max-old-space-size=256", str(HERE / "drive.mjs"), str(library), str(onnxruntime)])


def java(sources: Path, jar: Path, native: Path, shim: Path | None, out: Path) -> Runtime:
    """Compile the Java library with the driver, and return its process."""
    out.mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in sorted(sources.rglob("*.java"))]
    subprocess.run(["javac", "-nowarn", "-cp", str(jar), "-d", str(out), *files, str(HERE / "Drive.java")], check=True)
    environment = {"LD_LIBRARY_PATH": str(shim)} if shim else None
    options = [
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:ErrorFile=/dev/null",
        f"-Donnxruntime.native.path={native}",
        "-cp",
        f"{jar}:{out}",
    ]
    return Runtime(["java", *options, "org.edgerec.Drive"], environment)


def fuzz(
    runtime: Runtime, seed: int, numbers: range, scratch: Path
) -> Iterator[tuple[Mutant, Reply, list[tuple[str, str]]]]:
    """Yield each mutant, its reply, and its findings: (kind, text)."""
    bases = make_bases(scratch)
    whole = {base.name: contents(base.old) for base in bases}
    runtime.start()
    for base in bases:
        reply = runtime.ask(_whole(base))
        if reply.outcome != "answer":
            raise RuntimeError(f"{base.name} is not answered as it is: {reply}")
    for number in numbers:
        one = mutant(seed, number, bases, scratch / "mutant")
        before = contents(one.bundle)
        reply = runtime.ask(one.request())
        found = list(findings(one, reply, before, whole))
        if number % WHOLE_EVERY == WHOLE_EVERY - 1:
            reply_of_whole = runtime.ask(_whole(one.base))
            if reply_of_whole.outcome != "answer":
                found.append(("whole bundles are no longer answered", f"{reply_of_whole.name} {reply_of_whole.text}"))
                runtime.close()  # what follows is asked of a fresh process
        yield one, reply, found


def _whole(base: Base) -> str:
    """Return the request of a bundle as it was exported."""
    return Mutant(-1, base, "whole", False, base.old, None, base.key is not None).request()


def contents(folder: Path) -> dict[str, str]:
    files = [folder] if folder.is_file() else [path for path in folder.iterdir() if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def findings(
    one: Mutant, reply: Reply, before: dict[str, str], whole: dict[str, dict[str, str]]
) -> Iterator[tuple[str, str]]:
    """Yield what a reply shows: only a named error of one short line, or an answer that may be given, is right."""
    if reply.outcome == "killed":
        yield f"{reply.name} by {one.way}", reply.text
        return
    if reply.outcome == "unnamed":
        yield f"unnamed {reply.name} by {one.way}", reply.text
    if reply.outcome == "refused" and (
        len(reply.text) > MOST_MESSAGE or re.search(r"[\x00-\x1f\x7f-\x9f]", reply.text)
    ):
        yield (
            f"an error of several lines, control characters or {len(reply.text) // 1000} thousand characters",
            reply.text[:200],
        )
    if reply.growth > MOST_GROWTH:
        yield f"memory by {one.way}", f"{reply.growth >> 20} MiB: {reply.outcome} {reply.name} {reply.text[:120]}"
    if reply.outcome == "answer" and one.patch is None:
        if not one.fits and not one.harmless:
            yield f"a tampered file is answered from: {one.way}", reply.text[:200]
        if one.trusted and before != whole[one.base.name] and not (one.harmless and one.bundle.is_file()):
            yield f"a tampered signed bundle is answered from: {one.way}", reply.text[:200]
    if one.patch is not None:
        after = contents(one.bundle)
        if reply.outcome != "answer" and after != before:
            more = sorted(set(after) - set(before))
            kept = all(after.get(name) == digest for name, digest in before.items())
            yield (
                ("a refused patch leaves files" if kept else "a refused patch changes the bundle"),
                f"{one.way}: {more}",
            )
        if reply.outcome == "answer":
            new: Base = one.base
            if any(after.get(name) != digest for name, digest in contents(new.new).items()):
                yield "a patch makes another bundle than its own", one.way

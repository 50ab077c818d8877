"""Run one part of the attack, or sum up the results of all.

    python -m bench.experiments.attack tables --count 2000 --out tables.json
    python -m bench.experiments.attack commands --count 500 --out commands.json
    python -m bench.experiments.attack mutants --runtime python --count 20000 --out python.json
    python -m bench.experiments.attack summary tables.json commands.json python.json --out record.json
    python -m bench.experiments.attack summary record.json more-tables.json --out record.json

A summary of a summary and more results adds their parts; what became of a finding stands in `since` of record.json,
which is written by hand.
`--resume` continues after the last number of the result file. A result has the counts of outcomes, and of each kind of
finding the number and three examples; `--from N --count 1` repeats one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
WRITE_EVERY_S = 20.0
EXAMPLES = 3
Step = tuple[str, list[tuple[str, str]], str]
"""An outcome, findings as (kind, text), and what was tried."""


class Tally:
    """Counts of a part, written to a file as it runs."""

    def __init__(self, out: Path | None, head: dict[str, Any], resume: bool) -> None:
        self.out = out
        self.result: dict[str, Any] = {
            **head,
            "tried": 0,
            "next": head["from"],
            "seconds": 0.0,
            "outcomes": {},
            "findings": {},
        }
        if resume and out is not None and out.exists():
            before = json.loads(out.read_text(encoding="utf-8"))
            for key in ("part", "runtime", "seed", "from", "commit"):
                if before.get(key) != head.get(key):
                    raise SystemExit(f"{out} has another {key}: {before.get(key)}; give another --out")
            self.result = before
        self.began, self.spent = time.monotonic(), self.result["seconds"]
        self.written = self.began

    def add(self, number: int, step: Step) -> None:
        outcome, findings, tried = step
        result = self.result
        result["tried"] += 1
        result["next"] = number + 1
        result["outcomes"][outcome] = result["outcomes"].get(outcome, 0) + 1
        for kind, text in findings:
            found = result["findings"].setdefault(kind, {"count": 0, "examples": []})
            found["count"] += 1
            if len(found["examples"]) < EXAMPLES:
                found["examples"].append(
                    {"number": number, "tried": tried, "text": re.sub(r"/[\w./-]*/", ".../", text)}
                )
        if time.monotonic() - self.written > WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        self.written = time.monotonic()
        self.result["seconds"] = round(self.spent + self.written - self.began, 1)
        if self.out is not None:
            part = self.out.with_name(f".{self.out.name}.part")
            part.write_text(json.dumps(self.result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(self.out)
        count = sum(found["count"] for found in self.result["findings"].values())
        print(
            f"{self.result['tried']} tried in {self.result['seconds']:.0f} s, {count} findings",
            file=sys.stderr,
            flush=True,
        )


def machine() -> dict[str, Any]:
    """Return the processor, the cores and the system; no names of hosts."""
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
        model = next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "cpu": model, "system": platform.system(), "python": platform.python_version()}


def commit() -> str:
    """Return the commit, with + where files differ from it."""
    run = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
    ]
    return run[0] + ("+" if run[1] else "")


def tables(given: argparse.Namespace, numbers: range, scratch: Path) -> Iterator[Step]:
    from bench.experiments.attack.tables import attack

    warnings.simplefilter("ignore")
    for number in numbers:
        case, outcome = attack(given.seed, number, scratch)
        yield outcome, case.findings, json.dumps(case.describe())


def commands(given: argparse.Namespace, numbers: range, scratch: Path) -> Iterator[Step]:
    from bench.experiments.attack.commands import attack, describe, draw, preload
    from bench.experiments.attack.world import make_world

    make_world(scratch / "world")
    preload()
    for number in numbers:
        command = draw(given.seed, number)
        status, findings = attack(command, scratch / "world", scratch / "place")
        yield f"exit status {status}", findings, describe(command)


def mutants(given: argparse.Namespace, numbers: range, scratch: Path) -> Iterator[Step]:
    from bench.experiments.attack import runtimes

    if given.runtime == "python":
        runtime = runtimes.python()
    elif given.runtime == "javascript":
        runtime = runtimes.node(given.library, given.onnxruntime)
    else:
        sources = ROOT / "devices" / "android" / "edgerec" / "src" / "main" / "java"
        runtime = runtimes.java(sources, given.onnxruntime, given.native, given.shim, scratch / "classes")
    try:
        for one, reply, findings in runtimes.fuzz(runtime, given.seed, numbers, scratch):
            fits = "fits" if one.fits else "does not fit"
            group = one.way.partition(":")[0] if ":" in one.way else "damage"
            yield f"{group}, {fits}: {reply.outcome}", findings, f"{one.base.name}: {one.way}, {fits}"
    finally:
        runtime.close()


def summary(given: argparse.Namespace) -> None:
    """Write the counts of all parts side by side; those of earlier summaries stay."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in given.results]
    parts = [part for one in read for part in one.get("parts", [one])]
    shown = [{key: value for key, value in part.items() if key not in ("machine", "next")} for part in parts]
    whole: dict[str, Any] = {"format": "edgerec.attack", "version": 1}
    whole |= {"commit": sorted({part["commit"] for part in parts}), "machine": read[0]["machine"]}
    if any(one["machine"] != read[0]["machine"] for one in read):
        raise SystemExit("the results are of several machines; sum up those of each")
    whole |= {"tried": sum(part["tried"] for part in parts), "parts": shown}
    whole |= {"since": [entry for one in read for entry in one.get("since", [])]}
    text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    for part in parts:
        name = f"{part['part']} {part.get('runtime') or ''}".strip()
        print(f"{name}: {part['tried']} in {part['seconds']:.0f} s")
        for kind, found in sorted(part["findings"].items(), key=lambda pair: -pair[1]["count"]):
            print(f"  {found['count']:6d} {kind}  e.g. {found['examples'][0]['number']}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.attack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, count in (("tables", 2000), ("commands", 500), ("mutants", 20_000)):
        part = parts.add_parser(name)
        part.add_argument("--count", type=int, default=count, help="how many in all")
        part.add_argument("--seed", type=int, default=0, help="seed of every random choice")
        part.add_argument("--from", type=int, default=0, dest="first", help="number of the first")
        part.add_argument("--out", type=Path, help="result, JSON")
        part.add_argument("--resume", action="store_true", help="continue after the last number of --out")
        part.add_argument("--scratch", type=Path, help="folder for files, best in memory; else a temporary one")
    part.add_argument("--runtime", choices=("python", "javascript", "java"), default="python")
    part.add_argument("--library", type=Path, help="javascript: edgerec-node.mjs")
    part.add_argument("--onnxruntime", type=Path, help="javascript: ort.node.min.mjs; java: classes.jar")
    part.add_argument("--native", type=Path, help="java: folder of onnxruntime's libraries")
    part.add_argument("--shim", type=Path, help="java: folder of Android's system libraries for Linux")
    sums = parts.add_parser("summary")
    sums.add_argument("results", type=Path, nargs="+")
    sums.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.part == "summary":
        summary(given)
        return
    head = {
        "part": given.part,
        "runtime": getattr(given, "runtime", None),
        "seed": given.seed,
        "from": given.first,
        "commit": commit(),
        "machine": machine(),
    }
    tally = Tally(given.out, head, given.resume)
    numbers = range(tally.result["next"], given.first + given.count)
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        steps = {"tables": tables, "commands": commands, "mutants": mutants}[given.part](given, numbers, Path(folder))
        try:
            for number, step in zip(numbers, steps, strict=True):
                tally.add(number, step)
        except KeyboardInterrupt:
            print("stopped; --resume continues", file=sys.stderr)
        finally:
            tally.write()
    count = sum(found["count"] for found in tally.result["findings"].values())
    raise SystemExit(1 if count else 0)


if __name__ == "__main__":
    main()

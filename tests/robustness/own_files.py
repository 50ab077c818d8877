"""Call the command line in this process with damaged files of our own and odd arguments, and tell how it ended.

usage: python -m tests.robustness.own_files [--mutants 1500] [--seed 0] [--only NAME]

Each call has a limit of time and memory. It prints a JSON object: how many ended well, how many were refused, and the
traceback of each that ended in anything but an EdgeRecError.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from edgerec.cli.app import run
from edgerec.errors import BenchError, EdgeRecError

DATA = "synthetic:80x50x1200"
SMALL = ("--budget", "50%", "--dimensions", "8", "--epochs", "2", "--threads", "1")
SEARCH = (
    *("--method", "bet", "--method-set", "proxy=ials", "--set", "alpha=1", "--set", "reg=5"),
    *(word for pair in ("iterations=3", "candidates=5", "retrain=1") for word in ("--method-set", pair)),
)
STREAM = (
    "visits.csv",
    "--segments",
    "3",
    "--holdout",
    "user",
    "--method",
    "uniform",
    "--budget",
    "50%",
    "--dimensions",
    "8",
)
SECONDS = 5
"""Of processor time: what the machine does besides does not count."""
BYTES = 8 << 30


class TooLongError(BaseException):
    """A call that took more than its time; no `except Exception` stops it."""


@dataclass(frozen=True)
class Subject:
    """A file of our own, and the commands that read it.

    Attributes:
        file: below the folder of all that is damaged; one member of an .npz is named after a colon.
        calls: arguments of `edgerec`, run in that folder.
    """

    file: str
    calls: tuple[tuple[str, ...], ...]


SUBJECTS = (
    Subject(
        "run/run.json",
        (
            ("report", "run", "--out", "r.html"),
            ("export", "run", "--out", "b", "--no-verify"),
            ("evaluate", "run", "--data", DATA),
            ("inspect", "run"),
            ("train", DATA, *SMALL, "--out", "run", "--resume"),
        ),
    ),
    Subject(
        "result.json",
        (
            ("report", "result.json", "--format", "csv"),
            ("report", "result.json", "--format", "md"),
            ("report", "result.json", "--out", "r.html"),
            ("compare", "result.json", "good.json"),
            ("compare", "good.json", "result.json", "--force", "--json"),
        ),
    ),
    Subject("scale.json", (("report", "scale.json", "--out", "r.html"), ("report", "scale.json", "--format", "csv"))),
    Subject(
        "stream/stream.json",
        (
            ("report", "stream", "--out", "r.html"),
            ("report", "stream", "--json"),
            ("stream", *STREAM, "--out", "stream", "--resume"),
        ),
    ),
    Subject("study.json", (("tune", DATA, *SMALL, "--trials", "3", "--out", "study.json"),)),
    Subject("plan.jsonl", (("grid", "plan.toml", "--no-verify"),)),
    Subject("plan.toml", (("grid", "plan.toml", "--no-verify"),)),
    Subject(
        "search/search.jsonl",
        (("report", "search", "--out", "r.html"), ("report", "search", "--json")),
    ),
    Subject(
        "stopped/search.jsonl",
        (("train", DATA, *SMALL, *SEARCH, "--out", "stopped", "--resume"), ("report", "stopped", "--json")),
    ),
    Subject("begun/checkpoint.npz:loop", (("train", DATA, *SMALL, "--out", "begun", "--resume"),)),
    Subject("broken/checkpoint.npz:loop", (("stream", *STREAM, "--out", "broken", "--resume"),)),
    Subject("calibration.json", (("export", "run", "--out", "b", "--no-verify", "--calibration", "calibration.json"),)),
    Subject(
        "bundle/manifest.json",
        (
            ("inspect", "bundle"),
            ("recommend", "bundle", "--user", "5", "-k", "3"),
            ("similar", "bundle", "5", "-k", "3"),
            ("evaluate", "bundle", "--data", DATA),
            ("export", "run", "--out", "bundle", "--no-verify"),
            ("export", "run", "--out", "b", "--no-verify", "--like", "bundle"),
            ("diff", "bundle", "good", "--out", "p"),
            ("report", "bundle"),
        ),
    ),
)

NASTY: tuple[Any, ...] = (
    *(None, True, False, "", "x", "nan", "a\0b", "@SURROGATE@", "../../x", "y" * 300, "9" * 400, "\n", "fp32"),
    *(-1, 0, 1, 3, 7, 10**18, 1 << 63, 10**400, -(10**400), 0.5, -0.5, 1e308, "@NAN@", "@INFINITY@", "@1E999@"),
    *([], {}, [[]], [{}], {"": {}}, [1, 2], ["x"], [None], {"x": 1}, "@DEEP@", "@DIGITS@"),
)
RAW = {
    "@SURROGATE@": '"\\ud800"',
    "@NAN@": "NaN",
    "@INFINITY@": "Infinity",
    "@1E999@": "1e999",
    "@DEEP@": "[" * 100_000 + "]" * 100_000,
    "@DIGITS@": "9" * 5000,
}
DOCUMENTS = ("", "null", "3", '"x"', "[]", "{}", "[[[]]]", "nan", "[" * 100_000, '{"a":' * 100_000, "\ufeff{}", "{")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place below a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def mutant(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A damaged JSON document: what was done to it, and its content."""
    kind = rng.choices(("value", "delete", "whole", "cut", "byte", "twice"), (60, 20, 5, 5, 5, 5))[0]
    text = content.decode()
    if kind == "whole":
        chosen = rng.choice(DOCUMENTS)
        return f"whole {chosen[:20]!r}", chosen.encode()
    if kind == "cut":
        at = rng.randrange(len(content))
        return f"cut at {at}", content[:at]
    if kind == "byte":
        damaged = bytearray(content)
        damaged[at := rng.randrange(len(content))] = rng.randrange(256)
        return f"byte {at}", bytes(damaged)
    value = json.loads(text)
    # One of each depth is as likely as the next: deep places are many.
    found = list(places(value))
    depth = rng.choice(sorted({len(path) for path in found}))
    *above, last = rng.choice([path for path in found if len(path) == depth])
    holder = value
    for key in above:
        holder = holder[key]
    where = "/".join(map(str, (*above, last)))
    if kind == "delete":
        del holder[last]
        return f"delete {where}", json.dumps(value).encode()
    if kind == "twice":
        changed = json.dumps(value).encode()
        double = b'{"%s": 1, ' % str(last).encode()
        return f"twice {where}", changed.replace(b"{", double, 1) if isinstance(last, str) else changed[::-1]
    new = rng.choice(NASTY)
    holder[last] = new
    dumped = json.dumps(value)
    for mark, raw in RAW.items():
        dumped = dumped.replace(f'"{mark}"', raw)
    return f"{where} = {str(new)[:20]!r}", dumped.encode()


def mutant_of(path: Path, member: str, rng: random.Random) -> str:
    """Damage a file in its place: JSON, JSON lines, TOML, or JSON that an .npz holds. Returns what was done."""
    if member:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        told, content = mutant(arrays[member].tobytes(), rng)
        arrays[member] = np.frombuffer(content, np.uint8)
        with path.open("wb") as stream:
            np.savez(stream, **arrays)
        return told
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        lines = content.splitlines()
        at = rng.randrange(len(lines))
        told, lines[at] = mutant(lines[at], rng)
        path.write_bytes(b"\n".join([*lines, b""]))
        return f"line {at + 1}: {told}"
    if path.suffix == ".toml":
        lines = content.splitlines()
        at = rng.randrange(len(lines))
        name = lines[at].partition(b" = ")[0]
        values = ("nan", "inf", "-1", "0", "1e308", "9" * 400, "9" * 5000, '""', "[]", "{}", "[[]]", "true", '"x"')
        value = rng.choice((*values, "[" * 5000, "1979-05-27", '"\\u0000"', '["a", 1]', "\\", '"' + "y" * 300 + '"'))
        lines[at] = name + b" = " + value.encode()
        path.write_bytes(b"\n".join(lines))
        return f"{name.decode()} = {value[:20]}"
    told, content = mutant(content, rng)
    path.write_bytes(content)
    return told


ODD = (
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e999", "9" * 400, "9" * 5000, "-" + "9" * 400, "1_000", "٣"),
    *("n" * 300, "n/" * 3000, "x\0y", "\ud800", "\udcff", "loop", "loop/x", "run", "bundle", "result.json", "none"),
    *("/dev/null", "/proc/self/mem", "visits.csv/x", "-", "--", "=", "x=", "=1", "10%", "\n", "{}", "[", "%s", "~"),
    *("alpha=nan", "alpha=" + "9" * 400, "alpha=" + "9" * 5000, "iterations=" + "9" * 400, "5,5,,", "synthetic:1x1x1"),
    *(
        "synthetic:" + "9" * 5000 + "x9x9",
        "synthetic:999999999x999999999x999999999",
        "days:" + "9" * 18,
        "random:nan/inf",
    ),
    *("time:80/20", "leave-last-out", "9" * 30 + "KiB", "1e-300%", "utf-16", "base64", "idna", "unicode_escape"),
)
CALLS = (
    ("train", "visits.csv", *SMALL, "--out", "new", "--set", "alpha=2", "--seed", "0", "--split", "random:80/20"),
    ("train", DATA, *SMALL, "--out", "new", "--patience", "1", "--min-user", "1", "--min-item", "1"),
    ("train", "visits.csv", "--encoding", "utf-8", *SMALL, "--out", "new", "--method", "popularity"),
    ("stream", *STREAM, "--out", "new", "--replay", "0.2", "--epochs", "1", "--refit", "full"),
    ("tune", DATA, *SMALL, "--trials", "1", "--out", "new.json"),
    ("grid", "plan.toml", "--out", "new.jsonl", "--bundles", "new", "--workers", "1"),
    ("evaluate", "run", "bundle", "--data", DATA),
    (
        "export",
        "run",
        "--out",
        "new",
        "--no-verify",
        "--max-bytes",
        "20KiB",
        "--precision",
        "int8",
        "--id-map",
        "m.csv",
    ),
    ("export", "run", "--out", "new", "--no-verify", "--data", DATA, "--calibration", "calibration.json", "--fit"),
    ("diff", "bundle", "good", "--out", "new.patch"),
    ("apply", "bundle", "new.patch", "--trusted", "key.pub"),
    ("fold-in", "bundle", "visits.csv", "--run", "run", "--out", "new.patch", "--save", "new"),
    ("keys", "new", "new.key"),
    ("inspect", "run"),
    ("inspect", "bundle", "--trusted", "key.pub"),
    ("recommend", "bundle", "--user", "5", "-k", "3", "--exclude", "5,6", "--allow", "1,2,3"),
    ("similar", "bundle", "5", "-k", "3"),
    ("compare", "result.json", "good.json", "--fail-if", "p50 > 1.1x"),
    ("report", "result.json", "run", "--out", "new.html"),
    ("report", "stream", "search", "--out", "new.html"),
    ("data", "show", "visits.csv", "--min-user", "2", "--encoding", "latin-1"),
    ("bench", "bundle", "--seconds", "nan", "--processes", "0", "--calls", "0", "-k", "0", "--sustained", "0"),
    ("reproduce", "bet", "--minutes", "nan", "--seeds", "0", "--dimensions", "0", "--out", "new.json"),
)


def odd(rng: random.Random) -> tuple[str, ...]:
    """A command line with one word that is not meant there."""
    words = list(rng.choice(CALLS))
    words[rng.randrange(1, len(words))] = rng.choice(ODD)
    return tuple(words)


def make(folder: Path) -> None:
    """Every good file, below `folder`."""
    import edgerec

    def stop_after(steps: int) -> Callable[..., None]:
        left = [steps]

        def progress(*step: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        return progress

    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Path("plan.toml").write_text(
            f'data = ["{DATA}"]\nbackbone = ["ials"]\nmethod = ["popularity"]\nbudget = ["50%"]\nseed = [0, 1]\n'
            "dimensions = 8\nepochs = 2\nprecision = ['fp32']\nskip = []\ntimeout_minutes = 5\n"
            "[settings.ials]\nalpha = 2.0\n"
        )
        arriving = random.Random(0)
        visits = [(arriving.randrange(10 + n // 20), arriving.randrange(10 + n // 30), n) for n in range(1500)]
        lines = "".join(f"{user},{item},{second}\n" for user, item, second in visits)
        Path("visits.csv").write_text(f"user,item,timestamp\n{lines}")
        for call in (
            ("train", DATA, *SMALL, "--out", "run"),
            ("export", "run", "--out", "bundle", "--no-verify"),
            ("export", "run", "--out", "good", "--no-verify", "--precision", "int8"),
            ("stream", *STREAM, "--out", "stream"),
            ("tune", DATA, *SMALL, "--trials", "3", "--out", "study.json"),
            ("grid", "plan.toml", "--no-verify"),
            ("train", DATA, *SMALL, *SEARCH, "--out", "search"),
            ("bench", "bundle", "--processes", "2", "--calls", "20", "--seconds", "0", "--out", "result.json"),
        ):
            assert run(call) == 0, call
        shutil.copy("result.json", "good.json")
        root = Path(__file__).parents[2]
        scale = json.loads((root / "bench" / "results" / "scale-1m.json").read_bytes())
        scale["contenders"] = scale["contenders"][:3]
        Path("scale.json").write_text(json.dumps(scale))
        shutil.copy(root / "export" / "edgerec_export" / "calibration.json", "calibration.json")
        for out, steps, more in (("begun", 2, ()), ("stopped", 6, SEARCH)):
            with mock.patch("edgerec.cli.train.step_bar", return_value=contextlib.nullcontext(stop_after(steps))):
                run(("train", DATA, *SMALL, *more, "--out", out))
        with mock.patch("edgerec.cli.stream.step_bar", return_value=contextlib.nullcontext(stop_after(3))):
            run(("stream", *STREAM, "--out", "broken"))
        edgerec.load_data(DATA)


def _is_long(call: tuple[str, ...]) -> bool:
    """Whether a call takes half a second: it draws, or trains by torch."""
    return call[0] == "stream" or "r.html" in call or "stopped" in call[-2:]


def _no_cell(*given: Any) -> Any:
    raise BenchError("no cell is made here")


def called(arguments: tuple[str, ...], folder: Path) -> str:
    """How a call ended: 'well', 'refused', 'late', or its traceback."""

    def late(number: int, frame: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")),
            contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")),
            mock.patch("edgerec_bench.grid.run._attempt", _no_cell),
        ):
            try:
                return "refused" if run(arguments) else "well"
            finally:
                sys.stdout.flush()
    except TooLongError:
        return "late"
    except EdgeRecError as error:
        return "refused" if str(error) else f"no message: {error!r}"  # `main` makes one line of it
    except SystemExit:
        return "well"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd", type=int, default=0, help="command lines, besides")
    parser.add_argument("--short", action="store_true", help="without what draws pages or follows streams")
    parser.add_argument("--only", default="")
    parser.add_argument("--good", type=Path, help="folder that keeps the good files")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    os.environ["EDGEREC_OFFLINE"] = "1"
    rng, ended, faults = random.Random(given.seed), Counter[str](), []
    subjects = [subject for subject in SUBJECTS if given.only in subject.file]
    with tempfile.TemporaryDirectory() as scratch:
        good = given.good or Path(scratch) / "good"
        if not good.exists():
            good.mkdir(parents=True)
            make(good)
        for number in range(given.mutants + given.odd):
            work = Path(scratch) / "work"
            shutil.copytree(good, work, symlinks=True)
            if number < given.mutants:
                subject = subjects[number % len(subjects)]
                calls = [one for one in subject.calls if not (given.short and _is_long(one))] or subject.calls
                call, (file, _, member) = rng.choice(calls), subject.file.partition(":")
                told = mutant_of(work / file, member, rng)
            else:
                call, file, told = odd(rng), "", "odd"
                (work / "loop").symlink_to("loop")
            how = called(call, work)
            if how not in ("well", "refused", "late"):
                faults.append({"number": number, "file": file, "mutant": told, "call": call, "how": how})
            ended[how if how in ("well", "refused", "late") else "fault"] += 1
            shutil.rmtree(work)
    json.dump({"ended": ended, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()

"""Odd command lines over all commands, each in a copy of one small world whose files are hashed before and after.

A command follows from the seed and its number. Most run in a fork of a process that has imported the command line;
those about standard output, and interrupts, in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.experiments.attack import MOST_MESSAGE
from bench.experiments.attack.world import DIGITS, snapshot

MOST_ADDRESSES = 8 << 30
MOST_S = 120.0
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LONG = "n" * 300
RESUMABLE = ("train", "tune", "grid", "frontier", "stream", "reproduce", "suite")
"""Commands that leave work behind when they end early, for the next call."""
TEMPLATES = """\
data list --json
data show in:ratings.csv --min-user int:2 --min-item int:1
data show in:odd.csv --json
train in:ratings.csv --out out:new.run --backbone text:ials --method text:uniform --budget size:50% \
--dimensions int:4 --epochs int:1 --seed int:1
train in:odd.csv --out out:new.run --backbone svd --budget size:64KiB --dimensions int:4 --split \
text:random:80/20 --set set:reg=1
train in:ratings.csv --out out:new.run --backbone ials --budget 40% --dimensions int:4 --epochs 1 \
--method-set set:x=1 --threads int:1 --patience int:1
tune in:ratings.csv --trials int:1 --out out:study.json --dimensions int:4 --epochs 1 --backbone ials \
--budget size:50%
grid in:plan.toml --out out:cells.jsonl --workers int:1 --bundles out:cells
frontier in:ratings.csv --out out:page.html --method text:dense --budget size:50% --precision text:fp32 \
--seeds int:1 --dimensions int:4
stream in:ratings.csv --out out:new.stream --budget size:50% --segments text:2 --dimensions int:4 \
--first-epochs 1 --epochs int:1 --replay float:0.2
reproduce text:bet --data in:missing.csv --seeds int:1 --out out:paper.json --minutes float:1 --budget \
size:10%
evaluate in:a.bundle --data in:ratings.csv --min-user int:1
evaluate in:run in:a.bundle --data in:ratings.csv --json
export in:run --out out:new.bundle --layout text:mixed --precision text:int8 --max-bytes size:1MiB
export in:run --out out:new.bundle --precision text:auto --max-bytes size:20KiB --fit --scales text:auto
export in:run --out out:new.bundle --like in:a.bundle --sign in:films.key --no-verify
export in:run --out out:new.bundle --ids text:none --id-map out:map.csv --no-verify
export in:run --out out:new.bundle --no-users --titles --data in:ratings.csv --no-verify
export in:run --out out:new.bundle --max-rss size:200MiB --calibration in:result.json
export --items in:items.npy --users in:users.npy --ids in:ids.txt --user-ids in:user-ids.txt --out \
out:new.bundle --no-verify
export --items in:items.npy --users in:users.npy --ids in:odd.txt --out out:new.bundle --layout text:csc \
--lookup --no-verify
diff in:a.bundle in:b.bundle --out out:new.patch
apply in:a.bundle in:a-b.patch
apply in:b.bundle --undo
apply in:signed.bundle in:a-b.patch --trusted in:films.key.pub
fold-in in:a.bundle in:new.csv --run in:run --out out:new.patch --save out:run-2
keys new out:new.key
inspect in:a.bundle --json
inspect in:run
inspect in:signed.bundle --trusted in:films.key.pub
recommend in:a.bundle --user id:3 -k int:5 --exclude ids:1,2
recommend in:a.bundle --user id:3 -k int:2 --allow ids:1,2,4 --json
recommend in:history.bundle --history ids:1,2 -k int:5
recommend in:a.bundle --user id:3 --data in:ratings.csv
similar in:a.bundle id:3 -k int:4
bench in:a.bundle --out out:new.json --processes int:1 --calls int:3 --seconds float:0 -k int:3 --exclude \
int:2
bench in:a.bundle --device text:local --scenario text:load --processes 1 --threads int:1 --memory size:128M
compare in:result.json in:result.json --fail-if text:p50>1.5x --format text:table
report in:result.json --out out:new.html --format text:html
report in:result.json in:run --out out:new.html
report in:result.json --format text:csv --out out:new.csv
suite text:smoke --list
suite in:suite.toml --out out:made --only text:x
devices info text:local
devices check text:nowhere --memory size:128M
devices list
demo in:a.bundle --out out:site
doctor --json""".splitlines()
NUMBERS = (
    "",
    "x",
    "1.5",
    "-1",
    "0",
    DIGITS,
    "nan",
    "inf",
    "-inf",
    "-9223372036854775809",
    "１２",
    "1e3",
    " 5 ",
    "0x10",
    "1_0",
)
TEXTS = ("", "DENSE", LONG, "a\nb", "\x1b[31mred", "é\udcff", "x" * 20_000, "-", "None", "../..", "%s%n", "{}")
ODD: dict[str, tuple[str, ...]] = {
    "int": NUMBERS,
    "float": (*NUMBERS, "1e400", "-0.0"),
    "size": (
        *NUMBERS,
        "0%",
        "-5%",
        "101%",
        "nan%",
        "nanKiB",
        "1e999KiB",
        DIGITS + "GiB",
        "5TB/row",
        "0B/row",
        "KiB",
        "1KiB",
    ),
    "text": (
        *TEXTS,
        DIGITS,
        "random:0/100",
        "random:nan/1",
        "new:0",
        "days:-1",
        "days:nan",
        "p50>nanx",
        "ssh://",
        "adb:\x1b",
    ),
    "set": (
        "",
        "x",
        "=",
        "reg=nan",
        "reg=1e400",
        "reg=-1",
        f"epochs={DIGITS}",
        "alpha=",
        "reg=\x1b[0m",
        LONG + "=1",
        "é=1",
    ),
    "id": (*TEXTS, *NUMBERS, "999999", "3.0"),
    "ids": (*TEXTS, *NUMBERS, ",", "1,,2", ",1", "1,nan", "1,2," * 3000, "1\x00"),
    "in": (
        *(
            "missing",
            "",
            ".",
            "/",
            "folder",
            "foreign.txt",
            "fifo",
            "loop",
            "dangling",
            LONG,
            LONG * 20,
            "a\udcff",
            "\x1b[2Jx",
        ),
        *(
            "deep.json",
            "bad.json",
            "bytes.bin",
            "empty",
            "run",
            "a.bundle",
            "result.json",
            "ratings.csv",
            "films.key",
            "huge.npy",
        ),
        *(
            "object.npy",
            "cut.npy",
            "/dev/null",
            "/dev/full",
            "a.bundle/manifest.json",
            "broken.bundle",
            "link.csv",
            "plan.toml",
        ),
        *(
            "bom.csv",
            "crlf.csv",
            "latin.csv",
            "nul.csv",
            "ms.csv",
            "numeric.csv",
            "nan.csv",
            "u64.parquet",
            "digits.csv",
            "bad.toml",
        ),
    ),
    "out": (
        *(
            "",
            ".",
            "..",
            "/",
            "folder",
            "foreign.txt",
            "fifo",
            "loop",
            "dangling",
            LONG,
            "a\udcff",
            "no/such/folder/x",
            "foreign.txt/x",
        ),
        *(
            "/dev/full",
            "/proc/x",
            "run",
            "run/x",
            "a.bundle/x",
            "a.bundle",
            "ratings.csv",
            "link.csv",
            "items.npy",
            "result.json",
        ),
        *(
            "foreign.bundle",
            "films.key",
            "films.key.pub",
            "plan.toml",
            "a-b.patch",
            "ids.txt",
            "new.csv",
            "b.bundle",
            "\x1b[2Jx",
            "run/..",
        ),
    ),
}


@dataclass(frozen=True)
class Command:
    """A command line; `how` is "fork", "closed", "full", "pipe" or "interrupt"."""

    number: int
    words: tuple[str, ...]
    how: str
    odd: tuple[str, ...]


def draw(seed: int, number: int) -> Command:
    """Return the command of a number: a template with one or two of its values replaced by odd ones."""
    rng = np.random.default_rng([seed, number])
    template = TEMPLATES[number % len(TEMPLATES)]
    words = [_typed(word) for word in template.split(" ")]
    typed = [place for place, (kind, _) in enumerate(words) if kind]
    odd = []
    for place in rng.permutation(typed)[: int(rng.choice([0, 1, 2], p=[0.05, 0.7, 0.25]))]:
        kind = words[place][0]
        value = ODD[kind][int(rng.integers(len(ODD[kind])))]
        odd.append(f"{kind} {value[:30]!a}")
        words[place] = ("", value)
    chance = rng.random()
    how = "fork"
    if chance < 0.05:
        how = str(rng.choice(["closed", "full", "pipe"]))
    elif chance < 0.08 and template.split(" ")[0] in ("train", "stream", "bench"):
        how = "interrupt"
    return Command(number, tuple(word for _, word in words), how, tuple(odd))


def _typed(word: str) -> tuple[str, str]:
    kind, colon, value = word.partition(":")
    return (kind, value) if colon and kind in ODD else ("", word)


def attack(command: Command, world: Path, place: Path) -> tuple[str, list[tuple[str, str]]]:
    """Run a command in a copy of the world; return its exit status and its findings."""
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["cp", "-a", str(world), str(place)], check=True)
    before = snapshot(place)
    status, said = _forked(command, place) if command.how == "fork" else _apart(command, place)
    after = snapshot(place)
    found = list(_findings(command, status, said, before, after))
    return status, [(f"{kind} ({command.words[0]})", text) for kind, text in found]


def _forked(command: Command, place: Path) -> tuple[str, str]:
    log = place.parent / "said"
    pid = os.fork()
    if pid == 0:
        _child(command, place, log)
    ends = time.monotonic() + MOST_S
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return str(code), log.read_text("utf-8", "surrogateescape")
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang", log.read_text("utf-8", "surrogateescape")


def _child(command: Command, place: Path, log: Path) -> None:
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
        sys.argv = ["edgerec", *command.words]
        from edgerec.cli import main

        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _apart(command: Command, place: Path) -> tuple[str, str]:
    """Run a command in a process of its own, with standard output closed, full, or a pipe that nobody reads."""
    words: list[str | bytes] = [sys.executable, "-m", "edgerec.cli"]
    words += [os.fsencode(word) for word in command.words]
    if command.how == "closed":
        words = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    with Path("/dev/full").open("wb") as full:
        out = full if command.how == "full" else subprocess.PIPE
        process = subprocess.Popen(
            words, cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True
        )
        if command.how == "pipe" and process.stdout:
            process.stdout.close()
            process.stdout = None
        if command.how == "interrupt":
            time.sleep(3)
            process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=MOST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
            return "hang", errors.decode("utf-8", "surrogateescape")
    return str(process.returncode), errors.decode("utf-8", "surrogateescape")


def _findings(
    command: Command, status: str, said: str, before: dict[str, str], after: dict[str, str]
) -> Iterator[tuple[str, str]]:
    allowed = {"0", "2", "130"} | ({"1"} if command.words[0] == "compare" else set())
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if "Traceback (most recent call last)" in said:
        yield f"traceback: {last.split(':')[0][:60]}", last[:200]
    elif status not in allowed and not (command.how == "pipe" and status == "-13"):
        yield f"exit status {status}", f"{command.how}: {last[:200]}"
    if control := CONTROL.search(said.replace("\r\n", "\n")):
        yield f"control character {control[0]!a}", said[max(0, control.start() - 60) : control.end() + 20]
    if status == "2":
        message = said[said.rfind("Error") :]
        if len(message) > MOST_MESSAGE:
            yield "a long message", f"{len(message)} characters: {message[:100]}"
        if "Error" not in said and command.words[0] not in ("doctor", "devices"):
            yield "refused without an error", said[:200]
        if message.strip().count("\n") > 0:
            yield "an error of several lines", message[:300]
    changed = {name for name, digest in before.items() if after.get(name) != digest}
    if status == "0" and command.words[0] == "apply":
        changed = {name for name in changed if not name.startswith((*command.words[1:2],))}
    if status == "0" and command.words[0] == "export":  # a bundle at --out is replaced
        out = command.words[command.words.index("--out") + 1]
        inputs = {
            word
            for word, flag in zip(command.words[1:], command.words, strict=False)
            if flag in ("--like", "--items", "--calibration")
        }
        if out.endswith(("a.bundle", "b.bundle")) and out not in inputs:
            changed = {name for name in changed if not name.startswith(out)}
    if changed:
        yield "existing files are changed", f"{sorted(changed)[:4]}"
    made = set(after) - set(before)
    if status != "0" and made and command.words[0] not in RESUMABLE and command.how == "fork":
        yield "files are left behind", f"{sorted(made)[:4]}"


def preload() -> None:
    """Import what commands import, before they are forked."""
    import edgerec.cli  # noqa: F401
    from edgerec import Recommender  # noqa: F401

    for name in ("edgerec_export", "onnx", "torch"):
        with suppress(ImportError):
            __import__(name)


def describe(command: Command) -> str:
    return json.dumps(
        [command.how, *(word if len(word) < 60 else f"{word[:20]}...({len(word)})" for word in command.words)]
    )

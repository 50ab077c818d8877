"""Suites: TOML files of steps, each a command and the file that it makes; what is there is not made again.

    about = "what it shows"

    [quality-ml-1m]                    # a step makes NAME.json, or what `makes` says
    command = "python -m edgerec_bench.quality --data ml-1m --out {out}"
    data = "ml-1m"                     # without this data set, or one of a list, the step is skipped
    minutes = 2                        # about, on two processors

{out} is the file that the step makes, {folder} where all of them are made. A file that holds its command must hold this
one, or, where that is told in other words, those of `records`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgerec.data import named_sets
from edgerec.data.folders import find_interactions
from edgerec.errors import BenchError
from edgerec.files import cache_folder, read_bytes, storage_failure
from edgerec.json_records import parse_json, parse_toml

FOLDERS = (Path(__file__).with_name("suites"), Path(__file__).parents[1] / "suites")
"""In an installed package, and in a checkout."""
PROGRAMS = {"python": [sys.executable], "edgerec": [sys.executable, "-m", "edgerec.cli"]}


@dataclass(frozen=True)
class Step:
    """One measurement.

    Attributes:
        makes: the file whose presence says that it is done, below the suite's folder.
        data: the names of the data sets that it needs.
        minutes: that it takes on two processors; None where nobody looked.
        records: the commands that the file holds; empty where it is this step's own.
    """

    name: str
    command: str
    makes: str
    data: tuple[str, ...] = ()
    minutes: float | None = None
    records: tuple[str, ...] = ()

    @property
    def recorded(self) -> list[str]:
        """The commands that its file holds: without paths."""
        words = shlex.split(self.command)
        place = words.index("--out") if "--out" in words else len(words)
        return list(self.records) or [shlex.join([*words[:place], *words[place + 2 :]])]

    def arguments(self, folder: Path) -> list[str]:
        """What to run."""
        program, *words = shlex.split(self.command)
        places = {"{out}": str(folder / self.makes), "{folder}": str(folder)}
        return [*PROGRAMS[program], *(_filled(word, places) for word in words)]

    def is_made(self, folder: Path) -> bool:
        """Whether its file is there and whole. Raises BenchError where another command made it."""
        path = folder / self.makes
        if not path.exists():
            return False
        held = commands_in(path)
        if "{folder}" in self.command or held is None or held == self.recorded:
            return True
        if held == self.recorded[: len(held)]:
            return False
        raise BenchError(
            f"{path} was made by another command ({'; '.join(held)}); delete it to have it made by the step "
            f"{self.name}, or choose another --out"
        )


def _filled(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


def commands_in(path: Path) -> list[str] | None:
    """The commands that a result says it was made by; None where it says none."""
    if path.suffix != ".json":
        return None
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    results = content if isinstance(content, list) else [content]
    if not all(isinstance(result, dict) and isinstance(result.get("command"), str) for result in results):
        return None
    # Bundles that were measured together hold the same command.
    return list(dict.fromkeys(shlex.join(shlex.split(result["command"])) for result in results))


@dataclass(frozen=True)
class Suite:
    """Steps in the order in which they are made."""

    name: str
    about: str
    steps: tuple[Step, ...]


def suites() -> dict[str, Path]:
    """The files of the named suites."""
    found = next((folder for folder in FOLDERS if folder.is_dir()), None)
    return {} if found is None else {path.stem: path for path in sorted(found.glob("*.toml"))}


def read_suite(name: str) -> Suite:
    """A suite by its name, or of a TOML file. Raises BenchError, StorageError."""
    known = suites()
    path = known.get(name, Path(name))
    if name not in known and path.suffix != ".toml":
        raise BenchError(f"there is no suite {name!r}; there are: {', '.join(known)}, or give a TOML file")
    text = read_bytes(path)
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise BenchError(f"{path} is no TOML ({error}); mend that line") from error
    about = content.pop("about", "")
    if not content:
        raise BenchError(f"{path} holds no step; write a table such as [name] with a command")
    return Suite(path.stem, str(about), tuple(_step(path, step, fields) for step, fields in content.items()))


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "command": str,
    "makes": str,
    "data": (str, list),
    "minutes": (int, float),
    "records": list,
}


def _step(path: Path, name: str, fields: Any) -> Step:
    wrong = f"the step {name} of {path}"
    if not isinstance(fields, dict) or "command" not in fields:
        raise BenchError(f"{wrong} is no table with a command")
    for field_name, value in fields.items():
        if field_name not in _FIELDS or not isinstance(value, _FIELDS[field_name]):
            raise BenchError(f"{wrong} cannot have {field_name} = {value!r}; it has: {', '.join(_FIELDS)}")
    program = (fields["command"].split() or [""])[0]
    if program not in PROGRAMS:
        raise BenchError(f"{wrong} runs {program!r}; a command begins with {' or '.join(PROGRAMS)}")
    data = fields.get("data", [])
    needed = (data,) if isinstance(data, str) else tuple(map(str, data))
    for one in needed:
        if one not in named_sets():
            raise BenchError(f"{wrong} needs the data {one!r}; named sets: {', '.join(named_sets())}")
    records = tuple(map(str, fields.get("records", ())))
    return Step(**{"name": name, "makes": f"{name}.json", **fields, "data": needed, "records": records})


@dataclass
class Outcome:
    """What a call of `run_suite` did, by the names of the steps.

    Attributes:
        kept: made before.
        made: seconds.
        skipped, failed: the reason.
    """

    kept: list[str] = field(default_factory=list)
    made: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run_suite(steps: Sequence[Step], folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Run every step whose file is not there, one after the other; what they print goes where this process prints.

    A step that fails does not stop the others. Interrupted, the running step is stopped and its file is not there.

    Raises:
        BenchError: a file was made by another command; before any step is run.
        StorageError: the folder cannot be made.
    """
    outcome = Outcome()
    waiting = [step for step in steps if not step.is_made(folder)]
    outcome.kept = [step.name for step in steps if step not in waiting]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        storage_failure(folder, error, "write")
    for number, step in enumerate(waiting, 1):
        missing = next((name for name in step.data if not _is_here(name)), None)
        if missing is not None:
            outcome.skipped[step.name] = f"{missing} is not here; bring it with 'edgerec data show {missing}'"
            tell(f"SKIPPED {step.name}: {outcome.skipped[step.name]}")
            continue
        about = "" if step.minutes is None else f", about {step.minutes:g} minutes"
        tell(f"{number} of {len(waiting)}: {step.name}{about}: {step.command}")
        started = time.perf_counter()
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        status = subprocess.run(step.arguments(folder), env=environment, check=False).returncode
        if status:
            outcome.failed[step.name] = f"status {status}"
        elif not (folder / step.makes).exists():
            outcome.failed[step.name] = f"it made no {step.makes}"
        else:
            outcome.made[step.name] = time.perf_counter() - started
    return outcome


def _is_here(data: str) -> bool:
    """Whether a named set is in the cache."""
    entry = named_sets()[data]
    cache = Path(os.environ.get("EDGEREC_DATA") or cache_folder("data"))
    generated = not entry.files and not entry.wheel
    return generated or any(find_interactions(cache / name) for name in (entry.name, *entry.folders))

"""Random tables in every layout, precision and option, exported and compared with the oracle and the original values.

A table follows from the seed and its number alone; most are exported by the documented Python API, some by the command
line. A finding is a line that names what is wrong; findings of one kind are counted, and three of each are kept.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.experiments.attack import MOST_MESSAGE
from bench.experiments.attack.oracle import Floats, Oracle, Side, SpecificationError
from bench.experiments.attack.requests import ask
from edgerec import Recommender
from edgerec.errors import BudgetError, EdgeRecError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime.ids import id_hash
from edgerec.runtime.stored import unpack
from edgerec_export import export, from_arrays

LAYOUTS = ("dense", "mixed", "csr", "ell", "bitmask", "csc", "auto")
PRECISIONS = ("fp32", "fp16", "int8", "int4", "int2", "auto")
VALUES = (
    "normal",
    "low rank",
    "whole",
    "duplicates",
    "scaled rows",
    "tiny",
    "huge",
    "wild",
    "half's end",
    "nan",
    "inf",
    "zero",
)
PLAIN = ("normal", "low rank", "whole", "duplicates")
"""Values that every precision holds: their rows must come back."""
PROMISED = {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.06, "int4": 0.6, "int2": 0.9}
"""Relative Frobenius error of the items of plain tables."""


ORDINARY = (1e-3, 60_000.0)
"""Largest values of tables that no precision moves; others are moved by a power of two (docs/reference/bundle.md)."""


@dataclass
class Case:
    """A table, how it is exported, and its findings: (kind, text)."""

    number: int
    items: NDArray[np.float32]
    users: NDArray[np.float32] | None
    item_ids: list[Any] | None
    user_ids: list[Any] | None
    encoder: Any
    counts: NDArray[np.int64] | None
    options: dict[str, Any]
    values: str
    ids: str
    command_line: bool
    findings: list[tuple[str, str]] = field(default_factory=list)
    zeros: dict[str, int] = field(default_factory=dict)
    one_file: bool = False

    def find(self, kind: str, text: str) -> None:
        if len(self.findings) < 20:
            self.findings.append((kind, text[:400]))

    def describe(self) -> dict[str, Any]:
        people = "users" if self.users is not None else type(self.encoder).__name__
        shape = [int(n) for n in self.items.shape]
        options = {key: str(value) if isinstance(value, Path) else value for key, value in self.options.items()}
        return {
            "number": self.number,
            "shape": shape,
            "values": self.values,
            "ids": self.ids,
            "for": people,
            **options,
            "one_file": self.one_file,
        }


def draw(seed: int, number: int, scratch: Path) -> Case:
    """Return the table of a number."""
    rng = np.random.default_rng([seed, number])
    rows = int(rng.choice([1, 2, 3, 5, 17, 60, 200, 700], p=[0.06, 0.04, 0.05, 0.1, 0.2, 0.3, 0.2, 0.05]))
    d = int(rng.choice([1, 2, 3, 7, 8, 9, 16, 31, 64, 257, 1024, 2048], p=[0.06, *[0.09] * 9, 0.1, 0.03]))
    rows = min(rows, 60) if d > 500 else rows
    values = str(rng.choice(VALUES, p=[0.3, 0.08, 0.08, 0.08, 0.1, 0.07, 0.07, 0.07, 0.05, 0.04, 0.04, 0.02]))
    items = table(rng, rows, d, values)
    users = table(rng, int(rng.integers(1, 40)), d, values if rng.random() < 0.7 else "normal")
    people = str(rng.choice(["users", "linear", "fitted", "ials"], p=[0.5, 0.2, 0.15, 0.15]))
    kind = str(
        rng.choice(
            ["none", "whole", "negative", "64 bits", "text", "unicode", "long", "repeated"], p=[0.3, *[0.11] * 6, 0.04]
        )
    )
    options: dict[str, Any] = {"layout": str(rng.choice(LAYOUTS)), "precision": str(rng.choice(PRECISIONS))}
    chosen = str(rng.choice(["auto", "table", "block", "row"]))
    options["scales"] = chosen if options["precision"] in ("int8", "int4") or rng.random() < 0.03 else "auto"
    options["lookup"] = bool(rng.random() < (0.6 if options["layout"] == "csc" else 0.02))
    options["similar"] = [None, True, False][int(rng.integers(3))]
    if rng.random() < 0.3 or options["precision"] == "auto":
        options["max_bytes"] = int(12000 + rng.random() * 1.2 * rows * d * 4 + rows * 8)
        options["fit"] = bool(rng.random() < 0.6)
    if rng.random() < 0.06:
        options |= {"ids": "none", "id_map": scratch / "map.csv"}
    options["verify"] = bool(rng.random() < 0.03)
    case = Case(
        number,
        items,
        users if people == "users" else None,
        ids(rng, rows, kind),
        ids(rng, len(users), str(rng.choice(["none", "whole", "text"]))) if people == "users" else None,
        encoder(rng, people, rows, d),
        rng.integers(0, 50, rows) if people != "users" and rng.random() < 0.7 else None,
        options,
        values,
        kind,
        bool(rng.random() < 0.03 and people == "users" and kind not in ("unicode", "long", "repeated")),
    )
    if case.command_line:
        return case
    options["rotate"] = bool(rng.random() < 0.5)
    options["version"] = "1.0" if rng.random() < 0.15 else "2.0"
    case.one_file = bool(rng.random() < 0.2)
    if rng.random() < 0.1 and "ids" not in options:
        options["ids"] = "hash64"
    return case


def table(rng: np.random.Generator, rows: int, d: int, values: str) -> NDArray[np.float32]:
    """Return (rows, d) values of a kind, in half of them with places that are zero."""
    made = rng.standard_normal((rows, d))
    if values == "low rank":
        made = rng.standard_normal((rows, 2)) @ rng.standard_normal((2, d))
    elif values == "whole":
        made = rng.integers(-3, 4, (rows, d)).astype(float)
    elif values == "duplicates":
        made = made[rng.integers(0, max(1, rows // 3), rows)]
    elif values == "scaled rows":
        made *= 10.0 ** rng.uniform(-3, 3, (rows, 1))
    elif values in ("tiny", "huge"):
        made *= 10.0 ** (rng.uniform(10, 30) * (-1 if values == "tiny" else 1))
    elif values == "wild":
        made *= 10.0 ** rng.uniform(-30, 30, (rows, 1))
    elif values == "half's end":
        made *= 10.0 ** float(rng.choice([-8.0, -5.0, 4.6, 5.0]))
    elif values == "zero":
        made *= 0
    sparsity = rng.random()
    if sparsity < 0.25:
        made *= np.arange(d) < rng.integers(0, d + 1, (rows, 1))
    elif sparsity < 0.55:
        made *= rng.random((rows, d)) < rng.choice([0.02, 0.1, 0.3, 0.6, 0.9])
    made[rng.random(rows) < 0.05] = 0
    if values in ("nan", "inf"):
        made[rng.integers(rows), rng.integers(d)] = np.nan if values == "nan" else rng.choice([np.inf, -np.inf])
    return made.astype(np.float32)


def ids(rng: np.random.Generator, rows: int, kind: str) -> list[Any] | None:
    if kind == "none":
        return None
    if kind == "repeated":
        return [7] * rows
    if kind in ("whole", "negative", "64 bits"):
        low, high = {"whole": (0, 10 * rows + 5), "negative": (-5 * rows - 5, 5 * rows)}.get(
            kind, (-(2**63), 2**63 - 1)
        )
        found: set[int] = set()
        while len(found) < rows:
            found.add(int(rng.integers(low, high, endpoint=True)))
        return [int(value) for value in rng.permutation(np.array(sorted(found)))]
    letters = {"unicode": "aé√𝄞日\u200f ,\"'", "long": "xyz"}.get(kind, "ab-_. 0123")
    words: set[str] = set()
    while len(words) < rows:
        length = int(rng.integers(1, 2000 if kind == "long" and len(words) < 3 else 9))
        words.add("".join(rng.choice(list(letters), length)).strip() + f"{len(words)}")
    return [str(word) for word in rng.permutation(sorted(words))]


def encoder(rng: np.random.Generator, people: str, rows: int, d: int) -> Any:
    if people == "users":
        return None
    if people == "ials":
        return LeastSquaresEncoder(alpha=float(rng.choice([0.5, 3.0, 40.0])), reg=float(rng.choice([0.1, 5.0, 20.0])))
    weights = rng.uniform(0.1, 2, rows).astype(np.float32)
    if people == "linear":
        return LinearEncoder(weights, power=float(rng.choice([0.0, 0.5, 1.0])))
    matrix = rng.standard_normal((d, d)).astype(np.float32)
    return LinearEncoder(
        weights, 1.0, matrix, rng.standard_normal(d).astype(np.float32) if rng.random() < 0.6 else None
    )


def attack(seed: int, number: int, scratch: Path) -> tuple[Case, str]:
    """Export one table and ask its bundle; return it and its outcome: "answered", or the name of the error.

    What is found in a bundle that was not verified is looked for once more in a verified one: where verification
    refuses that, as it does by default, the outcome says so and the findings are dropped.
    """
    case = draw(seed, number, scratch)
    outcome = _attack(case, scratch)
    if outcome == "answered" and case.findings and not case.options["verify"]:
        again = draw(seed, number, scratch)
        again.options["verify"] = True
        if _attack(again, scratch) != "answered":
            return again, "refused by verification alone"
    return case, outcome


def _attack(case: Case, scratch: Path) -> str:
    out = scratch / "bundle"
    shutil.rmtree(out, ignore_errors=True)
    try:
        said = by_command(case, scratch, out) if case.command_line else by_api(case, out)
    except EdgeRecError as error:
        text = str(error)
        if "\n" in text or len(text) > MOST_MESSAGE or re.search(r"[\x00-\x1f\x7f]", text):
            case.find("error of several lines", text)
        said = type(error).__name__
        if case.values in PLAIN and said == "TableError":
            case.find("a finite table is refused", text)
        if said == "BudgetError" and not str(error).startswith(f"the bundle does not fit {case.options['max_bytes']} "):
            case.find("the smallest size that is named is refused", text)
        if case.values in PLAIN and said == "VerificationError":
            case.find("a bundle of plain values fails verification", text)
    except Exception as error:
        case.find(f"unnamed error: {type(error).__name__}", str(error))
        return "unnamed"
    if said != "answered":
        if out.exists() or list(scratch.glob(".*")):
            case.find("a refused export leaves files", " ".join(path.name for path in scratch.iterdir()))
        return said
    if case.values in ("nan", "inf") and not np.isfinite(case.items).all():
        case.find("a table that is not finite is exported", "")
        return "answered"
    try:
        check(case, out, scratch)
    except SpecificationError as error:
        case.find("against the specification", str(error))
    except Exception as error:
        case.find(f"unnamed error when asked: {type(error).__name__}", str(error))
    return "answered"


def by_api(case: Case, out: Path) -> str:
    arguments: dict[str, Any] = {"item_ids": case.item_ids, "user_ids": case.user_ids, "encoder": case.encoder}
    source = from_arrays(case.items, case.users, item_counts=case.counts, **arguments)
    place = out.with_suffix(".edgerec") if case.one_file else out
    place.unlink(missing_ok=True)
    try:
        done = export(source, place, **case.options)
    except BudgetError as error:
        done = export(source, place, **{**case.options, "max_bytes": smallest(error)})
        case.options["max_bytes"] = smallest(error)
    case.zeros = done.rounded_to_zero
    if case.one_file:
        size, limit = place.stat().st_size, case.options.pop("max_bytes", None)
        if limit is not None and size > limit:
            case.find("larger than its limit", f"{size} bytes where {limit} are allowed")
        unpack(place, out)
        place.unlink()
    else:
        size = sum(path.stat().st_size for path in out.iterdir())
    if size != done.nbytes:
        case.find("bytes said are not bytes written", f"{done.nbytes} said, {size} written")
    return "answered"


def smallest(error: BudgetError) -> int:
    """Return the smallest size that a refusal names; it must be enough."""
    named = re.search(r"is (\d+) bytes", str(error))
    if named is None:
        raise error
    return int(named[1])


def by_command(case: Case, scratch: Path, out: Path) -> str:
    """Export by the command line; its own tables have users here."""
    command = [sys.executable, "-m", "edgerec.cli", "export", "--out", str(out)]
    for name, value in (("items", case.items), ("users", case.users)):
        np.save(scratch / f"{name}.npy", np.asarray(value))
        command += [f"--{name}", str(scratch / f"{name}.npy")]
    for flag, raw in (("--ids", case.item_ids), ("--user-ids", case.user_ids)):
        if raw is not None and not (flag == "--ids" and case.options.get("ids")):
            (scratch / flag).write_text("".join(f"{one}\n" for one in raw), encoding="utf-8")
            command += [flag, str(scratch / flag)]
    if case.options.get("ids"):
        case.item_ids = None
        command += ["--ids", "none", "--id-map", str(case.options["id_map"])]
    for key in ("layout", "precision", "scales", "max_bytes"):
        if case.options.get(key) is not None:
            command += [f"--{key.replace('_', '-')}", str(case.options[key])]
    command += [flag for key, flag in (("fit", "--fit"), ("lookup", "--lookup")) if case.options.get(key)]
    if case.options["similar"] is not None:
        command.append("--similar" if case.options["similar"] else "--no-similar")
    command.append("--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        case.find("the command line ends oddly", f"{done.returncode}: {done.stderr[-300:]}")
    if done.returncode != 0:
        return "refused by the command line"
    case.zeros = json.loads(done.stdout)["rounded_to_zero"]
    return "answered"


def check(case: Case, out: Path, scratch: Path) -> None:
    """Compare a bundle with the oracle, and the oracle with the original table."""
    oracle = Oracle(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    if (most := case.options.get("max_bytes")) is not None and size > most:
        case.find("larger than its limit", f"{size} bytes where {most} are allowed")
    order = {side: row_order(case, oracle, side) for side in ("item", "user")}
    if any(rows is None for rows in order.values()):
        return
    rotated = "rotation" in oracle.manifest
    transformed = bool(case.options.get("fit")) or case.options["precision"] == "auto" or rotated
    d = oracle.manifest["d"]
    people = case.users if case.users is not None else case.items
    if not transformed and case.items[:, d:].any() and (people[:, d:].any() or "similar" in oracle.manifest["graphs"]):
        case.find("dimensions are left out that count", f"{d} of {case.items.shape[1]} ship")
    originals = [
        None if raw is None or transformed else raw[order[side]][:, :d].astype(np.float64)
        for side, raw in (("item", case.items), ("user", case.users))
    ]
    known = oracle.decode(*originals)
    if known and originals[0] is not None:
        for name, original, side in zip(("item", "user"), originals, (oracle.items, oracle.user_side), strict=True):
            if original is not None and side is not None and side.scaled:
                compare_values(case, oracle, name, original, side)
    with Recommender.load(out) as model:
        if model.item_ids(range(model.n_items)) != oracle.ids("item"):
            case.find("ids differ", "item_ids(range(n_items)) is not the section's")
        for kind, text in ask(model, oracle, known, np.random.default_rng([case.number, 1])):
            case.find(kind, text)


def row_order(case: Case, oracle: Oracle, side: str) -> NDArray[np.int64] | None:
    """Return the original row of each bundle row; None, and a finding, where ids were lost or do not ascend."""
    raw = case.item_ids if side == "item" else case.user_ids
    rows = case.items if side == "item" else case.users
    if rows is None:
        return np.zeros(0, np.int64)
    known = list(range(len(rows))) if raw is None else raw
    found = oracle.ids(side)
    if case.options.get("ids") == "hash64":
        known = [f"{id_hash(str(one)) % 2**64:016x}" for one in known]
    if case.options.get("ids") == "none":
        with Path(case.options["id_map"]).open(newline="", encoding="utf-8") as stream:
            lines = [line for line in csv.DictReader(stream) if line["side"] == side]
        found = [type(known[0])(line["id"]) for line in sorted(lines, key=lambda line: int(line["row"]))]
    if sorted(map(str, found)) != sorted(map(str, known)):
        case.find("ids were lost", f"{len(found)} of {len(known)}: {found[:3]}")
        return None
    first = 0
    for _, count in oracle.manifest[side + "s"]["blocks"]:
        keys = [one.encode() if isinstance(one, str) else one for one in found[first : first + count]]
        if case.options.get("ids") == "hash64":  # as signed numbers
            keys = [(int(one, 16) + 2**63) % 2**64 for one in found[first : first + count]]
        if keys != sorted(keys):
            case.find("ids do not ascend in a block", f"{found[:3]}")
        first += count
    place = {one: row for row, one in enumerate(known)}
    return np.array([place[one] for one in found], np.int64)


def compare_values(case: Case, oracle: Oracle, name: str, original: Floats, side: Side) -> None:
    """Compare the values of one side; `name` is 'item' or 'user'."""
    lost = (np.abs(original).max(1) > 0) & (np.abs(side.values).max(1) == 0)
    if lost.sum() > case.zeros.get(name, 0):
        text = f"{int(lost.sum())} of {len(lost)} rows are zero, and export says {case.zeros}"
        case.find(f"a row is lost without a word: {oracle.manifest['precision']}", text)
    largest = [float(np.abs(table).max(initial=0)) for table in (case.items, case.users) if table is not None]
    if not all(ORDINARY[0] <= value <= ORDINARY[1] for value in largest):
        # The table was moved by a power of two; scores, which users and items make together, are compared elsewhere.
        shipped = float(np.abs(side.values).max(initial=0))
        mine = float(np.abs(original).max(initial=0))
        original = original * 2.0 ** round(math.log2(shipped / mine)) if shipped and mine else original
    norm = np.linalg.norm(original)
    error = np.linalg.norm(side.values - original) / norm if norm else 0.0
    if case.values in PLAIN and not error <= PROMISED[oracle.manifest["precision"]]:
        case.find(f"values differ: {oracle.manifest['precision']}", f"relative error {error:.3g}")
    # A table that is moved may reach float32's smallest numbers, which lie this far apart.
    if oracle.bits == 32 and not np.allclose(side.values, original, rtol=1e-6, atol=2.0**-149):
        case.find("fp32 values differ", f"relative error {error:.3g}")

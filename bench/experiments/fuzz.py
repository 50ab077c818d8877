"""Spoilt bundles, tens of thousands of them: none may crash the process, hang it, or answer what is not its own.

usage: python -m bench.experiments.fuzz [--count 20000] [--seed 0] [--out result.json]

Bundles of every layout, with users, without, and of NCF, are spoilt at random (`fuzz_mutants`): bits, cuts, noise,
files swapped, missing or replaced by links and pipes, edited manifests, edited graphs. Half keep their manifest, and
must be refused by a named error. The other half have their sizes and sha256 made to fit, so that all else must tell:
where what was changed is a value of a table, or a constant of a graph, the mutant is another bundle, whole by every
sign, and answers as one. Each is opened and asked everything in a process of its own, which is watched from outside.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import ROOT, Figures, experiment
from edgerec.console import messages, print_table
from edgerec.errors import BenchError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.tables import PrefixTable, SparseTable
from edgerec_export import ExportRequest, Source, export_request

WORKER = "bench.experiments.fuzz_worker"
HANGS_S = 60.0
"""A mutant that has not been answered for so long hangs. Made to be far above what any takes on a busy machine."""
FORMS = (
    ("mixed", "int8", "users"),
    ("mixed", "int4", "ials"),
    ("dense", "fp32", "linear"),
    ("ell", "int8", "users"),
    ("csr", "fp16", "ials"),
    ("bitmask", "int8", "linear"),
    ("csc", "int8", "users"),
    ("csc", "fp32", "ncf"),  # a scan inside a loop
)
N_ITEMS, N_USERS, D = 150, 40, 8


def bundles(folder: Path) -> list[Path]:
    """The bundles that are spoilt, each of another form."""
    rng = np.random.default_rng(0)
    made = []
    for number, (layout, precision, subject) in enumerate(FORMS):
        values, sizes = rng.standard_normal((N_ITEMS, D), np.float32), rng.integers(1, D + 1, N_ITEMS)
        prefix = layout in ("mixed", "dense")
        mask = np.arange(D) < sizes[:, None] if prefix else rng.random((N_ITEMS, D)) < 0.4
        items = PrefixTable.from_dense(values, sizes) if prefix else SparseTable.from_dense(values, mask)
        texts = bool(number % 2)
        ids = np.array([f"film {one}é" for one in range(N_ITEMS)]) if texts else np.arange(N_ITEMS) * 3 + 7
        titles = np.array([f"Title {one}" for one in range(N_ITEMS)]) if texts else None
        counts, about = rng.integers(1, 99, N_ITEMS), {"backbone": "random"}
        if subject in ("users", "ncf"):
            users = PrefixTable.from_dense(
                rng.standard_normal((N_USERS, D), np.float32), rng.integers(1, D + 1, N_USERS)
            )
            scorer = _scorer(rng) if subject == "ncf" else None
            source = Source(
                *(items, ids, users, np.arange(N_USERS) + 7),
                titles=titles,
                item_counts=counts,
                scorer=scorer,
                about=about,
            )
        else:
            encoder = (
                LeastSquaresEncoder(3, 20) if subject == "ials" else LinearEncoder(rng.random(N_ITEMS, np.float32))
            )
            source = Source(items, ids, encoder=encoder, titles=titles, item_counts=counts, about=about)
        options = ExportRequest(layout, precision, verify=False)
        made.append(export_request(source, folder / f"{layout}-{precision}-{subject}.bundle", options).folder)
    return made


def _scorer(rng: np.random.Generator) -> NeuMFScorer:
    """Half of the dimensions multiplied, half for a perceptron of one hidden layer."""
    layers = [(rng.standard_normal((D, 4), np.float32), rng.standard_normal(4, np.float32))]
    layers += [(rng.standard_normal((4, 1), np.float32), rng.standard_normal(1, np.float32))]
    return NeuMFScorer(rng.standard_normal(D // 2, np.float32), tuple(layers))


@dataclass
class Tally:
    """What became of the mutants, by (way, whether rehashed): how many were refused, by which error, and so on."""

    outcomes: dict[tuple[str, bool], Counter[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """A worker's word on a mutant."""
        number, way, rehashed = line["end"], line["way"], line["rehashed"]
        counts = self.outcomes.setdefault((way, rehashed), Counter())
        if "refused" in line:
            counts["refused"] += 1
            self.errors[line["refused"]] += 1
            if line["lines"] != 1:
                self.faults.append(f"mutant {number} ({way}) is refused in {line['lines']} lines")
            return
        if "unnamed" in line:
            self.faults.append(f"mutant {number} ({way}) ends in {line['unnamed']}")
            return
        counts[line["answers"]] += 1
        if not rehashed and line["answers"] == "others":
            self.faults.append(f"mutant {number} ({way}) answers from a file that is not its manifest's")

    def rows(self) -> list[list[Any]]:
        """One a way: how many, refused, answered as before, and as another bundle."""
        return [
            [
                way,
                "yes" if rehashed else "no",
                counts.total(),
                *(counts[one] for one in ("refused", "the same", "others")),
            ]
            for (way, rehashed), counts in sorted(self.outcomes.items(), key=lambda one: (one[0][1], one[0][0]))
        ]


COLUMNS = ("spoilt", "sha256 made to fit", "bundles", "refused", "answer as before", "answer as another bundle")


def fuzz(count: int, seed: int, first: int = 0) -> Tally:
    """Try so many mutants. What must not be is told in `faults`: crashes, hangs, unnamed errors, foreign answers."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="edgerec-fuzz-") as scratch:
        sources = bundles(Path(scratch))
        at, end = first, first + count
        while at < end:
            begun = at
            for line in _worker(seed, at, end, Path(scratch), sources):
                if "begin" in line:
                    begun = line["begin"]
                elif "end" in line:
                    tally.add(line)
                    at = line["end"] + 1
                    if at % 1000 == 0:
                        messages.print(f"{at - first} of {count}")
                else:
                    tally.faults.append(f"mutant {begun} {line['fault']}")
                    at = begun + 1
    return tally


def _worker(seed: int, first: int, end: int, scratch: Path, sources: list[Path]) -> Iterator[dict[str, Any]]:
    """The lines of a worker; {'fault': ...} where it died or hung, and then no more."""
    command = [
        sys.executable,
        "-m",
        "bench.experiments.fuzz_worker",
        *map(str, (seed, first, end, 1, scratch, *sources)),
    ]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0, cwd=ROOT) as process,
        selectors.DefaultSelector() as waiting,
    ):
        if process.stdout is None:
            raise BenchError("a worker has no output; run its command to see why")
        waiting.register(process.stdout, selectors.EVENT_READ)
        try:
            while waiting.select(HANGS_S):
                line = process.stdout.readline()
                if not line:
                    break
                yield json.loads(line)
            else:
                yield {"fault": f"hangs for {HANGS_S:.0f} s"}
                return
            process.wait(HANGS_S)
        finally:
            process.kill()
    if process.returncode:
        yield {"fault": f"ends the process with status {process.returncode}"}


@experiment("fuzz")
@click.option("--count", default=20_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> Figures:
    """Spoil, ask, and count. Ends with status 1 where anything was found that must not be."""
    tally = fuzz(count, seed)
    print_table("spoilt bundles", COLUMNS, tally.rows())
    for fault in tally.faults:
        messages.print(fault)
    return {
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in tally.rows()],
        "refused_by": dict(tally.errors.most_common()),
        "faults": tally.faults,
    }


if __name__ == "__main__":
    main()

"""Fuzzing of bundles: no corrupted bundle may crash or hang the process, or return answers of other data.

usage: python -m bench.experiments.fuzz [--count 20000] [--seed 0] [--out result.json]

Bundles of every layout, with users, without users and of NCF, are corrupted at random (`fuzz_worker`): flipped bits,
truncation, noise, files that are swapped, missing or replaced by links and pipes, edited manifests, edited graphs. Half
of the mutants have the original manifest, and must be refused with a named error. The other half have recomputed sizes
and sha256, so that other checks must find the damage; if only a value of a table or a constant of a graph was changed,
the mutant is a valid bundle and may answer. Each is opened and queried in a process that is watched from outside.
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
"""Seconds without an answer after which a mutant counts as hanging; far above the time on a busy machine."""
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
    """Export the bundles to corrupt, one for each of FORMS."""
    rng = np.random.default_rng(0)
    exported = []
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
        exported.append(export_request(source, folder / f"{layout}-{precision}-{subject}.bundle", options).folder)
    return exported


def _scorer(rng: np.random.Generator) -> NeuMFScorer:
    """Return a scorer that multiplies half of the dimensions and feeds the others to a perceptron with one layer."""
    layers = [(rng.standard_normal((D, 4), np.float32), rng.standard_normal(4, np.float32))]
    layers += [(rng.standard_normal((4, 1), np.float32), rng.standard_normal(1, np.float32))]
    return NeuMFScorer(rng.standard_normal(D // 2, np.float32), tuple(layers))


@dataclass
class Tally:
    """The outcomes of mutants.

    Attributes:
        outcomes: counts of 'refused', 'the same' and 'others' by corruption and whether hashes were recomputed.
        errors: number of refusals by error class.
        faults: descriptions of outcomes that must not occur.
    """

    outcomes: dict[tuple[str, bool], Counter[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Count the outcome of a mutant, a line of a worker."""
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
        """Return a row for each corruption: bundles, refused, same answers, answers of another bundle."""
        return [
            [
                way,
                "yes" if rehashed else "no",
                counts.total(),
                *(counts[one] for one in ("refused", "the same", "others")),
            ]
            for (way, rehashed), counts in sorted(self.outcomes.items(), key=lambda one: (one[0][1], one[0][0]))
        ]


KEYS = ("spoilt", "sha256 made to fit", "bundles", "refused", "answer as before", "answer as another bundle")
"""Keys of a row in the file of figures."""
COLUMNS = ("corruption", "sha256 recomputed", "bundles", "refused", "same answers", "answers of another bundle")


def fuzz(count: int, seed: int, first: int = 0) -> Tally:
    """Try `count` mutants; list crashes, hangs, unnamed errors and foreign answers in `faults`."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="edgerec-fuzz-") as scratch:
        sources = bundles(Path(scratch))
        at, end = first, first + count
        while at < end:
            current = at
            for line in _worker(seed, at, end, Path(scratch), sources):
                if "begin" in line:
                    current = line["begin"]
                elif "end" in line:
                    tally.add(line)
                    at = line["end"] + 1
                    if at % 1000 == 0:
                        messages.print(f"{at - first} of {count}")
                else:
                    tally.faults.append(f"mutant {current} {line['fault']}")
                    at = current + 1
    return tally


def _worker(seed: int, first: int, end: int, scratch: Path, sources: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a worker; the last one is {'fault': ...} if it died or hung."""
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
@click.option("--count", default=20_000, show_default=True, help="Number of corrupted bundles.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
def main(count: int, seed: int) -> Figures:
    """Corrupt bundles, query them and count the outcomes; exit with status 1 if there are faults."""
    tally = fuzz(count, seed)
    print_table("corrupted bundles", COLUMNS, tally.rows())
    for fault in tally.faults:
        messages.print(fault)
    return {
        "rows": [dict(zip(KEYS, row, strict=True)) for row in tally.rows()],
        "refused_by": dict(tally.errors.most_common()),
        "faults": tally.faults,
    }


if __name__ == "__main__":
    main()

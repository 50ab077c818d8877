"""A large synthetic catalogue in mixed sizes against the dense model that most people would export.

usage: python -m edgerec_bench.scale --items 1000000 [--dimensions 64] [--users 10000] [--rounds 5] [--out result.json]

Every contender answers for the same users in fresh processes, one after the other in rounds, so that a drift of the
machine hits all alike. One thread, batch 1, k = 20. Bundles exclude 20 random items a call inside the graph; the plain
models have nothing to exclude with, which favours them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError, EdgeRecError
from edgerec.tables import DenseTable, PrefixTable
from edgerec_bench.figures import Measured
from edgerec_bench.results_file import write_results
from edgerec_bench.scale_result import Contender, ScaleResult
from edgerec_bench.turns import Progress, measure_in_turns
from edgerec_devices import Device, Local
from edgerec_export import Options, Source, export
from edgerec_export.plain import plain_dense

SUBJECT = "A large synthetic catalogue in mixed sizes against the dense model that most people would export."

WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
K = 20
ASKED = 32
TOLERANCE = 1e-5
"""Two scores closer than this, relative to the best, are a tie: float32 sums depend on their order."""

QUESTION = {"calls": 50, "seconds": 0.5, "k": K, "exclude": 20, "history": 20, "threads": 1, "seed": 0}


@dataclass(frozen=True)
class Tables:
    """Items of mixed sizes and dense users, float32."""

    items: PrefixTable
    users: DenseTable

    def best(self, rows: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, n_items) exact scores of some users, and (B,) the score that an item must reach to be among the best."""
        scores = self.users.rows(list(rows)) @ self.items.dense().T
        place = max(self.items.n_rows - K, 0)
        limit: NDArray[np.float32] = np.partition(scores, place, axis=1)[:, place]
        return scores, limit


def make_tables(items: int, dimensions: int, users: int, seed: int = 0) -> Tables:
    """Normal values; item sizes from a gamma distribution, rounded up to 12 widths: about 12 % of 64 dimensions."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((items, dimensions), np.float32)
    widths = np.unique(np.minimum(WIDTHS, dimensions))
    wanted = np.clip(rng.gamma(0.8, dimensions / 8, items), 1, dimensions)
    sizes = widths[np.searchsorted(widths, wanted).clip(0, widths.size - 1)]
    table = PrefixTable.from_dense(values, sizes)
    return Tables(table, DenseTable(rng.standard_normal((users, dimensions), np.float32)))


@dataclass(frozen=True)
class Entry:
    """A contender before it is measured: what the agent is asked, and the bytes of its files."""

    name: str
    request: dict[str, Any]
    nbytes: int


def write_contenders(tables: Tables, folder: Path) -> list[Entry]:
    """Write what is compared, the rival first."""
    plain = folder / "plain.onnx"
    plain_dense(tables.items.dense(), tables.users.values, plain, K)
    ask = {"task": "plain", "model": str(plain), "users": tables.users.n_rows}
    size = plain.stat().st_size
    entries = [
        Entry("plain dense ONNX", {**ask, "prepack": True}, size),
        Entry("plain dense, no prepacking", {**ask, "prepack": False}, size),
    ]
    ids = np.arange(tables.items.n_rows), np.arange(tables.users.n_rows)
    source = Source(tables.items, ids[0], tables.users, ids[1], about={"data": "synthetic"})
    for layout, precision in (("dense", "fp32"), ("mixed", "fp32"), ("mixed", "int8")):
        place = folder / f"{layout}-{precision}.bundle"
        # The exporter's own check would score in float64: gigabytes. Answers are compared with numpy's here.
        written = export(source, place, Options(layout=layout, precision=precision, verify=False))
        entries.append(Entry(f"EdgeRec {layout} {precision}", {"task": "bundle", "bundle": str(place)}, written.nbytes))
    return entries


def compare(
    items: int,
    *,
    dimensions: int = 64,
    users: int = 10_000,
    rounds: int = 5,
    device: Device | None = None,
    progress: Progress | None = None,
) -> ScaleResult:
    """Make the tables, write the contenders, measure them in turns and check their answers.

    Args:
        rounds: fresh processes of each contender.

    Raises:
        BenchError: a process failed, or an fp32 contender does not return numpy's exact best.
    """
    if min(dimensions, users, rounds) < 1 or items < K:
        raise BenchError(f"dimensions, users and rounds must be 1 or more and items {K} or more")
    machine, started = device or Local(), _now()
    asked = np.linspace(0, users - 1, ASKED).astype(int).tolist()
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        tables = make_tables(items, dimensions, users)
        entries = write_contenders(tables, Path(scratch))
        requests = [(entry.name, {**QUESTION, **entry.request, "ask": asked}) for entry in entries]
        answers = measure_in_turns(requests, rounds, machine, progress)
    best = tables.best(asked)
    contenders = tuple(
        Contender(
            entry.name,
            entry.nbytes,
            _same_top(entry.name, taken[0]["answers"], *best),
            "bundle" in entry.request,
            Measured.from_json({"processes": taken}),
        )
        for entry, taken in zip(entries, answers, strict=True)
    )
    return ScaleResult(
        items=items,
        dimensions=dimensions,
        users=users,
        kept=tables.items.n_values / (items * dimensions),
        settings={**QUESTION, "rounds": rounds},
        device=machine.info(),
        contenders=contenders,
        started=started,
        finished=_now(),
        command=f"python -m edgerec_bench.scale --items {items} --dimensions {dimensions} "
        f"--users {users} --rounds {rounds}",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _same_top(name: str, answers: list[list[int]], scores: NDArray[np.float32], limit: NDArray[np.float32]) -> float:
    """The share of answers whose exact score reaches the k-th best. Raises BenchError for fp32 below 1."""
    items = np.array(answers)
    reached = np.take_along_axis(scores, items, 1) >= (limit - TOLERANCE * np.abs(scores).max(1))[:, None]
    distinct = all(np.unique(row).size == K for row in items)
    share = float(reached.mean())
    if "int8" not in name and not (distinct and share == 1):
        raise BenchError(f"{name} returns {share:.2%} of numpy's best {K}; its speed means nothing, please report this")
    return share


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write. Returns the exit status."""
    from edgerec_bench.console import print_scale, show_progress

    parser = argparse.ArgumentParser(prog="python -m edgerec_bench.scale", description=SUBJECT)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each contender")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    chosen = vars(parser.parse_args(arguments))
    out = chosen.pop("out")
    try:
        with show_progress("writing the contenders") as progress:
            result = compare(**chosen, progress=progress)
        print_scale(result)
        if out:
            write_results(out, [result])
    except EdgeRecError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the cost of `recommend` on a device by layout and precision: the table that `edgerec export` chooses by.

usage: python -m edgerec_bench.calibrate [--out calibration.json] [--quick] [--only mixed/int8 ...]

Small synthetic bundles of each layout and precision are measured in fresh processes of the device. A linear model with
non-negative terms is fitted to their medians by least squares of relative errors:

    us = fixed_us + us_per_block * blocks + (ns_per_row * rows + ns_per_value * values) / 1000

Calls use one thread, batch 1 and k = 20, and exclude 20 random items. The values of csc count in proportion to the
dimensions that the users have. `edgerec export --calibration FILE` takes the table. Close other programs while it is
measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from scipy.optimize import nnls

from edgerec.errors import BenchError
from edgerec.files import write_json
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table
from edgerec_bench.command import bench_command
from edgerec_bench.interleave import Progress, run_interleaved
from edgerec_bench.record import now
from edgerec_bench.result import CONTESTED
from edgerec_devices import Device, Local
from edgerec_export import Source, export
from edgerec_export.cost import FORMAT, TERMS, Calibration, active_share
from edgerec_export.layouts import FORMS, TablePlan

D, USERS, K = 64, 200, 20
WIDTHS = ((6,), (32,), (1, 2, 4, 8, 12, 16, 24, 32))
"""Row sizes, in equal shares: one block of narrow rows, one block of wide rows, and eight blocks."""
DENSE_WIDTHS = ((8,), (32,), (64,))
CALL_SETTINGS = {"calls": 20, "seconds": 0.2, "k": K, "exclude": 20, "history": 20, "threads": 1, "seed": 0}


@dataclass(frozen=True)
class Effort:
    """The extent of a calibration.

    Attributes:
        rows: numbers of item rows to measure.
        slow_rows: the same for layouts that decode every row for a score, where a million rows would take a second.
        rounds: number of fresh processes for each bundle.
    """

    rows: tuple[int, ...] = (2_000, 30_000, 200_000)
    slow_rows: tuple[int, ...] = (2_000, 8_000, 30_000)
    rounds: int = 3


QUICK = Effort((300, 3_000), (300, 1_000), 1)
SLOW = ("csr", "bitmask")


@dataclass(frozen=True)
class BundleTiming:
    """The measured time of one bundle.

    Attributes:
        plan: layout plan of the item table.
        active: share of the dimensions that the users have.
        us: microseconds per call.
        cpu_share: smallest share of the processor that one of its processes had.
    """

    plan: TablePlan
    active: float
    us: float
    cpu_share: float = 1.0

    def features(self) -> list[float]:
        """Return the factors of the terms, in the order of `TERMS`."""
        values = sum(block.n_values for block in self.plan.blocks)
        counted = values * (self.active if self.plan.layout == "csc" else 1.0)
        return [1.0, len(self.plan.blocks), self.plan.n_rows / 1e3, counted / 1e3]


@dataclass(frozen=True)
class FittedTerms:
    """The fitted terms of one layout and precision.

    Attributes:
        key: 'layout/precision'.
        terms: values in the order of `TERMS`.
        errors: relative error for each measured bundle.
        cpu_share: smallest share of the processor that a process had.
    """

    key: str
    terms: tuple[float, ...]
    errors: tuple[float, ...]
    cpu_share: float


def calibrate(
    effort: Effort | None = None,
    *,
    only: Sequence[str] = (),
    device: Device | None = None,
    progress: Progress | None = None,
) -> list[FittedTerms]:
    """Measure and fit every layout and precision, or only those named in `only` as 'layout/precision'.

    Raises BenchError if a name is unknown or a process fails.
    """
    machine, extent = device or Local(), effort or Effort()
    known = [f"{layout}/{precision}" for layout, precision in FORMS]
    if unknown := [key for key in only if key not in known]:
        raise BenchError(f"unknown layout and precision {unknown[0]!r}; expected one of: {', '.join(known)}")
    fitted = []
    keys = [key for key in known if not only or key in only]
    for number, key in enumerate(keys):
        if progress:
            progress(key, number, len(keys))
        fitted.append(fit(key, _measure(key, extent, machine)))
    return fitted


def _measure(key: str, effort: Effort, device: Device) -> list[BundleTiming]:
    layout, precision = key.split("/")
    with tempfile.TemporaryDirectory(prefix="edgerec-calibrate-") as scratch:
        exported: list[tuple[TablePlan, float]] = []
        requests: list[tuple[str, dict[str, Any]]] = []
        for number, source in enumerate(_sources(layout, effort)):
            place = Path(scratch, f"{number}.bundle")
            draft = export(source, place, layout=layout, precision=precision, verify=False).chosen.draft
            exported.append((draft.items, active_share(draft)))
            requests.append((key, {**CALL_SETTINGS, "task": "bundle", "bundle": device.push(place)}))
        answers = run_interleaved(requests, effort.rounds, device)
    points = []
    for (plan, active), taken in zip(exported, answers, strict=True):
        calls = [one["scenarios"]["recommend"] for one in taken]
        us = 1e3 * median(one["p50_ms"] for one in calls)
        points.append(BundleTiming(plan, active, us, min(one["cpu_share"] for one in calls)))
    return points


def _sources(layout: str, effort: Effort) -> Iterator[Source]:
    rng = np.random.default_rng(0)
    for rows in effort.slow_rows if layout in SLOW else effort.rows:
        for widths in DENSE_WIDTHS if layout == "dense" else WIDTHS:
            d = widths[-1] if layout == "dense" else D
            users: Table = sparse_users(USERS, d) if layout == "csc" else dense_users(USERS, d)
            yield Source(_items(layout, np.resize(widths, rows), d, rng), np.arange(rows), users, np.arange(USERS))


def dense_users(users: int, dimensions: int, seed: int = 1) -> DenseTable:
    """Generate dense users with normal values."""
    return DenseTable(np.random.default_rng(seed).standard_normal((users, dimensions), np.float32))


def sparse_users(users: int, dimensions: int, active: float = 0.1, seed: int = 1) -> SparseTable:
    """Generate users with normal values in a share of the dimensions, at least one, rounded up or down at random."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, (active * dimensions + rng.random(users)).astype(np.int64))
    mask = rng.random((users, dimensions)).argsort(axis=1) < counts[:, None]
    return SparseTable.from_dense(rng.standard_normal((users, dimensions), np.float32), mask)


def _items(layout: str, sizes: np.ndarray[Any, np.dtype[np.int64]], d: int, rng: np.random.Generator) -> Table:
    values = rng.standard_normal((len(sizes), d), np.float32)
    if layout == "dense":
        return DenseTable(values)
    if layout == "mixed":
        return PrefixTable.from_dense(values, sizes)
    order = np.argsort(rng.random(values.shape, np.float32), axis=1)
    return SparseTable.from_dense(values, order < sizes[:, None])


def fit(key: str, points: Sequence[BundleTiming]) -> FittedTerms:
    """Fit non-negative terms to the measured times by least squares of relative errors."""
    measured = np.array([point.us for point in points])
    system = np.array([point.features() for point in points]) / measured[:, None]
    size = np.linalg.norm(system, axis=0)  # rows and blocks differ by five orders of magnitude
    terms = nnls(system / size, np.ones(len(points)))[0] / size
    found = tuple(map(float, terms))
    table = Calibration("", {key: found})
    errors = [1e3 * table.ms(point.plan, point.active) / point.us - 1 for point in points]
    return FittedTerms(key, found, tuple(errors), min(point.cpu_share for point in points))


def to_json(fitted: Sequence[FittedTerms], device: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the table in the form that `Calibration.parse` reads, with facts about the measurement."""
    words = [device[name] for name in ("cpu", "architecture") if device.get(name)]
    return {
        "format": FORMAT,
        "device": ", ".join([*map(str, words), f"onnxruntime {device.get('onnxruntime', 'unknown')}"]),
        "terms": {
            one.key: {name: float(f"{term:.4g}") for name, term in zip(TERMS, one.terms, strict=True)} for one in fitted
        },
        "least_cpu_share": round(min(one.cpu_share for one in fitted), 2),
        "largest_error": {one.key: round(max(map(abs, one.errors)), 3) for one in fitted},
        "measured": now(),
        "command": command,
    }


def warning(fitted: Iterable[FittedTerms]) -> str | None:
    """Return a warning if other programs took processor time, which lengthens long calls more than short ones."""
    taken = 1 - min(one.cpu_share for one in fitted)
    if taken <= 1 - CONTESTED:
        return None
    return (
        f"other programs took up to {taken:.0%} of the processor, which distorts the terms; close them, measure again"
    )


COLUMNS = ("layout/precision", *TERMS, "median error", "largest error")


def rows(fitted: Iterable[FittedTerms]) -> list[list[str]]:
    """Return a table row for each fit, under COLUMNS."""
    listed = []
    for one in fitted:
        errors = [abs(error) for error in one.errors]
        listed.append([one.key, *(f"{term:.3g}" for term in one.terms), f"{median(errors):.0%}", f"{max(errors):.0%}"])
    return listed


@bench_command
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the table as JSON, for edgerec export --calibration."
)
@click.option("--quick", is_flag=True, help="Measure small tables once, to see that it runs; not a calibration.")
@click.option(
    "--only", multiple=True, metavar="LAYOUT/PRECISION", help="Measure only this layout and precision. Repeatable."
)
def main(out: Path | None, quick: bool, only: tuple[str, ...]) -> None:
    """Measure the cost of `recommend` on this machine by layout and precision."""
    from edgerec.console import print_table
    from edgerec_bench.command import show_progress

    device = Local()
    with show_progress("") as progress:
        fitted = calibrate(QUICK if quick else None, only=only, device=device, progress=progress)
    print_table("", COLUMNS, rows(fitted))
    if text := warning(fitted):
        click.echo(f"warning: {text}", err=True)
    if out is not None:
        words = ["python -m edgerec_bench.calibrate", *(["--quick"] if quick else [])]
        command = " ".join([*words, *(f"--only {key}" for key in only)])
        write_json(out, to_json(fitted, device.info(), command))


if __name__ == "__main__":
    main()

"""Measure the cost of `recommend` on a device by layout and precision: the table that `edgerec export` chooses by.

usage: python -m edgerec_bench.calibrate [--out calibration.json] [--quick] [--only mixed/int8 ... [--rest FILE]]
                                         [--device ADDRESS]

Small synthetic bundles of each layout and precision are measured in fresh processes of the device. A linear model with
non-negative terms is fitted to their medians by least squares of relative errors:

    us = fixed_us + us_per_block * blocks + (ns_per_row * rows + ns_per_value * values) / 1000

Calls use one thread, batch 1 and k = 20, and exclude 20 random items. The values of csc count in proportion to the
dimensions that the users have. `edgerec export --calibration FILE` takes the table. Close other programs while it is
measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from edgerec_devices import Device, Local, open_device
from edgerec_export import Source, export
from edgerec_export.cost import FORMAT, TERMS, Calibration, active_share
from edgerec_export.layouts import FORMS, TablePlan

D, USERS, K = 64, 200, 20
WIDTHS = ((6,), (32,), (1, 2, 4, 8, 12, 16, 24, 32))
"""Row sizes, in equal shares: one block of narrow rows, one block of wide rows, and eight blocks."""
DENSE_WIDTHS = ((8,), (32,), (64,))
TYPICAL = (1.0, 1.0, 30.0, 30 * 32.0)
"""Factors of the terms for one block of 30,000 rows of 32 values."""
CALL_SETTINGS = {
    "scenarios": ["recommend"],
    "calls": 20,
    "seconds": 0.2,
    "k": K,
    "exclude": 20,
    "history": 20,
    "threads": 1,
    "seed": 0,
}


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
COUNTED = Effort((2_000, 30_000), (2_000, 8_000), 1)
"""The extent on a device that counts instructions: counts repeat, and are linear in rows."""
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
    keys = [key for key in known if not only or key in only]
    return [fit(key, points) for key, points in _measure(keys, extent, machine, progress).items()]


def _measure(
    keys: Sequence[str], effort: Effort, device: Device, progress: Progress | None
) -> dict[str, list[BundleTiming]]:
    """Measure the bundles of all keys, interleaved, so that other programs lengthen all of them alike."""
    exported: list[tuple[str, TablePlan, float]] = []
    requests: list[tuple[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="edgerec-calibrate-") as scratch:
        for key in keys:
            layout, precision = key.split("/")
            for source in _sources(layout, effort):
                place = Path(scratch, f"{len(exported)}.bundle")
                draft = export(source, place, layout=layout, precision=precision, verify=False).chosen.draft
                exported.append((key, draft.items, active_share(draft)))
                requests.append((key, {**CALL_SETTINGS, "task": "bundle", "bundle": device.push(place)}))
        answers = run_interleaved(requests, effort.rounds, device, progress)
    points: dict[str, list[BundleTiming]] = {key: [] for key in keys}
    for (key, plan, active), taken in zip(exported, answers, strict=True):
        calls = [one["scenarios"]["recommend"] for one in taken]
        points[key].append(
            BundleTiming(plan, active, 1e3 * median(map(_ms, calls)), min(one["cpu_share"] for one in calls))
        )
    return points


def _ms(calls: Mapping[str, float]) -> float:
    """Return the median time of the calls, or their mean processor time, which is shorter if other programs ran."""
    return min(calls["p50_ms"], calls["mean_ms"] * calls["cpu_share"])


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


def to_json(
    fitted: Sequence[FittedTerms], terms: Mapping[str, tuple[float, ...]], device: dict[str, Any], command: str
) -> dict[str, Any]:
    """Return a table of terms in the form that `Calibration.parse` reads, with facts about the measurement."""
    words = [device[name] for name in ("cpu", "architecture") if device.get(name)]
    return {
        "format": FORMAT,
        "device": ", ".join([*map(str, words), f"onnxruntime {device.get('onnxruntime', 'unknown')}"]),
        "terms": {
            key: {name: float(f"{term:.4g}") for name, term in zip(TERMS, each, strict=True)}
            for key, each in terms.items()
        },
        "least_cpu_share": round(min(one.cpu_share for one in fitted), 2),
        "largest_error": {one.key: round(max(map(abs, one.errors)), 3) for one in fitted},
        "measured": now(),
        "command": command,
    }


def completed(fitted: Sequence[FittedTerms], rest: Calibration) -> dict[str, tuple[float, ...]]:
    """Return the fitted terms, and those of a table that were not measured, times the median ratio of common ones.

    Ratios are of the times of `TYPICAL`. Raises BenchError if no layout and precision is in both.
    """
    found = {one.key: one.terms for one in fitted}
    common = [np.dot(found[key], TYPICAL) / np.dot(rest.terms[key], TYPICAL) for key in found if key in rest.terms]
    if not common:
        raise BenchError("--rest has none of the layouts and precisions that were measured; name one of them by --only")
    ratio = float(np.median(common))
    others = {key: tuple(ratio * term for term in terms) for key, terms in rest.terms.items() if key not in found}
    return found | others


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
@click.option(
    "--rest",
    type=click.Path(path_type=Path),
    help="Take what is not measured from this table, scaled by what is in both.",
)
@click.option("--device", "address", default="local", show_default=True, help="Device to measure on.")
def main(out: Path | None, quick: bool, only: tuple[str, ...], rest: Path | None, address: str) -> None:
    """Measure the cost of `recommend` on this machine, or on a device, by layout and precision.

    On an emulated device costs are millions of instructions instead of milliseconds, and so is --max-ms.
    """
    from edgerec.console import print_table
    from edgerec_bench.command import show_progress

    older = None if rest is None else Calibration.read(rest)
    with open_device(address) as device, show_progress("") as progress:
        about = device.info()
        effort = QUICK if quick else COUNTED if about.get("clock") == "instructions" else None
        fitted = calibrate(effort, only=only, device=device, progress=progress)
    print_table("", COLUMNS, rows(fitted))
    if text := warning(fitted):
        click.echo(f"warning: {text}", err=True)
    if out is not None:
        words = ["python -m edgerec_bench.calibrate", *(["--quick"] if quick else [])]
        words += [*(f"--only {key}" for key in only), *([] if rest is None else [f"--rest {rest}"])]
        command = " ".join([*words, *([] if address == "local" else [f"--device {address}"])])
        terms = {one.key: one.terms for one in fitted} if older is None else completed(fitted, older)
        write_json(out, to_json(fitted, terms, about, command))


if __name__ == "__main__":
    main()

"""What `recommend` costs on a device, by layout and precision: the table by which `edgerec export` chooses.

usage: python -m edgerec_bench.calibrate [--out calibration.json] [--quick] [--only mixed/int8 ...]

Small synthetic bundles of each layout and precision are measured in fresh processes of the device; a sum over what they
hold, of terms that are not negative, is fitted to their medians by least squares of relative errors:

    us = fixed_us + us_per_block * blocks + (ns_per_row * rows + ns_per_value * values) / 1000

One thread, batch 1, k = 20, 20 random items excluded. csc's values count by the share of them that the users ask for.
`edgerec export --calibration FILE` takes the table; close other programs while it is measured.
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
from edgerec_bench.record import now
from edgerec_bench.result import CONTESTED
from edgerec_bench.scale.tables import dense_users, sparse_users
from edgerec_bench.turns import Progress, measure_in_turns
from edgerec_devices import Device, Local
from edgerec_export import Source, export
from edgerec_export.cost import FORMAT, TERMS, Calibration, active_share
from edgerec_export.layouts import LAYOUTS, Plan
from edgerec_export.values import PRECISIONS

D, USERS, K = 64, 200, 20
WIDTHS = ((6,), (32,), (1, 2, 4, 8, 12, 16, 24, 32))
"""Values of the rows, in equal shares: one block of few values, one of many, and eight blocks."""
DENSE_WIDTHS = ((8,), (32,), (64,))
QUESTION = {"calls": 20, "seconds": 0.2, "k": K, "exclude": 20, "history": 20, "threads": 1, "seed": 0}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rows: of the tables.
        slow_rows: of layouts that decode every row for a score: a million would take a second.
        rounds: fresh processes of each bundle.
    """

    rows: tuple[int, ...] = (2_000, 30_000, 200_000)
    slow_rows: tuple[int, ...] = (2_000, 8_000, 30_000)
    rounds: int = 3


QUICK = Effort((300, 3_000), (300, 1_000), 1)
SLOW = ("csr", "bitmask")


@dataclass(frozen=True)
class Point:
    """One measured bundle: its items, the share of dimensions that users have, microseconds a call.

    Attributes:
        cpu_share: of the processor, the least of its processes.
    """

    plan: Plan
    active: float
    us: float
    cpu_share: float = 1.0

    def features(self) -> list[float]:
        """What the terms are multiplied by."""
        values = sum(block.n_values for block in self.plan.blocks)
        counted = values * (self.active if self.plan.layout == "csc" else 1.0)
        return [1.0, len(self.plan.blocks), self.plan.n_rows / 1e3, counted / 1e3]


@dataclass(frozen=True)
class Fitted:
    """The terms of one layout and precision.

    Attributes:
        key: 'layout/precision'.
        terms: in the order of `TERMS`.
        errors: relative, one a measured bundle.
        cpu_share: the least that a process had of the processor.
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
) -> list[Fitted]:
    """Measure and fit every layout and precision, or those of `only`, as 'layout/precision'.

    Raises BenchError where there is no such pair, or a process failed.
    """
    machine, asked = device or Local(), effort or Effort()
    known = [f"{layout}/{precision}" for layout in LAYOUTS for precision in PRECISIONS]
    if unknown := [key for key in only if key not in known]:
        raise BenchError(f"there is no {unknown[0]!r} to calibrate; there are: {', '.join(known)}")
    fitted = []
    keys = [key for key in known if not only or key in only]
    for number, key in enumerate(keys):
        if progress:
            progress(key, number, len(keys))
        fitted.append(fit(key, _measure(key, asked, machine)))
    return fitted


def _measure(key: str, effort: Effort, device: Device) -> list[Point]:
    layout, precision = key.split("/")
    with tempfile.TemporaryDirectory(prefix="edgerec-calibrate-") as scratch:
        made: list[tuple[Plan, float]] = []
        requests: list[tuple[str, dict[str, Any]]] = []
        for number, source in enumerate(_sources(layout, effort)):
            place = Path(scratch, f"{number}.bundle")
            draft = export(source, place, layout=layout, precision=precision, verify=False).chosen.draft
            made.append((draft.items, active_share(draft)))
            requests.append((key, {**QUESTION, "task": "bundle", "bundle": device.push(place)}))
        answers = measure_in_turns(requests, effort.rounds, device)
    points = []
    for (plan, active), taken in zip(made, answers, strict=True):
        calls = [one["scenarios"]["recommend"] for one in taken]
        us = 1e3 * median(one["p50_ms"] for one in calls)
        points.append(Point(plan, active, us, min(one["cpu_share"] for one in calls)))
    return points


def _sources(layout: str, effort: Effort) -> Iterator[Source]:
    rng = np.random.default_rng(0)
    for rows in effort.slow_rows if layout in SLOW else effort.rows:
        for widths in DENSE_WIDTHS if layout == "dense" else WIDTHS:
            d = widths[-1] if layout == "dense" else D
            users: Table = sparse_users(USERS, d) if layout == "csc" else dense_users(USERS, d)
            yield Source(_items(layout, np.resize(widths, rows), d, rng), np.arange(rows), users, np.arange(USERS))


def _items(layout: str, sizes: np.ndarray[Any, np.dtype[np.int64]], d: int, rng: np.random.Generator) -> Table:
    values = rng.standard_normal((len(sizes), d), np.float32)
    if layout == "dense":
        return DenseTable(values)
    if layout == "mixed":
        return PrefixTable.from_dense(values, sizes)
    order = np.argsort(rng.random(values.shape, np.float32), axis=1)
    return SparseTable.from_dense(values, order < sizes[:, None])


def fit(key: str, points: Sequence[Point]) -> Fitted:
    """The terms, none negative, whose sums differ least from the points by relative squares."""
    measured = np.array([point.us for point in points])
    system = np.array([point.features() for point in points]) / measured[:, None]
    size = np.linalg.norm(system, axis=0)  # rows and blocks differ by five orders of magnitude
    terms = nnls(system / size, np.ones(len(points)))[0] / size
    found = tuple(map(float, terms))
    table = Calibration("", {key: found})
    errors = [1e3 * table.ms(point.plan, point.active) / point.us - 1 for point in points]
    return Fitted(key, found, tuple(errors), min(point.cpu_share for point in points))


def to_json(fitted: Sequence[Fitted], device: dict[str, Any], command: str) -> dict[str, Any]:
    """What `Calibration.parse` reads, and how it was measured."""
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


def warning(fitted: Iterable[Fitted]) -> str | None:
    """Why the terms are to be doubted: long calls wait for other programs, short ones seldom."""
    taken = 1 - min(one.cpu_share for one in fitted)
    if taken <= 1 - CONTESTED:
        return None
    return (
        f"other programs took up to {taken:.0%} of the processor, which falsifies the terms; close them, measure again"
    )


COLUMNS = ("layout/precision", *TERMS, "median error", "largest error")


def rows(fitted: Iterable[Fitted]) -> list[list[str]]:
    """One row a fit, under COLUMNS."""
    listed = []
    for one in fitted:
        errors = [abs(error) for error in one.errors]
        listed.append([one.key, *(f"{term:.3g}" for term in one.terms), f"{median(errors):.0%}", f"{max(errors):.0%}"])
    return listed


@bench_command
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the table as JSON, for edgerec export --calibration."
)
@click.option("--quick", is_flag=True, help="Small tables, once: a trial, not a calibration.")
@click.option("--only", multiple=True, metavar="LAYOUT/PRECISION", help="May be repeated.")
def main(out: Path | None, quick: bool, only: tuple[str, ...]) -> None:
    """Measure what bundles cost on this machine."""
    from edgerec.console import print_table
    from edgerec_bench.command import show_progress

    device = Local()
    with show_progress("") as progress:
        fitted = calibrate(QUICK if quick else None, only=only, device=device, progress=progress)
    print_table("", COLUMNS, rows(fitted))
    if doubt := warning(fitted):
        click.echo(f"warning: {doubt}", err=True)
    if out is not None:
        words = ["python -m edgerec_bench.calibrate", *(["--quick"] if quick else [])]
        command = " ".join([*words, *(f"--only {key}" for key in only)])
        write_json(out, to_json(fitted, device.info(), command))


if __name__ == "__main__":
    main()

"""Random size limits: no bundle may exceed its limit, and the smallest size that a refusal names must be enough.

usage: python -m bench.experiments.budgets [--count 310] [--seed 0] [--out result.json]

Tables of 300 items are exported in a random layout, precision, form of ids, with and without users, as a folder or one
file, with and without `--fit`, within a random limit. Where the export is refused, it is repeated with the smallest
size that the message names.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from edgerec.console import messages, print_table
from edgerec.errors import BudgetError
from edgerec.models.encoder import LinearEncoder
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec_export import Source, export
from edgerec_export.layouts import FORMS, LAYOUTS

N_ITEMS, N_USERS, D = 300, 60, 24
SMALLEST, LARGEST = 1 << 10, 1 << 17
"""Range of the limits, which are drawn by their logarithm."""
IDS = ("numbers", "texts", "hash64", "none")
COLUMNS = ("layout", "limits", "met", "refused", "smallest size is enough")


def draw(rng: np.random.Generator) -> tuple[Source, dict[str, Any], str]:
    """Return a source, the keywords of its export and the name of the bundle."""
    layout, precision = FORMS[rng.integers(len(FORMS))]
    ids = IDS[rng.integers(len(IDS))]
    fit, users, one_file = (bool(one) for one in rng.integers(0, 2, 3))
    if fit and rng.random() < 0.5:
        precision = "auto"
    values = rng.standard_normal((N_ITEMS, D)).astype(np.float32)
    sizes = rng.integers(1, D + 1, N_ITEMS)
    table: DenseTable | PrefixTable | SparseTable = PrefixTable.from_dense(values, sizes)
    if layout == "dense":
        table = DenseTable(values)
    elif layout != "mixed":
        table = SparseTable.from_dense(values, rng.random((N_ITEMS, D)) < 0.3)
    numbers = np.sort(rng.choice(10 * N_ITEMS, N_ITEMS, replace=False))
    item_ids, user_ids = numbers, np.arange(N_USERS)
    if ids in ("texts", "hash64"):
        item_ids, user_ids = (
            np.array([f"{name} {n}é" for n in of]) for name, of in (("film", numbers), ("u", user_ids))
        )
    of_users = DenseTable(rng.standard_normal((N_USERS, D)).astype(np.float32))
    encoder = LinearEncoder(rng.random(N_ITEMS, np.float32))
    counts = rng.integers(1, 99, N_ITEMS)
    source = Source(table, item_ids, of_users, user_ids, encoder=encoder, item_counts=counts, about={})
    settings = {
        "layout": layout,
        "precision": precision,
        "ids": ids if ids in ("hash64", "none") else "raw",
        "fit": fit,
        "users": users,
        "verify": False,
        "max_bytes": int(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))),
    }
    return source, settings, "b.edgerec" if one_file else "b"


def outcome(source: Source, settings: dict[str, Any], name: str) -> tuple[str, str]:
    """Return what became of an export, and a fault or ''."""
    with tempfile.TemporaryDirectory(prefix="edgerec-budgets-") as scratch:
        limit = settings["max_bytes"]
        try:
            done = export(source, Path(scratch, name), **settings)
        except BudgetError as refusal:
            if any(Path(scratch).iterdir()):
                return "refused", "a refusal left files"
            if refusal.smallest is None or refusal.smallest <= limit:
                return "refused", f"the refusal names {refusal.smallest} bytes"
            try:
                least = export(source, Path(scratch, name), **{**settings, "max_bytes": refusal.smallest})
            except BudgetError as again:
                return "refused", f"{refusal.smallest} bytes are refused too: {again}"
            if least.nbytes > refusal.smallest:
                return "refused", f"{least.nbytes} bytes instead of the named {refusal.smallest}"
            return "smallest size is enough", ""
        folder = Path(scratch, name)
        size = sum(path.stat().st_size for path in ([folder] if folder.is_file() else folder.iterdir()))
        if size != done.nbytes or size > limit:
            return "met", f"{size} bytes on disk, {done.nbytes} said, {limit} allowed"
        return "met", ""


def measure(count: int, seed: int) -> tuple[list[Figures], list[str]]:
    """Return a row for each layout, and the faults."""
    rng = np.random.default_rng(seed)
    counts: dict[str, Counter[str]] = {layout: Counter() for layout in LAYOUTS}
    faults = []
    for number in range(count):
        source, settings, name = draw(rng)
        found, fault = outcome(source, settings, name)
        counts[settings["layout"]][found] += 1
        if fault:
            chosen = {key: value for key, value in settings.items() if key != "verify"}
            faults.append(f"limit {number}, {name} {chosen}: {fault}")
    rows: list[Figures] = []
    for layout, of in counts.items():
        enough = of["smallest size is enough"]
        figures = (of.total(), of["met"], of["refused"] + enough, enough)
        rows.append(dict(zip(COLUMNS, (layout, *figures), strict=True)))
    return rows, faults


@experiment("budgets")
@click.option("--count", default=310, show_default=True, help="Number of random limits.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
def main(count: int, seed: int) -> Figures:
    """Export within random limits and count the outcomes; exit with status 1 if there are faults."""
    rows, faults = measure(count, seed)
    print_table("random size limits", COLUMNS, [[str(row[name]) for name in COLUMNS] for row in rows])
    for fault in faults:
        messages.print(fault, markup=False)
    return {"rows": rows, "faults": faults}


if __name__ == "__main__":
    main()

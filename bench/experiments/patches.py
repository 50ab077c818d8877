"""Size, speed and robustness of patches between bundles of which 10 % of the rows changed.

usage: python -m bench.experiments.patches [--items 100000] [--users 20000] [--share 0.1] [--kills 200] [--damaged 1000]
           [--out result.json]

Items have 64 dimensions and sizes as under a budget of 10 %. A share of the rows of users and items gets new random
values, and a fifth of these another size too; 1 % of the items are replaced. `diff` makes the patch; `apply` and `undo`
alternate. Processes are killed at random moments while they apply a patch, and patches are damaged in nine ways, four
of these with a recomputed sha256. Each must leave one of the two bundles intact, byte for byte, or the command fails.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from bench.experiments.patch_tables import export_line, versions
from bench.experiments.patch_trials import damage, kill
from edgerec.budget import format_bytes
from edgerec.console import messages, print_facts, print_table
from edgerec.runtime.patch import apply_patch, undo_patch
from edgerec_export import ExportRequest, diff

FORMS = (
    ("dense", "int8"),
    ("mixed", "int8"),
    ("mixed", "int4"),
    ("mixed", "fp32"),
    ("ell", "int8"),
    ("csr", "int8"),
    ("bitmask", "int8"),
    ("csc", "int8"),
)
COLUMNS = ("bundle", "rows changed", "whole", "patch", "of the whole", "diff s", "apply ms")


def measure(items: int, users: int, share: float, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each layout and precision: bytes of the patch and of the new bundle, seconds to make the patch
    and milliseconds to apply it."""
    rows = []
    for layout, precision in FORMS:
        messages.print(f"{layout} {precision}")
        source = versions(items, users, share, sparse=layout not in ("dense", "mixed"))
        with tempfile.TemporaryDirectory(prefix="edgerec-patches-") as scratch:
            place = Path(scratch)
            old, new = export_line(source, place, 2, ExportRequest(layout, precision, verify=False))
            started = time.perf_counter()
            patch = diff(old, new, place / "patch", verify=False)
            seconds = time.perf_counter() - started
            content = patch.path.read_bytes()
            times = []
            for _ in range(rounds):
                started = time.perf_counter()
                apply_patch(old, content)
                times.append(1e3 * (time.perf_counter() - started))
                undo_patch(old)
            changes = {side: vars(change) for side, change in patch.changes.items()}
            rows.append(
                {
                    "layout": layout,
                    "precision": precision,
                    "changes": changes,
                    "touched": (changes["item"]["inserted"] + changes["item"]["moved"] + changes["item"]["changed"])
                    / items,
                    "full_bytes": patch.full_bytes,
                    "patch_bytes": patch.nbytes,
                    "diff_s": seconds,
                    "apply_ms": median(times),
                }
            )
    return rows


def survive(items: int, users: int, share: float, kills: int, damaged: int) -> dict[str, Any]:
    """Kill processes that patch a mixed int8 bundle, and apply damaged patches; return the outcomes.

    Raises BenchError if a bundle is broken.
    """
    with tempfile.TemporaryDirectory(prefix="edgerec-patches-") as scratch:
        place = Path(scratch)
        old, new = export_line(versions(items, users, share), place, 2, ExportRequest("mixed", "int8", verify=False))
        there, back = (diff(*pair, place / name).path for pair, name in (((old, new), "there"), ((new, old), "back")))
        messages.print(f"killing {kills} processes")
        killed = kill(old, new, (there, back), place, kills)
        messages.print(f"damaging {damaged} patches")
        refused = damage(old, there.read_bytes(), damaged)
        return {"killed": killed._asdict(), "damaged": refused}


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row of `measure` as table cells."""
    return [
        f"{row['layout']} {row['precision']}",
        f"{row['touched']:.1%}",
        format_bytes(row["full_bytes"]),
        format_bytes(row["patch_bytes"]),
        f"{row['patch_bytes'] / row['full_bytes']:.1%}",
        f"{row['diff_s']:.2f}",
        f"{row['apply_ms']:.0f}",
    ]


@experiment("patches")
@click.option("--items", default=100_000, show_default=True, help="Number of items.")
@click.option("--users", default=20_000, show_default=True, help="Number of users.")
@click.option("--share", default=0.1, show_default=True, help="Share of the rows that change.")
@click.option("--rounds", default=7, show_default=True, help="Number of times to apply each patch.")
@click.option("--kills", default=200, show_default=True, help="Number of processes to kill.")
@click.option("--damaged", default=1000, show_default=True, help="Number of damaged patches to try.")
def main(items: int, users: int, share: float, rounds: int, kills: int, damaged: int) -> Figures:
    """Measure patches, kill processes that apply them, and apply damaged ones."""
    rows = measure(items, users, share, rounds)
    print_table("patches", COLUMNS, map(cells, rows))
    survived = survive(items, users, share, kills, damaged)
    print_facts("", {**survived["killed"], **survived["damaged"]})
    return {"dimensions": 64, "rows": rows, **survived}


if __name__ == "__main__":
    main()

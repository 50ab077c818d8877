"""The weekly update: tables trained again on a week more, exported to follow last week's bundle, and the patch.

usage: python -m bench.experiments.weekly [--data ml-1m] [--share 0.95] [--days 7] [--runs FOLDER] [--out result.json]

Week one has the first 95 % of the interactions by time, week two those of the next seven days too. Both are trained
from the start on all interactions but the last two of each user (`leave-last-out`), and exported with `--precision
auto` within a limit: week two once by itself, and once `--like` week one. A third bundle shows rows that change by
construction: week two has other rows, those of another item, for a tenth of the items, and week one's for all others.
NDCG@20 is of week two's test part.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import edgerec
from bench.experiments.harness import Figures, experiment, runs_option, trained_run
from edgerec.console import print_table
from edgerec.data import Interactions
from edgerec.errors import BenchError, PatchError, SignatureError
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.runtime.patch import apply_patch
from edgerec.signatures import new_key
from edgerec.tables import DenseTable
from edgerec.training import Run
from edgerec_export import ExportRequest, Source, diff, export, export_request, from_run

DAY = 86_400
COLUMNS = ("backbone", "users", "limit", "precision", "week two", "rows changed", "patch", "of the whole", "NDCG@20")
CASES = (("svd", False, 65_536), ("svd", False, 307_200), ("ials", False, 65_536), ("ials", True, 307_200))
"""Backbone, whether users are in the bundle, and the limit in bytes."""
CHANGED = 0.1
"""Share of the items that have other rows by construction."""


def weeks(data: Interactions, share: float, days: float) -> tuple[Interactions, Interactions]:
    """Return the interactions of both weeks. Raises BenchError for data without times."""
    times = data.timestamps
    if times is None:
        raise BenchError(f"{data.name} has no times to make weeks of; choose other --data")
    end = np.sort(times)[int(share * times.size)]
    users = np.repeat(np.arange(data.user_ids.size), np.diff(data.indptr))

    def until(last: float, name: str) -> Interactions:
        there = times <= last
        pairs = data.user_ids[users[there]], data.item_ids[data.indices[there]]
        return Interactions.from_pairs(*pairs, timestamps=times[there], name=name)

    return until(end, "week one"), until(end + days * DAY, "week two")


def by_construction(source: Source) -> Source:
    """Return the source with the rows of other items for a tenth of its items."""
    rng = np.random.default_rng(0)
    values = source.items.dense().copy()
    changed = rng.choice(len(values), round(CHANGED * len(values)), replace=False)
    values[changed] = values[np.roll(changed, 1)]
    return replace(source, items=DenseTable(values))


def follow(old: Path, source: Source, users: bool, scratch: Path) -> dict[str, Any]:
    """Export a source to follow a bundle; return changes and bytes."""
    new = export(source, scratch / "new", like=old, users=users, overwrite=True)
    return {"bytes": new.nbytes, **patched(old, new.folder, scratch)}


def patched(old: Path, new: Path, scratch: Path) -> dict[str, Any]:
    """Return the bytes of the patch between two bundles, and the share of rows that it changes, by side."""
    patch = diff(old, new, scratch / "patch")
    manifest = Recommender.load(new).manifest
    counts = {"item": manifest.items.rows, "user": 0 if manifest.users is None else manifest.users.rows}
    return {
        "patch_bytes": patch.nbytes,
        "of_the_whole": patch.nbytes / patch.full_bytes,
        "rows_changed": {
            side: (one.inserted + one.moved + one.changed) / counts[side] for side, one in patch.changes.items()
        },
    }


def measure(
    case: tuple[str, bool, int], runs: tuple[Run, Run], second: Interactions, scratch: Path
) -> list[dict[str, Any]]:
    """Return a row for each way in which week two's bundle comes about."""
    backbone, users, limit = case
    one, two = map(from_run, runs)
    request = ExportRequest(precision="auto", max_bytes=limit, users=users)
    old = export_request(one, scratch / "old", request)
    label = {"backbone": backbone, "users": users, "limit": limit, "bytes_before": old.nbytes}
    label["precision"] = old.chosen.tried[0].precision
    again = export_request(two, scratch / "again", request)
    rows = [{"week_two": "by itself", "bytes": again.nbytes, **patched(old.folder, again.folder, scratch)}]
    rows[0]["ndcg@20"] = evaluate(Recommender.load(again.folder), second)["ndcg@20"]
    rows.append({"week_two": "trained again", **follow(old.folder, two, users, scratch)})
    rows[1]["ndcg@20"] = evaluate(Recommender.load(scratch / "new"), second)["ndcg@20"]
    rows.append({"week_two": "a tenth is other", **follow(old.folder, by_construction(one), users, scratch)})
    for row in rows:
        row["within_limit"] = row["bytes"] <= limit
        row["run_ndcg@20"] = evaluate(runs[1], second)["ndcg@20"]
    return [label | row for row in rows]


def older_refused(runs: tuple[Run, Run], scratch: Path) -> dict[str, bool]:
    """Return what a device with a signed bundle refuses: an older bundle, and a patch to it."""
    key = scratch / "key"
    public = new_key(key)
    request = ExportRequest(precision="int8", users=False, sign=key, rollback_index=1)
    old = export_request(from_run(runs[0]), scratch / "signed-old", request).folder
    new = export(from_run(runs[1]), scratch / "signed-new", like=old, users=False, sign=key, rollback_index=2).folder
    diff(old, new, scratch / "there")
    diff(new, old, scratch / "back", verify=False)  # which would be refused
    device = Path(shutil.copytree(old, scratch / "device"))
    found = {"patch_applied": apply_patch(device, scratch / "there", trusted=[public]), "patch": False, "bundle": False}
    try:
        apply_patch(device, scratch / "back", trusted=[public])
    except PatchError:
        found["patch"] = True
    try:
        Recommender.load(old, trusted=[public], min_rollback_index=2)
    except SignatureError:
        found["bundle"] = True
    return found


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row of `measure` as table cells."""
    return [
        row["backbone"],
        "yes" if row["users"] else "no",
        f"{row['limit'] // 1024} KiB",
        row["precision"],
        row["week_two"],
        ", ".join(f"{share:.1%}" for share in row["rows_changed"].values()),
        f"{row['patch_bytes'] / 1024:.1f} KiB",
        f"{row['of_the_whole']:.1%}",
        f"{row['ndcg@20']:.4f}" if "ndcg@20" in row else "",
    ]


@experiment("weekly")
@click.option("--data", default="ml-1m", show_default=True, help="Data set with times.")
@click.option("--share", default=0.95, show_default=True, help="Share of the interactions in week one.")
@click.option("--days", default=7.0, show_default=True, help="Days between the two weeks.")
@click.option("--limit", "limits", multiple=True, type=int, help="Limits in bytes; the default is all cases.")
@runs_option
def main(data: str, share: float, days: float, limits: tuple[int, ...], runs: Path | None) -> Figures:
    """Train two weeks, export the second to follow the first, and measure the patches."""
    parts = weeks(edgerec.load_data(data), share, days)
    rows: list[dict[str, Any]] = []
    trained: dict[str, tuple[Run, Run]] = {}
    with tempfile.TemporaryDirectory(prefix="edgerec-weekly-") as folder:
        for case in CASES:
            backbone = case[0]
            if limits and case[2] not in limits:
                continue
            if backbone not in trained:
                pair = [
                    trained_run(
                        week,
                        runs,
                        f"{backbone}-{n}",
                        backbone=backbone,
                        dimensions=64,
                        split="leave-last-out",
                        threads=1,
                    )
                    for n, week in enumerate(parts, 1)
                ]
                trained[backbone] = (pair[0], pair[1])
            scratch = Path(folder) / f"{backbone}-{case[1]}-{case[2]}"
            scratch.mkdir()
            rows += measure(case, trained[backbone], parts[1], scratch)
        refused = older_refused(next(iter(trained.values())), Path(folder))
    print_table(f"{data}, {days:g} days", COLUMNS, map(cells, rows))
    added = parts[1].indices.size - parts[0].indices.size
    return {"interactions": parts[0].indices.size, "added": added, "rows": rows, "older_refused": refused}


if __name__ == "__main__":
    main()

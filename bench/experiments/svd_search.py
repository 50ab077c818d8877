"""BET on the SVD compared with one size for all and with sizes by popularity, at equal bytes of values a row.

usage: python -m bench.experiments.svd_search [--data ml-1m] [--sizes 4,8,16] [--rivals ciess,uniform,popularity,fitted]
                                              [--seeds 3] [--out result.json]

BET chooses sizes and bits of the rows, and so does CIESS. One size for all has the whole budget in each of int8, int4
and int2, sizes by popularity in int4; their settings, and the exponent of popularity, are chosen on validation.
'fitted' is a full table that `export --precision auto --fit` fits to the bytes of BET's bundle. All are bundles without
users, of one file, rotated before rounding, and the figures are of their own answers on the test part. A difference is
the mean over test users of NDCG@20, with a 95 % interval by a paired bootstrap over users. Bundles differ in their
blocks, and so in their bytes, which are listed. Seconds are those of this process's threads (CPU) and of the clock, of
a training with its search.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import (
    Figures,
    cached,
    experiment,
    interval_over_users,
    metric_per_user,
    named_or_stored,
    next_to_out,
)
from edgerec.api import train
from edgerec.console import messages, print_table
from edgerec.data import Interactions, SplitSpec
from edgerec.request import settings_of
from edgerec.training import Run
from edgerec_bench.record import over_seeds
from edgerec_export import export, from_run

METRIC = "ndcg@20"
BET, CIESS, FITTED = "bet", "ciess", "fitted"
COLUMNS = ("data", "B a row", "tables", "bytes", "NDCG@20", "BET more", "95 % by seed", "s", "CPU s")


@experiment("svd_search", needs_out=True)
@click.option("--data", default="ml-1m", show_default=True, help="Data set.")
@click.option("--split", default="random:80/20", show_default=True, help="Split of the data; a seed is that of it too.")
@click.option("--sizes", default="4,8,16", show_default=True, help="Bytes of values a row.")
@click.option("--rivals", default="uniform,popularity,fitted", show_default=True, help="Rivals, separated by commas.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Splits and trainings; 0, 1, ...")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of trainings.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of BET; may be repeated.")
def main(
    data: str,
    split: str,
    sizes: str,
    rivals: str,
    seeds: int,
    dimensions: int,
    threads: int,
    settings: tuple[str, ...],
) -> Figures:
    """Search sizes and bits within each size, and compare the bundles' answers with those of the rivals."""
    interactions, rows = named_or_stored(data), list[dict[str, Any]]()
    shared = {"data": interactions.fingerprint(), "split": split, "dimensions": dimensions}
    for size in sizes.split(","):
        found: list[dict[str, Figures]] = []
        for seed in range(seeds):
            by_name: dict[str, Figures] = {}
            for name in (BET, *_rivals(rivals.split(","), float(size), dimensions)):
                own = {"bet_settings": settings_of(settings)} if name == BET else {}
                own |= {"max_bytes": by_name[BET]["bytes"]} if name == FITTED else {}
                measure = partial(_measured, interactions, split, dimensions, threads, size, seed, name, own)
                key = {**shared, "size": size, "seed": seed, "name": name, **own}
                path = next_to_out(".rows") / f"{data}-{size}-{seed}-{name.replace(' ', '-')}.json"
                by_name[name] = cached(path, key, measure)
                messages.print(f"{size} B a row, seed {seed}, {name}: {by_name[name][METRIC]:.4f}", markup=False)
            found.append(by_name)
        rows += [_row(data, size, name, found) for name in found[0]]
    print_table("", COLUMNS, [cells(row) for row in rows])
    return {"split": split, "data_fingerprint": interactions.fingerprint(), "rows": rows}


def _rivals(kinds: Sequence[str], nbytes: float, dimensions: int) -> list[str]:
    """Return the names of the rivals of these kinds, uniform ones of whose rows the dimensions suffice."""
    bits = [one for one in (8, 4, 2) if 1 <= nbytes * 8 / one <= dimensions]
    names = {
        CIESS: [CIESS],
        "uniform": [f"uniform int{one}" for one in bits],
        "popularity": ["popularity int4"],
        FITTED: [FITTED],
    }
    return [name for kind in kinds for name in names[kind]]


def _measured(
    interactions: Interactions,
    split: str,
    dimensions: int,
    threads: int,
    size: str,
    seed: int,
    name: str,
    own: Mapping[str, Any],
) -> Figures:
    """Train and export within a size, and return bytes, seconds, and the metric of each test user."""
    method, _, precision = name.partition(" ")
    started = time.perf_counter(), time.process_time()
    run = train(
        interactions,
        backbone="svd",
        method="dense" if name == FITTED else method,
        budget=None if name == FITTED else f"{size}B/row",
        precision="fp32" if name == FITTED else precision or "auto",
        dimensions=dimensions,
        split=split,
        seed=seed,
        threads=threads,
        method_settings=own.get("bet_settings"),
    )
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    with tempfile.TemporaryDirectory() as scratch:
        how: dict[str, Any] = {"precision": precision or "auto", "users": False, "similar": False, "verify": False}
        how |= {"fit": True, "max_bytes": own["max_bytes"]} if name == FITTED else {}
        done = export(from_run(run), Path(scratch) / "b.edgerec", **how)
        per_user = metric_per_user(done.folder, interactions, SplitSpec.parse(split, seed=seed), METRIC)
    return {
        "bytes": done.nbytes,
        METRIC: float(per_user.mean()),
        "per_user": per_user.tolist(),
        "seconds": round(seconds[0], 1),
        "cpu_seconds": round(seconds[1], 1),
        "settings": run.config["chosen_settings"],
        "rows": [] if name == FITTED else _sizes(run, precision),
    }


def _sizes(run: Run, precision: str) -> list[list[int]]:
    """Return each width and number of bits of the rows, with their number."""
    codes = getattr(run.items, "row_codes", None)
    bits = np.full(run.items.n_rows, int(precision.removeprefix("int"))) if codes is None else codes.bits
    found, counts = np.unique(np.stack([run.items.sizes(), bits.astype(np.int64)]), axis=1, return_counts=True)
    return [[*map(int, pair), int(n)] for pair, n in zip(found.T, counts, strict=True)]


def _row(data: str, size: str, name: str, found: list[dict[str, Figures]]) -> dict[str, Any]:
    """Return the figures of a name over the seeds, and of a rival the differences of BET to it."""
    figures = ("bytes", METRIC, "seconds", "cpu_seconds")
    row: dict[str, Any] = {"data": data, "size": size, "tables": name}
    row |= {figure: over_seeds([one[name][figure] for one in found]) for figure in figures}
    row |= {"rows": [one[name]["rows"] for one in found], "settings": [one[name]["settings"] for one in found]}
    if name != BET:
        pairs = [np.subtract(one[BET]["per_user"], one[name]["per_user"]) for one in found]
        row["difference"] = over_seeds([float(pair.mean()) for pair in pairs])
        row["intervals"] = [list(interval_over_users(pair)) for pair in pairs]
    return row


def cells(row: Mapping[str, Any]) -> list[str]:
    """Format a row as table cells."""
    more = f"{row['difference']['mean']:+.4f}" if "difference" in row else ""
    intervals = "; ".join(f"{low:+.4f} to {high:+.4f}" for low, high in row.get("intervals", []))
    seconds = [f"{row[name]['mean']:.0f}" for name in ("seconds", "cpu_seconds")]
    figures = [f"{row['bytes']['mean']:,.0f}", f"{row[METRIC]['mean']:.4f}"]
    return [row["data"], row["size"], row["tables"], *figures, more, intervals, *seconds]


if __name__ == "__main__":
    main()

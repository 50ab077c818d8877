"""Time of fitted bundles, over that of the plain dense one of the same table, made-up or trained.

usage: python -m bench.experiments.fitted [--items 3706,41000,200000] [--bytes 4,8,16] [--out result.json]
       python -m bench.experiments.fitted --trained gowalla,yelp2018,ml-1m [--backbones ials,svd] [--runs FOLDER]
       python -m bench.experiments.fitted --trained gowalla,ml-1m --device arm64 --device arm64:cortex-a76

Made-up tables have 64 dimensions of falling importance, rows of different lengths, and an encoder of histories instead
of users. With `--trained` they are iALS with its users and SVD without users, of 64 dimensions, on the published split
or random 80/20, and other libraries answer too. Bundles are fitted by `--precision auto` to the bytes a row of items
and users, besides ids, graphs and what else a bundle has; once more with `--max-ms`, a share of the time that is
expected of dense fp32. Each round asks every bundle once for the 20 best of a user or of a history of 20 items, on one
thread; the ratio is the median of those within a round. With `--device` a process of each device, behind SSH or
emulated, answers for each bundle, for random users or histories, and no library does; what the device counts, such as
instructions, is reported instead of milliseconds, and by operator: each run of one, less that of the cheapest, since
the profiler takes more than most operators. `--calibration` is the table of costs that --max-ms takes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import (
    Figures,
    experiment,
    named_or_stored,
    runs_option,
    time_interleaved,
    trained_run,
    usual_split,
)
from bench.experiments.kernel_latency import library_calls
from bench.experiments.scale import profiling
from bench.experiments.trained import HISTORY, SUBJECTS, request_of
from edgerec.console import messages, print_table
from edgerec.data import split
from edgerec.errors import BenchError, BudgetError
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec_devices import open_device
from edgerec_devices.process import answer_of
from edgerec_devices.ssh.device import Ssh
from edgerec_export import Source, export, from_arrays, from_run
from edgerec_export.choose import Chosen

PLAIN = ("fp32", "int8", "int4")
OTHER_BYTES, OTHER_BYTES_A_ROW = 14_000, 3
"""Bytes of a bundle besides its values: graphs and manifest; and of each row its id, weight and scale."""
LIBRARIES = ("faiss IndexFlatIP", "faiss SQ8")
DEVICE_SECONDS = 3600.0
"""Maximum seconds of all bundles of a table on a device."""
Requests = Callable[[Recommender], Callable[[], Any]]
"""Makes the calls of a bundle."""
TRAINED = ("data", "backbone", "stored", "bytes a row", "bytes", "ms", "of dense fp32")
KINDS = (
    ("MatMul", "MatMulInteger"),
    ("DequantizeLinear", "Cast"),
    ("Add", "Sub", "Mul"),
    ("Slice", "Concat", "Gather"),
)
"""Operators that are counted together: products, codes and sums as other types, arithmetic, parts of tensors."""
BY_OPERATOR = ("device", "data", "stored", "bytes a row", "operators", "millions", *map("+".join, KINDS))
COLUMNS = ("items", "stored", "bytes a row", "bytes", "ms", "of dense fp32")


def synthetic(items: int, dimensions: int, seed: int) -> Source:
    """Return a table of items whose dimensions fall in importance by 4 % each."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((items, dimensions)) * 0.96 ** np.arange(dimensions) * rng.gamma(2, 1, (items, 1))
    encoder = LinearEncoder(rng.uniform(0.1, 1, items).astype(np.float32))
    counts = (1e4 / np.arange(1, items + 1)).astype(np.int64) + 1
    return from_arrays(values.astype(np.float32), None, encoder=encoder, item_counts=counts)


def measure(
    source: Source,
    users: bool,
    sizes: list[float],
    rounds: int,
    requests: Requests,
    *,
    limited: bool,
    max_share: float = 1.0,
    devices: Sequence[Ssh] = (),
    calibration: Path | None = None,
) -> list[Figures]:
    """Return a row for each bundle of a table, and for each library if `limited`, in which rows have --max-ms too.

    On devices no library answers, and requests are their own.
    """
    rows_stored = source.items.n_rows + (source.users.n_rows if users and source.users is not None else 0)
    with tempfile.TemporaryDirectory(prefix="edgerec-fitted-") as scratch:
        exported: list[tuple[dict[str, Any], Path]] = []

        def add(about: dict[str, Any], **settings: Any) -> Chosen | None:
            out = Path(scratch, str(len(exported)))
            try:
                done = export(
                    source, out, users=users, similar=False, verify=False, calibration=calibration, **settings
                )
            except BudgetError:
                return None
            taken = done.chosen.tried[0]
            stored = f"{taken.layout} {taken.precision}"
            blocks = len(done.chosen.draft.items.blocks)
            row = {**about, "stored": stored, "blocks": blocks, "nbytes": done.nbytes, "score_error": taken.score_error}
            exported.append((row, out))
            return done.chosen

        plain = [add({"bytes_a_row": None}, layout="dense", precision=precision) for precision in PLAIN]
        expected = 0.0 if plain[0] is None else max_share * plain[0].tried[0].cost.ms
        for size in sizes:
            limit = round(rows_stored * (size + OTHER_BYTES_A_ROW)) + OTHER_BYTES
            add({"bytes_a_row": size}, precision="auto", max_bytes=limit)
            if limited:
                about = {"bytes_a_row": size, "max_ms": expected}
                add(about, precision="auto", max_bytes=limit, max_ms=expected)
        if devices:
            return [row for device in devices for row in on_device(exported, rounds, device)]
        models = [Recommender.load(out) for _, out in exported]
        calls: list[Callable[[], Any]] = [requests(model) for model in models]
        rows = [row for row, _ in exported]
        if limited and users:
            for name, call in library_calls(source, LIBRARIES, Path(scratch)).items():
                rows.append({"bytes_a_row": None, "stored": name, "blocks": None, "nbytes": None, "score_error": None})
                calls.append(partial(call, 0))
        times = time_interleaved(calls, rounds)
        for model in models:
            model.close()
    return [
        {**row, "p50_ms": median(taken), "of_dense": median(a / b for a, b in zip(taken, times[0], strict=True))}
        for row, taken in zip(rows, times, strict=True)
    ]


def on_device(exported: list[tuple[dict[str, Any], Path]], rounds: int, device: Ssh) -> list[Figures]:
    """Return the rows of bundles with the medians of requests that a device answers, the first bundle's as the base."""
    request = {"bundles": [device.push(out) for _, out in exported], "calls": rounds, "k": 20, "exclude": 0}
    words = json.dumps({**request, "history": HISTORY, "threads": 1, "seed": 0})
    device.timeout = DEVICE_SECONDS
    taken = answer_of(device.python(["-c", Path(profiling.__file__).read_text()], words))["bundles"]
    base = taken[0]["p50_ms"]
    return [
        {"device": device.name, **row, **figures, "of_dense": figures["p50_ms"] / base}
        for (row, _), figures in zip(exported, taken, strict=True)
    ]


def measure_trained(
    data: str, backbones: list[str], sizes: list[float], rounds: int, runs: Path | None, **others: Any
) -> list[Figures]:
    """Return the rows of each backbone of a data set, with its users if it has any; `others` are those of `measure`."""
    interactions, spec, rows = named_or_stored(data), usual_split(data), list[Figures]()
    for backbone in backbones:
        name = f"{data}-{backbone}"
        run = trained_run(interactions, runs, name, backbone=backbone, dimensions=64, split=spec, threads=1)
        users = run.users is not None
        messages.print(name)

        known = split(interactions, spec).train_all
        some = np.random.default_rng(0).choice(np.flatnonzero(known.user_counts() >= HISTORY), SUBJECTS)
        histories = [known.item_ids[known.items_of(user)[:HISTORY]].tolist() for user in some]

        def requests(model: Recommender, histories: list[Any] = histories) -> Callable[[], Any]:
            return request_of(model, 0, [model.item_rows(history) for history in histories])

        found = measure(from_run(run), users, sizes, rounds, requests, limited=True, **others)
        about = {"items": run.items.n_rows, "data": data, "backbone": backbone, "users": users}
        rows += [{**about, **row} for row in found]
    return rows


def cells(row: Figures) -> list[str]:
    """Format a row as cells of the table."""
    size = "" if row["bytes_a_row"] is None else f"{row['bytes_a_row']:g}"
    name = [f"{row['items']:,}"]
    stored = row["stored"]
    if "data" in row:
        name = [row["data"], f"{row['backbone']}, {'users' if row['users'] else 'histories'}"]
        stored += ", --max-ms" if row.get("max_ms") else ""
    nbytes = "" if row["nbytes"] is None else f"{row['nbytes']:,}"
    return [*name, stored, size, nbytes, f"{row['p50_ms']:.3f}", f"{row['of_dense']:.2f}"]


def operator_cells(row: Figures) -> list[str]:
    """Format what a device counts for the operators of a bundle, and for their number, as cells of the table."""
    of = row["operators"]
    size = "" if row["bytes_a_row"] is None else f"{row['bytes_a_row']:g}"
    parts = [sum(of[name]["ms"] for name in kind if name in of) for kind in KINDS]
    runs = f"{sum(one['count'] for one in of.values()):.0f}"
    counted = [f"{millions:.2f}" for millions in (row["p50_ms"], *parts)]
    return [row["device"], row["data"], row["stored"], size, runs, *counted]


@experiment("fitted")
@click.option("--items", default="3706,41000,200000", show_default=True, help="Numbers of items, separated by commas.")
@click.option("--bytes", "sizes", default="4,8,16", show_default=True, help="Bytes a row, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--rounds", default=300, show_default=True, help="Requests of each bundle that are timed.")
@click.option("--seed", default=0, show_default=True, help="Seed of the tables and requests.")
@click.option("--trained", help="Measure trained tables of these data sets instead, separated by commas.")
@click.option("--backbones", default="ials,svd", show_default=True, help="Backbones of trained tables.")
@click.option(
    "--device",
    "addresses",
    multiple=True,
    help="Device that measures trained tables, such as arm64; default: this process. Repeatable.",
)
@click.option(
    "--max-share",
    default=1.0,
    show_default=True,
    help="--max-ms as a share of the time that is expected of dense fp32.",
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Table of costs that --max-ms takes.")
@runs_option
def main(
    items: str,
    sizes: str,
    dimensions: int,
    rounds: int,
    seed: int,
    trained: str | None,
    backbones: str,
    addresses: tuple[str, ...],
    max_share: float,
    calibration: Path | None,
    runs: Path | None,
) -> Figures:
    """Fit tables to sizes, and compare the times of the bundles' answers."""
    each = [float(size) for size in sizes.split(",")]
    names = backbones.split(",")
    if trained:
        with ExitStack() as stack:
            devices = [stack.enter_context(open_device(address)) for address in addresses]
            for device in devices:
                if not isinstance(device, Ssh):
                    raise BenchError(f"{device.name} is no device behind SSH or emulated, such as arm64; give another")
            others = {"devices": devices, "max_share": max_share, "calibration": calibration}
            rows = [
                row for data in trained.split(",") for row in measure_trained(data, names, each, rounds, runs, **others)
            ]
    else:
        rows = []
        for count in map(int, items.split(",")):
            source = synthetic(count, dimensions, seed)
            found = measure(source, False, each, rounds, lambda model: request_of(model, seed), limited=False)
            rows += [{"items": count, **row} for row in found]
    print_table(f"{dimensions} dimensions, one thread", TRAINED if trained else COLUMNS, [cells(row) for row in rows])
    if addresses:
        print_table("by operator", BY_OPERATOR, [operator_cells(row) for row in rows])
    return {"rows": rows}


if __name__ == "__main__":
    main()

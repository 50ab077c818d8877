"""Latency of the kernel, compared with the bundle's graphs in onnxruntime and with other libraries.

usage: python -m bench.experiments.kernel_latency [--rounds 60] [--wasm] [--out result.json]
       python -m bench.experiments.kernel_latency --trained gowalla [--runs FOLDER]

Tables of a large catalogue are random: dense rows, rows that are cut to mostly small widths, and rows with a tenth of
their values. Random rows are the worst case of block skipping: their lengths hardly differ. `--wasm` adds the same
bundles in Node, by the kernel and by onnxruntime-web. `--trained` measures iALS of a real set instead, fitted to a size
with its users, and dense fp32 of the same tables.

All contenders of a table answer the same users in one process with one thread, one call each a round. A time is
processor time of the process, which leaves out the turns of other programs; `least_wall_ms` is the fastest call by the
clock. Ratios are medians of those within a round. The kernel is that of the checkout, compiled by ziglang.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import click
import numpy as np

from bench.experiments.harness import ROOT, Figures, experiment, named_or_stored, runs_option, trained_run
from bench.experiments.scale.contenders import rounded
from bench.experiments.scale.peers import PEERS
from bench.experiments.scale.plain import plain_dense
from edgerec.console import messages, print_table
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import onnxruntime
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec_devices import open_device
from edgerec_devices.agent.clock import summary
from edgerec_export import ExportRequest, Source, export, export_request, from_run

FORMS = (("dense", "int8"), ("mixed", "int8"), ("mixed", "fp32"), ("ell", "int8"), ("ell", "fp32"))
COMPARED = {("dense", "int8"): ("LiteRT int8", "faiss SQ8", "turbovec 4 bit")}
"""Other libraries to compare a form with, and with them a plain ONNX model in int8; turbovec alone is not exact."""
Backend = Literal["onnxruntime", "kernel"]
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "kernel")
USERS, K = 100, 10
WIDTHS, SHARES, DENSITY = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), (0.4, 0.25, 0.2, 0.1, 0.05), 0.1
"""Widths of mixed rows as shares of the dimensions, and the share of rows of each; nonzero values of sparse rows."""
PACKAGE = "edgerec_kernel"
LIBRARY_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
WARM = 5
WASM_FORMS = (("dense", "int8"), ("mixed", "int8"), ("mixed", "fp32"), ("ell", "int8"))
WASM = {"node": "onnxruntime-web", "wasm": "kernel"}
"""The devices, and what answers there; each call is timed by Node's clock."""
REQUEST = {"task": "bundle", "k": K, "exclude": 0, "history": 20, "threads": 1, "seed": 0, "seconds": 0.0}
COLUMNS = ("bundle", "answered by", "ms", "least ms", "least ms by the clock", "of the kernel's")
Call = Callable[[int], Any]


def use_checkout(folder: Path) -> None:
    """Compile the checkout's package into a folder, and import it from there."""
    package = ROOT / "devices" / "kernel" / "python"
    shutil.copytree(package / PACKAGE, folder / PACKAGE)
    library = folder / PACKAGE / f"libedgerec_kernel{LIBRARY_SUFFIX}"
    subprocess.run([sys.executable, package / "build_library.py", library], check=True, timeout=600)
    sys.path.insert(0, str(folder))


def source(layout: str, items: int, d: int, seed: int) -> Source:
    """Return random tables of the kind that a layout is for."""
    rng = np.random.default_rng(seed)
    values, users = (rng.standard_normal((n, d), dtype=np.float32) for n in (items, USERS))
    table: Any = DenseTable(values)
    if layout == "mixed":
        widths = np.maximum(1, (d * np.array(WIDTHS)).astype(int))
        table = PrefixTable.from_dense(values, rng.choice(widths, items, p=SHARES))
    elif layout == "ell":
        mask = rng.random((items, d), dtype=np.float32) < DENSITY
        mask[:, 0] |= ~mask.any(1)
        table = SparseTable.from_dense(values, mask)
    return Source(table, np.arange(items), DenseTable(users), np.arange(USERS), about={})


def bundle_call(bundle: Path, backend: Backend) -> Call:
    """Return a call that recommends for the user of a row."""
    model, nothing = Recommender.load(bundle, verify=False, backend=backend), np.empty((1, 0), np.int64)
    n_users = model.n_users or 1
    return lambda number: model.recommend_rows({"user": np.array([number % n_users])}, nothing, K)


def library_calls(tables: Source, names: tuple[str, ...], folder: Path) -> dict[str, Call]:
    """Return the calls of a plain ONNX model in int8 and of other libraries, for the user of a row."""
    items, users = np.asarray(tables.items.dense()), np.asarray(tables.users.dense())  # type: ignore[union-attr]
    plain_dense(items, users, folder / "plain.onnx", K)
    rounded(folder / "plain.onnx", "int8", folder / "plain-int8.onnx")
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = runtime.InferenceSession(str(folder / "plain-int8.onnx"), options, providers=["CPUExecutionProvider"])
    calls: dict[str, Call] = {"plain ONNX int8": lambda number: session.run(None, {"user": np.array([number % USERS])})}
    for name in names:
        peer, place = PEERS[name](), folder / name.replace(" ", "-")
        place.mkdir()
        search = peer.open(place, K, 1, peer.build(items, users, place, K))
        calls[name] = partial(_search, search, users)
    return calls


def _search(search: Callable[[Any], Any], users: Any, number: int) -> Any:
    return search(users[number % USERS])


def measure(calls: Mapping[str, Call], rounds: int) -> list[Figures]:
    """Call each once a round, after WARM rounds; return a row for each, with its time over that of 'kernel'."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + WARM):
        for name, call in calls.items():
            before, started = time.process_time_ns(), time.perf_counter_ns()
            call(number)
            if number >= WARM:
                wall[name].append((time.perf_counter_ns() - started) / 1e6)
                spent[name].append((time.process_time_ns() - before) / 1e6)
    return [
        {
            "name": name,
            "ms": median(times),
            "least_ms": min(times),
            "least_wall_ms": min(wall[name]),
            "of_kernel": median(a / b for a, b in zip(times, spent["kernel"], strict=True)),
        }
        for name, times in spent.items()
    ]


def measure_catalogue(items: int, dimensions: int, rounds: int, seed: int, folder: Path) -> list[Figures]:
    """Return rows of every form; bundles stay in `folder`, named 'dense-int8'."""
    rows: list[Figures] = []
    tables: dict[str, Source] = {}
    for layout, precision in FORMS:
        messages.print(f"{layout} {precision}")
        if layout not in tables:
            tables = {layout: source(layout, items, dimensions, seed)}
        options = ExportRequest(layout, precision, similar=False, verify=False)
        bundle = export_request(tables[layout], folder / f"{layout}-{precision}", options).folder
        calls = {str(name): bundle_call(bundle, name) for name in BACKENDS}
        with tempfile.TemporaryDirectory(prefix="edgerec-kernel-", dir=folder) as scratch:
            if (layout, precision) in COMPARED:
                calls |= library_calls(tables[layout], COMPARED[layout, precision], Path(scratch))
            rows += [{"bundle": f"{layout} {precision}", **row} for row in measure(calls, rounds)]
    return rows


def measure_trained(data: str, limit: int, rounds: int, runs: Path | None, folder: Path) -> list[Figures]:
    """Return rows of iALS of a data set: fitted to `limit` bytes with its users, and dense fp32."""
    run = trained_run(named_or_stored(data), runs, data, backbone="ials", dimensions=64, split="published", threads=1)
    tables = from_run(run)
    fitted = export(tables, folder / "fitted", precision="auto", fit=True, max_bytes=limit, users=True, verify=False)
    dense = export(tables, folder / "dense", layout="dense", precision="fp32", users=True, verify=False)
    taken = fitted.chosen.tried[0]
    calls = {str(name): bundle_call(fitted.folder, name) for name in BACKENDS}
    calls |= {f"dense fp32, {name}": bundle_call(dense.folder, name) for name in BACKENDS}
    label = f"{data}, {taken.layout} {taken.precision}"
    return [{"bundle": label, "nbytes": fitted.nbytes, **row} for row in measure(calls, rounds)]


def measure_wasm(folder: Path, calls: int, rounds: int) -> list[Figures]:
    """Return rows of bundles in `folder` in Node: in each round, a fresh process of each contender."""
    rows: list[Figures] = []
    for layout, precision in WASM_FORMS:
        messages.print(f"{layout} {precision} in Node")
        times: dict[str, list[list[float]]] = {name: [] for name in WASM.values()}
        for _ in range(rounds):
            for address, name in WASM.items():
                with open_device(address) as device:
                    place = device.push(folder / f"{layout}-{precision}")
                    answer = device.run({**REQUEST, "bundle": place, "calls": calls, "scenarios": ["recommend"]})
                scenario = answer["scenarios"]["recommend"]
                figures = summary(scenario["first_ns"], scenario["times_ns"])
                times[name].append([figures["p50_ms"], min(scenario["times_ns"]) / 1e6])
        for name, taken in times.items():
            ratios = [one[0] / own[0] for one, own in zip(taken, times["kernel"], strict=True)]
            least = min(one[1] for one in taken)
            found = {"ms": median(one[0] for one in taken), "least_ms": least, "of_kernel": median(ratios)}
            rows.append({"bundle": f"{layout} {precision} in Node", "name": name, **found, "least_wall_ms": least})
    return rows


def cells(rows: Sequence[Figures]) -> list[list[str]]:
    """Format rows as cells of the table."""
    names = ("ms", "least_ms", "least_wall_ms", "of_kernel")
    return [[row["bundle"], row["name"], *(f"{row[name]:.2f}" for name in names)] for row in rows]


@experiment("kernel-latency")
@click.option("--items", default=1_000_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a row.")
@click.option("--rounds", default=60, show_default=True, help="Calls of each contender.")
@click.option("--seed", default=0, show_default=True, help="Seed of the tables.")
@click.option("--trained", help="Measure iALS of this data set, fitted to --limit, instead.")
@click.option("--limit", default=2 << 20, show_default=True, help="Bytes to which trained tables are fitted.")
@click.option("--wasm", is_flag=True, help="Measure the kernel and onnxruntime-web in Node.")
@runs_option
def main(
    items: int,
    dimensions: int,
    rounds: int,
    seed: int,
    trained: str | None,
    limit: int,
    wasm: bool,
    runs: Path | None,
) -> Figures:
    """Measure recommendations by the kernel, by onnxruntime and by other libraries."""
    with tempfile.TemporaryDirectory(prefix="edgerec-kernel-") as scratch:
        folder = Path(scratch)
        use_checkout(folder / "package")
        if trained:
            rows, heading = measure_trained(trained, limit, 5 * rounds, runs, folder), f"{trained}, one thread"
        else:
            rows = measure_catalogue(items, dimensions, rounds, seed, folder)
            heading = f"{items:,} items, {dimensions} dimensions, one thread"
        if wasm and not trained:
            rows += measure_wasm(folder, rounds // 3, 3)
    print_table(heading, COLUMNS, cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()

"""Data that are larger than memory: time, memory and disk of `edgerec data build`, and of training from its folder.

usage: python -m bench.experiments.data_build [--sizes 1000000,5000000,20000000] [--memory 1GiB] --out result.json

Made-up interactions with text ids follow power laws: a user's number of interactions, and an item's, is a power of its
rank. A generator writes them as Parquet within 500 MB. Every command has a process of its own, whose tree is measured:
the sum of resident bytes, read 50 times a second, and the bytes of the folder that it writes, twice a second. The
same work is done by a pandas and by a Polars script if these are installed. At some sizes svd and iALS train from
the folder, and their runs are exported and evaluated. Exponents are slopes of least squares between logarithms.
Finished cells are stored next to the result, and the same command resumes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, cached, experiment, next_to_out
from edgerec.budget import format_bytes
from edgerec.console import messages, print_table
from edgerec.errors import BenchError
from edgerec.extras import require

INTERACTIONS_OF_USER, INTERACTIONS_OF_ITEM = 40, 100
"""Mean numbers of interactions: 20 million are of 500,000 users and 200,000 items."""
USER_SKEW, ITEM_SKEW = 1.5, 3.0
"""Powers of a uniform number that give the rank of a user and of an item."""
PANDAS = """
import sys, numpy as np, pandas as pd
rows = pd.read_parquet(sys.argv[1])
rows = rows.sort_values("ts", kind="stable").drop_duplicates(["customer_id", "sku"], keep="last")
for name in ("customer_id", "sku"):
    counts = rows[name].value_counts().rename_axis("id").reset_index(name="n")
    counts = counts.sort_values(["n", "id"], ascending=[False, True]).reset_index(drop=True)
    counts.to_parquet(f"{sys.argv[2]}/{name}.parquet")
    rows[name] = rows[name].map(pd.Series(counts.index, counts["id"])).astype(np.int32)
rows = rows.sort_values(["customer_id", "ts", "sku"])
pointers = np.concatenate([[0], np.cumsum(np.bincount(rows["customer_id"]))])
for name, array in (("indptr", pointers), ("indices", rows["sku"]), ("timestamps", rows["ts"])):
    np.save(f"{sys.argv[2]}/{name}.npy", array)
"""
POLARS = """
import sys, numpy as np, polars as pl
rows = pl.scan_parquet(sys.argv[1]).sort("ts").unique(["customer_id", "sku"], keep="last")
rows = rows.collect(engine="streaming").lazy()
for name in ("customer_id", "sku"):
    counts = rows.group_by(name).len().sort(["len", name], descending=[True, False]).with_row_index("row")
    counts = counts.collect(engine="streaming")
    counts.write_parquet(f"{sys.argv[2]}/{name}.parquet")
    rows = rows.join(counts.lazy().select(name, pl.col("row").alias(f"{name}_row")), on=name).drop(name)
rows = rows.sort(["customer_id_row", "ts", "sku_row"]).collect(engine="streaming")
pointers = np.concatenate([[0], np.cumsum(np.bincount(rows["customer_id_row"].to_numpy()))])
for name, array in (("indptr", pointers), ("indices", rows["sku_row"]), ("timestamps", rows["ts"])):
    np.save(f"{sys.argv[2]}/{name}.npy", np.asarray(array))
"""
FIGURES = ("seconds", "cpu_seconds", "peak_bytes", "disk_bytes", "disk_peak_bytes")
"""Figures of a build whose growth is fitted."""
SCRIPTS = {"pandas": PANDAS, "polars": POLARS}


def write_events(path: Path, n: int) -> None:
    """Write `n` interactions as a Parquet file with the columns customer_id, sku and ts, out of core."""
    settings = {"memory_limit": "500MB", "preserve_insertion_order": False, "temp_directory": f"{path}.spill"}
    connection = require("duckdb", "train").connect(config=settings)
    columns = (
        ("customer_id", "u", 0, n // INTERACTIONS_OF_USER, USER_SKEW),
        ("sku", "i", 1, n // INTERACTIONS_OF_ITEM, ITEM_SKEW),
    )
    listed = ", ".join(
        # An odd factor maps ranks to ids one to one, so that the order of ids says nothing of popularity.
        f"'{kind}-' || printf('%08x', (floor({count} * pow({_uniform(salt)}, {skew}))::BIGINT * 2654435761) "
        f"% 4294967296) AS {name}"
        for name, kind, salt, count, skew in columns
    )
    time = "1600000000 + (hash(i * 4 + 2) % 100000000)::BIGINT AS ts"
    connection.execute(f"COPY (SELECT {listed}, {time} FROM range({n}) AS numbers(i)) TO '{path}' (FORMAT parquet)")
    connection.close()


def _uniform(salt: int) -> str:
    """Return SQL of a number in 0..1 that depends on `i` alone."""
    return f"((hash(i * 4 + {salt}) >> 11)::DOUBLE / 9007199254740992.0)"


def run_measured(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a program that writes into `folder`; return its elapsed seconds, the peak of its tree, and the disk's.

    Raises BenchError if it fails.
    """
    psutil = require("psutil", "dev")
    log = folder.with_name(f"{folder.name}.log")
    started, peak, disk, looked, cpu = time.perf_counter(), 0, 0, 0.0, 0.0
    with log.open("w+b") as stream:
        process = psutil.Popen([sys.executable, *words], stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in tree))
                cpu = sum(process.cpu_times()[:4])  # of the process and its ended children
            except psutil.Error:
                pass  # it ended in between
            if time.perf_counter() - looked > 0.5:
                disk, looked = max(disk, bytes_of(folder)), time.perf_counter()
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode:
        *_, reason = log.read_text().splitlines() or [f"status {process.returncode}"]
        raise BenchError(f"'{' '.join(words)[:200]}' failed: {reason}")
    final = bytes_of(folder)
    found = {"peak_bytes": peak, "disk_peak_bytes": max(disk, final), "disk_bytes": final}
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), **found}


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files in a folder, of which some may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):  # skips folders that vanish
        for name in names:
            with suppress(OSError):
                total += Path(place, name).stat().st_blocks * 512
    return total


def growth(rows: Sequence[dict[str, Any]], figure: str) -> float | None:
    """Return the exponent of a figure over the number of interactions; None of a single size, or of nothing."""
    if len(rows) < 2 or not all(row[figure] for row in rows):
        return None
    n, values = (np.log([row[name] for row in rows]) for name in ("rows", figure))
    return round(float(np.polyfit(n, values, 1)[0]), 3)


def extrapolated(rows: Sequence[dict[str, Any]], n: int) -> tuple[float, float]:
    """Return the processor seconds and the peak memory of a command at `n` interactions, from smaller ones.

    Seconds follow the power law of least squares, memory the line through the two largest sizes.
    """
    sizes, seconds, memory = (np.array([row[key] for row in rows]) for key in ("rows", "cpu_seconds", "peak_bytes"))
    power, factor = np.polyfit(np.log(sizes), np.log(seconds), 1)
    (first, last), (less, more) = np.sort(sizes)[-2:], memory[np.argsort(sizes)][-2:]
    return float(np.exp(factor) * n**power), float(more + (more - less) / (last - first) * (n - last))


def guide_cells(result: dict[str, Any], sizes: Sequence[int]) -> list[list[str]]:
    """Return the rows of docs/guide/scale.md: processor time and memory of each command at some sizes."""
    found: dict[str, list[dict[str, Any]]] = {"build": result["builds"]}
    for row in result["trainings"]:
        found.setdefault(label(row), []).append(row)
    return [[name, *(_time_and_memory(*extrapolated(rows, n)) for n in sizes)] for name, rows in found.items()]


def _time_and_memory(seconds: float, memory: float) -> str:
    time = f"{seconds / 3600:.1f} h"
    if seconds < 6000:
        time = f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"
    return f"{time}, {format_bytes(round(memory))}"


class _Size:
    """Measurements of one number of interactions, in a folder of its own; the first writes them and builds."""

    def __init__(self, n: int, place: Path, memory: str) -> None:
        self.place, self._n, self._memory = place, n, memory
        self._source, self._built = place / "events.parquet", place / "built"

    def build(self) -> Figures:
        self.place.mkdir()
        write_events(self._source, self._n)
        words = ["-m", "edgerec.cli", "data", "build", str(self._source), "--memory", self._memory]
        words += ["--split", "random:80/20", "--out", str(self._built)]
        row = _timed(f"build of {self._n:,}", words, self._built)
        return {**self._about(), **row, **json.loads((self._built / "dataset.json").read_bytes())["counts"]}

    def by_script(self, name: str) -> Figures:
        self._build_once()
        out = self.place / name
        out.mkdir()
        row = _timed(f"{name} of {self._n:,}", ["-c", SCRIPTS[name], str(self._source), str(out)], out)
        same = _same(self._built, out)
        shutil.rmtree(out)
        return {"script": name, **self._about(), **row, "same": same}

    def trained(self, backbone: str, dimensions: int, sample: int) -> Figures:
        self._build_once()
        rows = train_and_export(self._built, self.place, backbone, dimensions, sample)
        return {"rows": [{"rows": self._n, **row} for row in rows]}

    def _build_once(self) -> None:
        if not self.place.exists():
            self.build()

    def _about(self) -> dict[str, int]:
        return {"rows": self._n, "source_bytes": self._source.stat().st_size}


def train_and_export(data: Path, place: Path, backbone: str, dimensions: int, sample: int) -> list[dict[str, Any]]:
    """Train a backbone from a built folder, export and evaluate its run; return a row for each command."""
    more = {"svd": ["--set", "a=0.4", "--set", "b=0.4"], "ials": ["--epochs", "2"]}[backbone]
    run, bundle = place / backbone, place / f"{backbone}.bundle"
    train = ["train", str(data), "--backbone", backbone, "--dimensions", str(dimensions), *more]
    commands = {
        run: [*train, "--sample-users", str(sample), "--threads", "2", "--out", str(run)],
        bundle: ["export", str(run), "--no-users", "--precision", "int8", "--out", str(bundle)],
    }
    measured = place / f"{backbone}.evaluation"
    measured.mkdir()
    commands[measured] = ["evaluate", str(bundle), "--data", str(data), "--sample-users", str(sample)]
    rows = []
    for out, words in commands.items():
        shown = " ".join(["edgerec", *(Path(word).name if word.startswith(str(place)) else word for word in words)])
        rows.append({"command": shown, **_timed(shown, ["-m", "edgerec.cli", *words], out)})
    rows[0]["metrics"] = json.loads((run / "run.json").read_bytes())["metrics"]["test"]
    return rows


def sizes_of(text: str) -> list[int]:
    """Read sizes between commas, ascending. Raises BenchError."""
    try:
        return sorted(int(one) for one in text.split(","))
    except ValueError:
        raise BenchError(f"{text!r} is no list of whole numbers, such as 1000000,5000000") from None


@experiment("data-build", needs_out=True)
@click.option(
    "--sizes", default="1000000,5000000,20000000", show_default=True, help="Numbers of interactions, between commas."
)
@click.option("--memory", default="1GiB", show_default=True, help="Memory of the builds.")
@click.option("--scripts-up-to", default=20_000_000, show_default=True, help="Largest size of the scripts.")
@click.option("--train-at", default="20000000", show_default=True, help="Sizes to train at, between commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--sample-users", default=2_000, show_default=True, help="Users on whom the training is measured.")
def main(
    sizes: str,
    memory: str,
    scripts_up_to: int,
    train_at: str,
    dimensions: int,
    sample_users: int,
) -> Figures:
    """Measure builds of several sizes, the same work by scripts, and training from a built folder."""
    builds: list[dict[str, Any]] = []
    scripts: list[dict[str, Any]] = []
    trainings: list[dict[str, Any]] = []
    cells, about = next_to_out(".cells"), {"memory": memory, "dimensions": dimensions, "sample_users": sample_users}
    with tempfile.TemporaryDirectory(prefix="edgerec-build-") as folder:
        for n in sizes_of(sizes):
            size = _Size(n, Path(folder, str(n)), memory)
            builds.append(cached(cells / f"{n}-build.json", {"memory": memory}, size.build))
            names = [name for name in SCRIPTS if n <= scripts_up_to and importlib.util.find_spec(name) is not None]
            scripts += [cached(cells / f"{n}-{name}.json", {}, partial(size.by_script, name)) for name in names]
            for backbone in ("svd", "ials") if n in sizes_of(train_at) else ():
                measure = partial(size.trained, backbone, dimensions, sample_users)
                trainings += cached(cells / f"{n}-{backbone}.json", about, measure)["rows"]
            shutil.rmtree(size.place, ignore_errors=True)
    exponents = {name: growth(builds, name) for name in FIGURES}
    of_trainings = {
        name: {figure: growth([row for row in trainings if label(row) == name], figure) for figure in FIGURES}
        for name in dict.fromkeys(map(label, trainings))
    }
    _show(builds, scripts, trainings, {"build": exponents, **of_trainings})
    faults = [f"{row['script']} of {row['rows']}: other arrays than the build's" for row in scripts if not row["same"]]
    found = {"builds": builds, "scripts": scripts, "trainings": trainings, "exponents": exponents}
    return {**found, "training_exponents": of_trainings, "faults": faults}


def label(row: dict[str, Any]) -> str:
    """Return a row's name in a table: 'svd: train', or 'build of 1,000,000'."""
    if "command" in row:
        words = row["command"].split()
        backbone = words[words.index("--backbone") + 1] if words[1] == "train" else Path(words[2]).stem
        return f"{backbone}: {words[1]}"
    return f"{row.get('script', 'build')} of {row['rows']:,}"


def _timed(name: str, words: Sequence[str], folder: Path) -> dict[str, Any]:
    found = run_measured(words, folder)
    messages.print(f"{name}: {found}", markup=False)
    return found


def _same(built: Path, script: Path) -> bool:
    """Return True if a script wrote the arrays of the build."""
    names = ("indptr", "indices", "timestamps")
    pairs = ((built / "interactions" / f"{name}.npy", script / f"{name}.npy") for name in names)
    return all(np.array_equal(*(np.load(path, mmap_mode="r") for path in pair)) for pair in pairs)


def _show(
    builds: Sequence[dict[str, Any]],
    scripts: Sequence[dict[str, Any]],
    trainings: Sequence[dict[str, Any]],
    exponents: dict[str, dict[str, float | None]],
) -> None:
    listed = [
        [
            label(row),
            row["seconds"],
            row["cpu_seconds"],
            *(format_bytes(row[one]) for one in ("peak_bytes", "disk_peak_bytes", "disk_bytes")),
        ]
        for row in (*builds, *scripts, *trainings)
    ]
    print_table("", ["", "seconds", "cpu seconds", "peak memory", "peak disk", "disk"], listed)
    print_table("exponents of growth", ["", *FIGURES], [[name, *one.values()] for name, one in exponents.items()])


if __name__ == "__main__":
    main()

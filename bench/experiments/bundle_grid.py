"""Quality of whole bundles by size, for every way to make one: backbone, tables, precision, with and without users.

usage: python -m bench.experiments.bundle_grid [--data ml-100k,lastfm-hetrec] [--sizes 32KiB,...] [--seeds 1]
                                               [--backbones svd,ials,lae] [--out result.json]

The tables of a bundle are

    fitted       trained in full with --dimensions, and fitted to the size at export (`--fit`)
    uniform      as many dimensions in each row as the size allows, trained so
    popularity   row sizes by popularity, trained so; of 'lae' in the codes of the bundle
    magnitude    the largest values of a full table, at positions of their own
    bet          row sizes and bits that a search has chosen

A backbone's settings are chosen on validation at its full training, and the other tables are trained with them. Figures
are of the bundle's own answers on the test part of a random 80/20 split per user; a seed is that of the split too. Each
cell is a line of OUT.cells.jsonl when it is done, so that an interrupted grid continues; a cell that failed
has the reason, and is listed at the end. Milliseconds are the median of 30 requests on the machine as it was.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, named_or_stored, next_to_out
from bench.experiments.item_only import METRICS
from edgerec.api import train
from edgerec.budget import BITS_PER_VALUE, parse_bytes
from edgerec.console import messages, print_table
from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BudgetError, UnsupportedError
from edgerec.files import append_json, drop_torn_line, read_bytes, to_json
from edgerec.fitting.validation import ValidationTest
from edgerec.json_records import parse_json
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.runtime.stored import ALIGNMENT
from edgerec.training import Run
from edgerec_bench.record import over_seeds
from edgerec_export import Export, export, from_run

SIZES = "16KiB,32KiB,64KiB,128KiB,256KiB,512KiB,1MiB,2MiB"
INTEGERS = ("int8", "int4", "int2")
PRECISIONS = ("auto", *INTEGERS)
"""Precisions of tables that are fitted at export."""
MOST_DIMENSIONS = 128
"""Dimensions of a row of equal ones, at most."""
LEAST_USED = 0.9
"""Share of the size below which tables are trained again with a larger budget, as long as their bundle grows. A bundle
that is the same at two sizes has the whole tables, and stands for larger sizes."""
ATTEMPTS = 4
COMPARED = {
    "svd, equal rows": ("svd", "uniform", False),
    "svd, by popularity": ("svd", "popularity", False),
    "svd, BET": ("svd", "bet", False),
    "svd, fitted": ("svd", "fitted", False),
    "ials, equal rows": ("ials", "uniform", False),
    "ials, fitted": ("ials", "fitted", False),
    "ials, user table": ("ials", "fitted", True),
    "lae": ("lae", "popularity", False),
}
"""Backbone, tables and users of each column of the comparison, whose precision is the best of each cell."""
Cell = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One way to make a bundle.

    Attributes:
        backbone, tables, precision: as described above.
        users: True for a bundle with a user table.
    """

    backbone: str
    tables: str
    precision: str
    users: bool

    @property
    def name(self) -> str:
        """The name for people: 'svd fitted auto'."""
        return " ".join([self.backbone, self.tables, self.precision, *(["with users"] if self.users else [])])


def ways(backbones: Sequence[str]) -> Iterator[Way]:
    """Yield the ways of these backbones."""
    for backbone in backbones:
        if backbone == "lae":
            yield from (Way(backbone, "popularity", precision, users=False) for precision in ("int4", "int2"))
            continue
        for users in (False,) if backbone == "svd" else (False, True):
            yield from (Way(backbone, "fitted", precision, users) for precision in PRECISIONS)
            if backbone in ("svd", "ials"):
                yield from (Way(backbone, "uniform", precision, users) for precision in INTEGERS)
        # Without users these have a share of the budget in the user table that is left out, but of the svd.
        users = backbone != "svd"
        yield from (Way(backbone, "popularity", precision, users) for precision in ("int8", "int4"))
        yield Way(backbone, "magnitude", "int8", users)
        if backbone == "svd":
            yield Way(backbone, "bet", "auto", users)


class Trainings:
    """Trainings on one split of one data set; the full one of a backbone is done once."""

    def __init__(self, interactions: Interactions, split: SplitSpec, dimensions: int, threads: int) -> None:
        """Prepare trainings with `dimensions` in a full row."""
        self._interactions, self._split, self._dimensions, self._threads = interactions, split, dimensions, threads
        self._full: dict[str, tuple[Run, float]] = {}
        self.overhead: dict[tuple[str, str], int] = {}
        """Bytes of the last bundle besides its budget, by backbone and tables."""
        self.seconds = 0.0
        """Seconds of the training that was returned last."""

    @cached_property
    def test(self) -> ValidationTest:
        """The test part, for the latency."""
        return ValidationTest.of(self._interactions, self._split, None)

    def full(self, backbone: str) -> Run:
        """Return the full tables of a backbone, whose settings are chosen on validation."""
        if backbone not in self._full:
            run = self.train(backbone, "dense", dimensions=self._dimensions)
            self._full[backbone] = run, self.seconds
        run, self.seconds = self._full[backbone]
        return run

    def train(self, backbone: str, method: str, **how: Any) -> Run:
        """Train with the split, the seed and the threads of all."""
        started = time.perf_counter()
        run = train(
            self._interactions,
            backbone=backbone,
            method=method,
            split=self._split,
            seed=self._split.seed,
            threads=self._threads,
            **how,
        )
        self.seconds = round(time.perf_counter() - started, 2)
        return run

    def within(self, way: Way, nbytes: int) -> Run:
        """Train tables of at most `nbytes`, with the settings of the full training."""
        # What 'lae' chooses depends on its size.
        settings = None if way.backbone == "lae" else dict(self.full(way.backbone).config["chosen_settings"])
        if way.tables == "uniform":
            rows = self._interactions.n_items + (self._interactions.n_users if way.users else 0)
            widest = nbytes * 8 // (BITS_PER_VALUE[way.precision] * rows)
            if widest < 1:
                raise BudgetError(f"{nbytes} bytes are less than a dimension of each row")
            return self.train(way.backbone, "dense", dimensions=min(widest, MOST_DIMENSIONS), settings=settings)
        return self.train(
            way.backbone,
            way.tables,
            budget=f"{nbytes}B",
            precision=way.precision,
            dimensions=self._dimensions,
            settings=settings,
        )


def exported(run: Run, way: Way, limit: int, out: Path) -> Export:
    """Export a run in one file of at most `limit` bytes. Raises BudgetError."""
    return export(
        from_run(run),
        out,
        precision=way.precision,
        max_bytes=limit,
        fit=way.tables == "fitted",
        users=way.users,
        similar=False,
        verify=False,
        overwrite=True,
    )


def largest_bundle(trainings: Trainings, way: Way, limit: int, out: Path) -> tuple[Run, Export]:
    """Return the largest bundle of a way within the limit, written to `out`, and its run.

    Raises BudgetError if there is none.
    """
    if way.tables == "fitted":
        run = trainings.full(way.backbone)
        return run, exported(run, way, limit, out)
    # What a bundle takes besides the budget of its values is known when it is exported.
    kind, found, failure = (way.backbone, way.tables), None, BudgetError("")
    nbytes = limit - trainings.overhead.get(kind, limit // 8)
    for _ in range(ATTEMPTS):
        try:
            run = trainings.within(way, nbytes)
            done = exported(run, way, limit, out)
        except BudgetError as error:
            failure = error
            nbytes = int(nbytes * min(limit / (error.smallest or limit), 0.97) * 0.99)
            continue
        trainings.overhead[kind] = max(done.nbytes - nbytes, 0)
        whole = found is not None and done.nbytes <= found[1].nbytes
        found = run, done
        if whole or done.nbytes >= LEAST_USED * limit:
            break
        nbytes += int(0.97 * (limit - done.nbytes))
    if found is None:
        raise failure
    return found


def measured(trainings: Trainings, interactions: Interactions, way: Way, limit: int) -> Cell:
    """Return the figures of a cell, or the reason why it is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run, done = largest_bundle(trainings, way, limit, Path(scratch) / "b.edgerec")
        except (BudgetError, UnsupportedError) as error:
            return {"missing": str(error)}
        with Recommender.load(done.folder) as model:
            metrics = evaluate(model, interactions, threads=1)
            ms = trainings.test.latency(model)
            layout = model.manifest.layout
    chosen = {"layout": layout, "settings": run.config["chosen_settings"], "seconds": trainings.seconds}
    return {"bytes": done.nbytes, **{name: metrics[name] for name in METRICS}, "ms": ms, **chosen}


class Cells:
    """The cells that are done, lines of a file."""

    def __init__(self, path: Path) -> None:
        """Read the cells of a file, or begin one."""
        self._path, self._found = path, dict[str, Cell]()
        if path.exists():
            drop_torn_line(path)
            for line in read_bytes(path).splitlines():
                row = parse_json(line)
                self._found[row["key"]] = row["found"]

    def get(self, key: Mapping[str, Any], measure: Callable[[], Cell]) -> Cell:
        """Return the cell of a key, measured now and stored if it is new."""
        name = to_json(key, compact=True).decode().strip()
        if name not in self._found:
            self._found[name] = measure()
            append_json(self._path, {"key": name, "found": self._found[name]})
        return self._found[name]


def _is_whole(below: Sequence[Cell]) -> bool:
    """Return True if the last two of the cells of a way are the same bundle, which then has the whole tables.

    Its head names the limit, which may move what follows by one unit of alignment.
    """
    last = [cell["bytes"] for cell in below[-2:] if "bytes" in cell]
    return len(last) == 2 and abs(last[1] - last[0]) <= ALIGNMENT


def over_all_seeds(cells: Sequence[Cell]) -> Cell:
    """Return the figures of one bundle over the seeds; of a cell that is missing for one seed, the reason."""
    if missing := next((cell["missing"] for cell in cells if "missing" in cell), None):
        return {"missing": missing}
    figures = ("bytes", *METRICS, "ms", "seconds")
    found: Cell = {name: over_seeds([cell[name] for cell in cells]) for name in figures}
    return {**found, "layout": cells[0]["layout"], "settings": [cell["settings"] for cell in cells]}


def best_precisions(rows: Sequence[Cell]) -> dict[tuple[str, str], dict[str, float]]:
    """Return for each data set and size the NDCG@20 of the ways of `COMPARED` that gave a bundle, by name."""
    names = {way: name for name, way in COMPARED.items()}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        here = found.setdefault((row["data"], row["size"]), {})
        name = names.get((row["backbone"], row["tables"], row["users"]))
        if name is not None and "missing" not in row:
            here[name] = max(here.get(name, 0.0), row["ndcg@20"]["mean"])
    return found


def compared(rows: Sequence[Cell]) -> list[list[str]]:
    """Return for each data set and size the NDCG@20 of each way of `COMPARED`; the best is bold, '-' is no bundle."""
    lines = []
    for (data, size), here in best_precisions(rows).items():
        texts = [f"{here[name]:.4f}" if name in here else "-" for name in COMPARED]
        best = max((text for text in texts if text != "-"), default="")
        lines.append([data, size, *(f"**{text}**" if text == best else text for text in texts)])
    return lines


@experiment("bundle_grid", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True, help="Data sets, separated by commas.")
@click.option("--sizes", default=SIZES, show_default=True, help="Sizes of whole bundles, ascending.")
@click.option("--backbones", default="svd,ials,lae", show_default=True, help="Backbones, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option("--split", default="random:80/20", show_default=True, help="Split of the data.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Splits and trainings; 0, 1, ...")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of trainings.")
def main(data: str, sizes: str, backbones: str, dimensions: int, split: str, seeds: int, threads: int) -> Figures:
    """Make a bundle of each size in every way, and measure its answers."""
    cells, rows, fingerprints = Cells(next_to_out(".cells.jsonl")), list[Cell](), dict[str, str]()
    shared = {"split": split, "dimensions": dimensions}
    for name in data.split(","):
        interactions = named_or_stored(name)
        fingerprints[name] = interactions.fingerprint()
        found: dict[tuple[str, Way], list[Cell]] = {}
        for seed in range(seeds):
            trainings = Trainings(interactions, SplitSpec.parse(split, seed=seed), dimensions, threads)
            for way in ways(backbones.split(",")):
                below: list[Cell] = []  # the cells of smaller sizes
                for size in sizes.split(","):
                    key = {"data": fingerprints[name], **shared, "size": size, "seed": seed, **asdict(way)}
                    if _is_whole(below):
                        cell = below[-1]
                    else:
                        cell = cells.get(key, partial(measured, trainings, interactions, way, parse_bytes(size)))
                    below.append(cell)
                    found.setdefault((size, way), []).append(cell)
                    outcome = cell.get("missing") or f"{cell['ndcg@20']:.4f} in {cell['bytes']:,} bytes"
                    messages.print(f"{name} {size} seed {seed}: {way.name}: {outcome}", markup=False)
        about = {"data": name, "items": interactions.n_items}
        rows += [{**about, "size": size, **asdict(way), **over_all_seeds(one)} for (size, way), one in found.items()]
    print_table("NDCG@20 of the best precision", ("data", "size", *COMPARED), compared(rows))
    return {"split": split, "data_fingerprints": fingerprints, "rows": rows}


if __name__ == "__main__":
    main()

"""Stream methods compared: quality by segment, deployed bytes, and patches between segments.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.streams --data ml-100k --budgets 10%,8300 --out result.json

Each data set is split into eight segments with equally many new users and items; the last fifth of each user's
interactions in a segment is for testing. Every method and seed trains on it with iALS of 64 dimensions and the same
settings; seeds change what is replayed and searched. Bundles are of seed 0, in int8. Patches are between bundles that
are each exported like the one before, and reported as a share of a bundle exported on its own. Streams are stored in
--work: after an interruption, the same command resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, next_to_out
from edgerec.budget import format_bytes
from edgerec.console import messages, print_table
from edgerec.data import Interactions, StreamSpec, load_data
from edgerec.methods.stream import STREAM_METHODS
from edgerec.methods.stream.result import METRICS, StreamResult
from edgerec.methods.stream.warm_start import REFITS
from edgerec.streaming import StreamRequest, train_stream_request
from edgerec.training import Run
from edgerec_bench.record import over_seeds, with_spread
from edgerec_export import ExportRequest, diff, export_request, from_run

SEGMENTS, HOLDOUT, DIMENSIONS = "8", "user", 64
"""Defaults of the stream: number of segments, holdout of each segment, dimensions."""
FORM = ExportRequest("mixed", "int8", verify=False)
COLUMNS = ("budget", "method", "recall@20", "ndcg@20", "ahead of uniform", "seeds", "bundle", "patches")


@dataclass(frozen=True)
class StreamComparison:
    """The streams to train.

    Attributes:
        seeds: number of seeds: 0, 1, ...
        refit: see `StreamTraining`.
        segments: text that `StreamSpec.parse` accepts.
        work: folder of the streams and bundles.
    """

    data: str
    budgets: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    refit: str
    segments: str
    work: Path

    def request(self, budget: str, method: str, seed: int) -> StreamRequest:
        spec = StreamSpec.parse(self.segments, holdout=HOLDOUT, seed=seed)
        return StreamRequest.make(
            "ials", method, budget=budget, dimensions=DIMENSIONS, segments=spec, seed=seed, threads=1, refit=self.refit
        )

    def folder(self, budget: str, method: str, seed: int) -> Path:
        name = "-".join(
            (Path(self.data).stem, self.refit, budget.replace("%", "pc").replace("/", "-"), method, str(seed))
        )
        return self.work / name

    def results(self, interactions: Interactions, budget: str, method: str) -> list[StreamResult]:
        """Train the stream with each seed, or load the stored result."""
        found = []
        for seed in range(self.seeds):
            folder = self.folder(budget, method, seed)
            messages.print(f"{folder.name}", markup=False)
            found.append(
                train_stream_request(interactions, self.request(budget, method, seed), out=folder, resume=True)
            )
        return found


def measured(comparison: StreamComparison) -> Iterator[dict[str, Any]]:
    """Yield a row for each budget and method."""
    interactions = load_data(comparison.data)
    for budget, method in product(comparison.budgets, comparison.methods):
        found = comparison.results(interactions, budget, method)
        bundles = line(comparison.folder(budget, method, 0), found[0])
        row: dict[str, Any] = {"budget": budget, "method": method}
        for name in METRICS:
            row[name] = over_seeds([result.mean()[name] for result in found])
        yield {**row, "segments": list(_segments(found)), "bundles": bundles}


def _segments(found: Sequence[StreamResult]) -> Iterator[dict[str, Any]]:
    """Yield each segment with means over the seeds; rows and values are the same for all seeds."""
    for same in zip(*(result.segments for result in found), strict=True):
        first = same[0]
        metrics = {name: mean(one.metrics[name] for one in same) for name in METRICS}
        yield {"rows": first.rows, "interactions": first.interactions, "values": first.values, **metrics}


def line(folder: Path, result: StreamResult) -> list[dict[str, int]]:
    """Export each segment on its own ('bundle') and like the bundle before ('alike'), and make the patches between the
    latter; return their bytes, with a 'patch' of 0 for the first. Existing files are reused."""
    alone, alike = ([folder / f"{segment.run}{end}" for segment in result.segments] for end in (".whole", ".bundle"))
    for number, segment in enumerate(result.segments):
        options_alike = ExportRequest(like=alike[number - 1], verify=False) if number else FORM
        for bundle, options in ((alone[number], FORM), (alike[number], options_alike)):
            if not (bundle / "manifest.json").exists():
                export_request(from_run(Run.load(folder / segment.run)), bundle, options)
    patches = [0]
    for old, new in pairwise(alike):
        path = new.with_suffix(".patch")
        patches.append(path.stat().st_size if path.exists() else diff(old, new, path, verify=False).nbytes)
    sizes = ([sum(file.stat().st_size for file in bundle.iterdir()) for bundle in each] for each in (alone, alike))
    return [dict(zip(("bundle", "alike", "patch"), one, strict=True)) for one in zip(*sizes, patches, strict=True)]


def leads(rows: Sequence[dict[str, Any]], method: str = "scall", other: str = "uniform") -> list[dict[str, Any]]:
    """Compare one method with another by NDCG@20 at each budget: the relative difference, and the seeds it wins."""
    found = []
    for budget in dict.fromkeys(row["budget"] for row in rows):
        here = {row["method"]: row["ndcg@20"] for row in rows if row["budget"] == budget}
        if method in here and other in here:
            pairs = zip(here[method]["seeds"], here[other]["seeds"], strict=True)
            relative = here[method]["mean"] / here[other]["mean"] - 1
            won = sum(ours > theirs for ours, theirs in pairs)
            found.append({"budget": budget, "method": method, "other": other, "relative": relative, "seeds_won": won})
    return found


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Format the rows as table cells."""
    shown = []
    for row in rows:
        found = [lead for lead in leads(rows, row["method"]) if lead["budget"] == row["budget"]]
        ahead = f"{found[0]['relative']:+.1%}" if found and row["method"] != "uniform" else ""
        won = f"{found[0]['seeds_won']}/{len(row['ndcg@20']['seeds'])}" if ahead else ""
        last, patches = row["bundles"][-1]["bundle"], [one["patch"] / one["bundle"] for one in row["bundles"][1:]]
        scores = [with_spread(row[name]) for name in METRICS]
        shown.append([row["budget"], row["method"], *scores, ahead, won, format_bytes(last), f"{mean(patches):.0%}"])
    return shown


def segment_cells(rows: Sequence[dict[str, Any]], budget: str) -> list[list[str]]:
    """Format NDCG@20 by segment as table cells, one line per method."""
    return [
        [row["method"], *(f"{segment['ndcg@20']:.4f}" for segment in row["segments"])]
        for row in rows
        if row["budget"] == budget
    ]


@experiment("streams", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option(
    "--budgets",
    default="10%,8300",
    show_default=True,
    help="Budgets, separated by commas: a share fixes the mean size of a row, a count the total.",
)
@click.option(
    "--methods", default="uniform,popularity,static,scall", show_default=True, help="Methods, separated by commas."
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of seeds.")
@click.option(
    "--refit", type=click.Choice(REFITS), default="full", show_default=True, help="Rows to train again in each segment."
)
@click.option("--segments", default=SEGMENTS, show_default=True, help="Segments, as in 'edgerec stream'.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the streams; by default OUT.work.")
def main(data: str, budgets: str, methods: str, seeds: int, refit: str, segments: str, work: Path | None) -> Figures:
    """Train stream methods, export their bundles and compare them."""
    named = tuple(methods.split(","))
    if unknown := set(named) - set(STREAM_METHODS):
        raise click.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(STREAM_METHODS)}")
    comparison = StreamComparison(
        data, tuple(budgets.split(",")), named, seeds, refit, segments, work or next_to_out(".work")
    )
    rows = list(measured(comparison))
    print_table(f"{data}, segments {segments}", COLUMNS, cells(rows))
    return {
        "data_fingerprint": load_data(data).fingerprint(),
        "settings": comparison.request(comparison.budgets[0], named[0], 0).to_dict(),
        "rows": rows,
        "leads": leads(rows),
    }


if __name__ == "__main__":
    main()

"""Methods that follow a stream, side by side: quality by segment, bytes that are deployed, patches between segments.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.streams --data ml-100k --budgets 10%,8300 --out result.json

Each data set is cut into eight segments with as many new users and items each; of a segment the last fifth of every
user tests. Every method and seed follows it with iALS of 64 dimensions at the same settings; seeds differ in what is
replayed and searched. Bundles are of seed 0, in int8; patches lead from one to the next of a line in which each is
exported like the one before, and are counted in shares of the bundle that is like none. Streams are kept in --work:
killed, the same command goes on.
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
"""As of `edgerec stream`; the first is what is cut where nothing else is asked for."""
FORM = ExportRequest("mixed", "int8", verify=False)
COLUMNS = ("budget", "method", "recall@20", "ndcg@20", "ahead of uniform", "seeds", "bundle", "patches")


@dataclass(frozen=True)
class Question:
    """What is followed.

    Attributes:
        refit: as `StreamTraining` has it.
        segments: as `StreamSpec.parse` reads them.
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

    def followed(self, interactions: Interactions, budget: str, method: str) -> list[StreamResult]:
        """Of each seed."""
        found = []
        for seed in range(self.seeds):
            folder = self.folder(budget, method, seed)
            messages.print(f"{folder.name}", markup=False)
            found.append(
                train_stream_request(interactions, self.request(budget, method, seed), out=folder, resume=True)
            )
        return found


def measured(question: Question) -> Iterator[dict[str, Any]]:
    """One row a budget and method."""
    interactions = load_data(question.data)
    for budget, method in product(question.budgets, question.methods):
        found = question.followed(interactions, budget, method)
        bundles = line(question.folder(budget, method, 0), found[0])
        row: dict[str, Any] = {"budget": budget, "method": method}
        for name in METRICS:
            row[name] = over_seeds([followed.mean()[name] for followed in found])
        yield {**row, "segments": list(_segments(found)), "bundles": bundles}


def _segments(found: Sequence[StreamResult]) -> Iterator[dict[str, Any]]:
    """Means over the seeds; rows and values are the same for all."""
    for told in zip(*(followed.segments for followed in found), strict=True):
        first = told[0]
        metrics = {name: mean(one.metrics[name] for one in told) for name in METRICS}
        yield {"rows": first.rows, "interactions": first.interactions, "values": first.values, **metrics}


def line(folder: Path, followed: StreamResult) -> list[dict[str, int]]:
    """Bytes of each segment's bundle, of one that is like the bundle before, and of the patch that leads to that (0 for
    the first). What is there is not made again."""
    alone, alike = ([folder / f"{told.run}{end}" for told in followed.segments] for end in (".whole", ".bundle"))
    for number, told in enumerate(followed.segments):
        wanted = {
            alone[number]: FORM,
            alike[number]: ExportRequest(like=alike[number - 1], verify=False) if number else FORM,
        }
        for bundle, options in wanted.items():
            if not (bundle / "manifest.json").exists():
                export_request(from_run(Run.load(folder / told.run)), bundle, options)
    patches = [0]
    for old, new in pairwise(alike):
        path = new.with_suffix(".patch")
        patches.append(path.stat().st_size if path.exists() else diff(old, new, path, verify=False).nbytes)
    sizes = ([sum(file.stat().st_size for file in bundle.iterdir()) for bundle in made] for made in (alone, alike))
    return [dict(zip(("bundle", "alike", "patch"), one, strict=True)) for one in zip(*sizes, patches, strict=True)]


def leads(rows: Sequence[dict[str, Any]], method: str = "scall", other: str = "uniform") -> list[dict[str, Any]]:
    """How far one method is ahead of another, by budget: of the means, and on how many seeds, by NDCG@20."""
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
    """The table, as the documentation shows it."""
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
    """NDCG@20 by segment, a line a method, as the documentation shows it."""
    return [
        [row["method"], *(f"{segment['ndcg@20']:.4f}" for segment in row["segments"])]
        for row in rows
        if row["budget"] == budget
    ]


@experiment("streams", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True)
@click.option(
    "--budgets", default="10%,8300", show_default=True, help="A share fixes the mean size, a count the total."
)
@click.option("--methods", default="uniform,popularity,static,scall", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--refit", type=click.Choice(REFITS), default="full", show_default=True)
@click.option("--segments", default=SEGMENTS, show_default=True, help="As of 'edgerec stream'.")
@click.option("--work", type=click.Path(path_type=Path), help="Where streams are kept; by default OUT.work.")
def main(data: str, budgets: str, methods: str, seeds: int, refit: str, segments: str, work: Path | None) -> Figures:
    """Follow and compare."""
    named = tuple(methods.split(","))
    if unknown := set(named) - set(STREAM_METHODS):
        raise click.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(STREAM_METHODS)}")
    question = Question(data, tuple(budgets.split(",")), named, seeds, refit, segments, work or next_to_out(".work"))
    rows = list(measured(question))
    print_table(f"{data}, segments {segments}", COLUMNS, cells(rows))
    return {
        "data_fingerprint": load_data(data).fingerprint(),
        "settings": question.request(question.budgets[0], named[0], 0).to_dict(),
        "rows": rows,
        "leads": leads(rows),
    }


if __name__ == "__main__":
    main()

"""Bundles in the bytes of the rows that papers publish, and their quality compared with those rows.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.papers --out result.json [--data ml-1m,gowalla,yelp2018]

CIESS and BET publish rows of 20, 10 and 5 % of tables of 128 dimensions in fp32, users counted, on random 50/25/25
splits. For each of these sizes in bytes, trainings of SVD, iALS and the item encoder are exported as whole bundles,
ids and graphs included, and compared on a part of the training data, as `edgerec fit` does. The best is trained on
train and validation data, as the papers do, and its answers are measured on the test part once, next to the best
published figure of any method and backbone in each metric, and to the rows that were reproduced here. Finished
trainings are stored next to --out, and an interrupted call continues.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, cached, experiment, next_to_out
from edgerec.cli.training import WORKERS
from edgerec.console import messages, print_table
from edgerec.data import Interactions, SplitSpec, load_data
from edgerec.data import split as split_interactions
from edgerec.fitting.fit import finish
from edgerec.fitting.recipes import CODED, Recipe
from edgerec.fitting.search import Search
from edgerec.fitting.splits import validation_split
from edgerec.fitting.study import Choice, Study
from edgerec.fitting.trial import Limits, Trials
from edgerec_bench.reproduce import BUDGETS, METRICS, PAPERS, SPLIT, published

DIMENSIONS = 128
"""Dimensions of the papers' full tables."""
DECIDES = "ndcg@20"
BACKBONES = "lightgcn", "ngcf", "ncf"
RECIPES = {
    "ml-1m": [("svd", 64), ("svd", 128), ("svd", 256), ("ials", 64), ("ials", 128), ("ials", 256)],
    "gowalla": [("svd", 256), ("svd", 512), ("ials", 256)],
    "yelp2018": [("svd", 256), ("svd", 512), ("ials", 256)],
}
"""Full tables by data set; of sparse data those whose rows in 2 to 8 bits fill the sizes."""
CODED_DIMENSIONS = {"ml-1m": (64, 128)}
"""Dimensions of the item encoder, where a training within each size takes minutes."""
COLUMNS = ("data", "share", "bytes", "bundle", *METRICS, "least over published", "least over reproduced")


@experiment("papers", needs_out=True)
@click.option("--data", default="ml-1m,gowalla,yelp2018", show_default=True, metavar="NAMES")
@click.option("--shares", default=",".join(BUDGETS), show_default=True, help="Shares of the papers' full tables.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--workers", metavar=WORKERS, help="Trainings at a time.")
def main(data: str, shares: str, seed: int, threads: int, workers: str | None) -> Figures:
    """Compare bundles with the published and the reproduced rows of their bytes."""
    folder, rows = next_to_out(".cells"), list[dict[str, Any]]()
    for name in data.split(","):
        interactions = load_data(name)
        key = {"data": interactions.fingerprint(), "shares": shares, "seed": seed}
        measure = partial(_measured, interactions, name, shares.split(","), seed, threads, workers, folder / name)
        rows += cached(folder / name / "rows.json", key, measure)["rows"]
        _print(rows)
    return {"split": f"{SPLIT}, seed {seed}", "rows": rows}


def _measured(
    interactions: Interactions,
    name: str,
    shares: Sequence[str],
    seed: int,
    threads: int,
    workers: str | None,
    folder: Path,
) -> Figures:
    """Return a row for each share: the chosen bundle, its test metrics, and the rows of papers."""
    spec = SplitSpec.parse(SPLIT, seed=seed)
    training = split_interactions(interactions, spec).train_all
    table = 4 * DIMENSIONS * (interactions.n_users + interactions.n_items)
    sizes = {share: int(table * float(share.rstrip("%")) / 100) for share in shares}

    def search(place: Path, max_bytes: int | None, recipes: list[Recipe]) -> Search:
        limits = Limits(max_bytes, None, None, None, "raw", titles=False)
        trials = Trials(training, validation_split(spec, training), limits, threads, sample_users=None, one_file=True)
        command = {"data_fingerprint": interactions.fingerprint(), "split": spec.to_dict(), "sizes": [*sizes.values()]}
        place.mkdir(parents=True, exist_ok=True)
        found = Search(
            trials,
            place,
            Study.opened(place, command, DECIDES),
            workers=workers,
            recipes=recipes,
            progress=lambda state: messages.print(f"  {state.finished.recipe.name}") if state.finished else None,
        )
        found.run([max_bytes] if max_bytes else list(sizes.values()), trials=None)
        return found

    full = search(folder / "full", None, [Recipe(backbone, d) for backbone, d in RECIPES[name]])
    rows = []
    for share, size in sizes.items():
        dimensions, searches = CODED_DIMENSIONS.get(name, ()), [full]
        if dimensions:
            coded = [
                Recipe(CODED, d, "popularity", within=True, precision=p) for d in dimensions for p in ("int4", "int8")
            ]
            searches.append(search(folder / share.rstrip("%"), size, coded))
        chosen, best = max(((one, _best(one, size)) for one in searches), key=lambda pair: pair[1].score)
        messages.print(f"{name} {share}: {chosen.study.trials[best.trial].recipe.name}, {best.bundle.variant.name}")
        finish(chosen, best, interactions, spec, folder / f"{share.rstrip('%')}.edgerec", None, overwrite=True)
        rows.append(_row(name, share, size, chosen.study, best))
    return {"rows": rows}


def _best(search: Search, size: int) -> Choice:
    best = search.study.best(max_bytes=size, max_ms=None)
    if best is None:
        raise click.ClickException(f"no bundle fits {size} bytes: {'; '.join(search.study.failures)}")
    return best


def _row(name: str, share: str, size: int, study: Study, best: Choice) -> dict[str, Any]:
    final = study.final or {}
    ours = {metric: final["test"][metric] for metric in METRICS}
    found = {"published": dict(_published(name, share)), "reproduced": dict(_reproduced(name, share))}
    return {
        "data": name,
        "share": share,
        "limit": size,
        "bytes": final["nbytes"],
        "training": study.trials[best.trial].recipe.name,
        "export": best.bundle.variant.name,
        "validation": best.score,
        **ours,
        "coverage@20": final["test"]["coverage@20"],
        **found,
        **{
            f"least_over_{kind}": min((ours[metric] / value for metric, (value, _) in best_of.items()), default=None)
            for kind, best_of in found.items()
        },
    }


def _published(name: str, share: str) -> Iterator[tuple[str, tuple[float, str]]]:
    """Yield the best published figure of each metric, of any paper, method and backbone, and whose it is."""
    found = [
        (figures, f"{method}, {backbone}")
        for paper in PAPERS
        for backbone in BACKBONES
        for (density, method), figures in published(paper, name, backbone).items()
        if density == share
    ]
    for metric in METRICS:
        yield metric, max((figures[metric], whose) for figures, whose in found)


def _reproduced(name: str, share: str) -> Iterator[tuple[str, tuple[float, str]]]:
    """Yield the best of the figures that `edgerec reproduce` measured with LightGCN, before rows were truncated."""
    found = [
        row
        for path in sorted((Path(__file__).parents[1] / "results").glob(f"reproduce-*-{name}.json"))
        for row in json.loads(path.read_text())["rows"]
        if row["budget"] == share
    ]
    for metric in METRICS if found else ():
        yield metric, max(((row["uncut"] or row)[metric]["mean"], f"{row['method']}, lightgcn") for row in found)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    print_table("", COLUMNS, [cells(row) for row in rows])


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as cells of the table."""
    least = [row["least_over_published"], row["least_over_reproduced"]]
    return [
        row["data"],
        row["share"],
        f"{row['bytes']:,}",
        f"{row['training']}, {row['export']}",
        *(f"{row[metric]:.4f}" for metric in METRICS),
        *("-" if one is None else f"{one:.3f}" for one in least),
    ]


if __name__ == "__main__":
    main()

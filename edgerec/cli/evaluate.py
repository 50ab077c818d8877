"""edgerec evaluate: the recommendation quality of runs, and of the answers of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.api import evaluate
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, data_options, load, rarity_option, seed_option
from edgerec.cli.output import json_option, print_json
from edgerec.cli.quality import better_without_users
from edgerec.console import print_table, tell
from edgerec.data import MARGIN, Sample
from edgerec.errors import RequestError
from edgerec.measure import load_subject
from edgerec.training import Run

SHOWN = ("ndcg@20", "recall@20", "coverage@20", "popularity@20")


@click.command(cls=Command)
@argument(
    "subjects",
    metavar="RUN|BUNDLE...",
    type=FOLDER,
    nargs=-1,
    required=True,
    help="Folders of runs and bundles; several are listed together.",
)
@option(
    "--data",
    default="ml-100k",
    metavar="DATA",
    help="Interactions that they were trained on: a name, or files or a folder; give the same data options as in "
    "training.",
)
@option(
    "--id-map",
    type=FILE,
    help="File that 'edgerec export --ids none --id-map' wrote, with the id of every row of a bundle without ids.",
)
@option(
    "--sample-users",
    type=click.IntRange(2),
    metavar="N",
    show_default="all",
    help="Measure a sample of N test users, with 95 % confidence intervals of recall and NDCG.",
)
@rarity_option
@seed_option
@data_options
@json_option
def command(
    subjects: tuple[Path, ...],
    data: str,
    id_map: Path | None,
    sample_users: int | None,
    rarity: float,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the recommendation quality of runs and bundles on test data.

    \b
    Example:
      edgerec evaluate dense.bundle films.bundle --data ml-100k

    Test data are the interactions that training held back for testing. All items are ranked, except those that the
    user had in training. A bundle is measured by its own answers, so that quantization counts. The table shows
    NDCG@20, recall@20, coverage@20 (the share of items that are recommended to anyone) and popularity@20 (the mean
    number of training interactions of recommended items); --json prints all metrics.

    A --rarity is that of a bundle's answers; compare a few, and choose how much NDCG more coverage may cost.

    With --sample-users, recall and NDCG are means over a uniform sample of the test users, with half the width of a
    95 % confidence interval: 1.96 standard errors of the mean over users. coverage@20 is that of the sample, and so
    smaller than that of all users.
    """
    interactions = load(data, options)
    sample = None if sample_users is None else Sample(sample_users, seed)
    results: list[dict[str, Any]] = []
    opened = [load_subject(subject) for subject in subjects]
    without = [not isinstance(one, Run) and one.manifest.items.ids == "none" for one in opened]
    if id_map is not None and sum(without) != 1:
        raise RequestError(
            f"--id-map is of one bundle without ids, and {sum(without)} of the subjects are; measure each by itself"
        )
    for subject, one, needs_map in zip(subjects, opened, without, strict=True):
        size = one.nbytes if isinstance(one, Run) else one.manifest.nbytes
        metrics = evaluate(one, interactions, id_map=id_map if needs_map else None, sample=sample, rarity=rarity)
        about = one.metrics if isinstance(one, Run) else one.manifest.about.get("metrics", {})
        if (isinstance(one, Run) or one.n_users) and (sentence := better_without_users(about, what=str(subject))):
            tell(sentence)
        results.append({"subject": str(subject), "bytes": size, **with_intervals(metrics, sample_users)})
    if as_json:
        print_json(results)
        return
    rows = [[r["subject"], f"{r['bytes']:,}", *(_shown(r, name) for name in SHOWN)] for r in results]
    print_table("", ["", "bytes", *SHOWN], rows)


def with_intervals(metrics: dict[str, float], sampled: int | None) -> dict[str, Any]:
    """Return metrics with the limits of their confidence intervals instead of margins, and the size of the sample."""
    if sampled is None:
        return dict(metrics)
    margins = {name.removesuffix(MARGIN): value for name, value in metrics.items() if name.endswith(MARGIN)}
    found: dict[str, Any] = {name: value for name, value in metrics.items() if not name.endswith(MARGIN)}
    intervals = {name: [found[name] - margin, found[name] + margin] for name, margin in margins.items()}
    return {**found, "sampled_users": sampled, "interval": intervals}


def _shown(result: dict[str, Any], name: str) -> str | float:
    """Return a metric as a cell, with half the width of its interval if it has one."""
    interval = result.get("interval", {}).get(name)
    value: float = result[name]
    return value if interval is None else f"{value:.4f} ± {interval[1] - value:.4f}"

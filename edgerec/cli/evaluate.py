"""edgerec evaluate: the recommendation quality of runs, and of the answers of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.api import evaluate
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, data_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
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
@data_options
@json_option
def command(subjects: tuple[Path, ...], data: str, id_map: Path | None, as_json: bool, **options: Any) -> None:
    """Measure the recommendation quality of runs and bundles on test data.

    \b
    Example:
      edgerec evaluate dense.bundle films.bundle --data ml-100k

    Test data are the interactions that training held back for testing. All items are ranked, except those that the
    user had in training. A bundle is measured by its own answers, so that quantization counts. The table shows
    NDCG@20, recall@20, coverage@20 (the share of items that are recommended to anyone) and popularity@20 (the mean
    number of training interactions of recommended items); --json prints all metrics.
    """
    interactions = load(data, options)
    results: list[dict[str, Any]] = []
    opened = [load_subject(subject) for subject in subjects]
    without = [not isinstance(one, Run) and one.manifest.items.ids == "none" for one in opened]
    if id_map is not None and sum(without) != 1:
        raise RequestError(
            f"--id-map is of one bundle without ids, and {sum(without)} of the subjects are; measure each by itself"
        )
    for subject, one, needs_map in zip(subjects, opened, without, strict=True):
        size = one.nbytes if isinstance(one, Run) else one.manifest.nbytes
        metrics = evaluate(one, interactions, id_map=id_map if needs_map else None)
        results.append({"subject": str(subject), "bytes": size, **metrics})
    if as_json:
        print_json(results)
        return
    rows = [[r["subject"], f"{r['bytes']:,}", *(r[name] for name in SHOWN)] for r in results]
    print_table("", ["", "bytes", *SHOWN], rows)

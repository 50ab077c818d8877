"""edgerec evaluate: the recommendation quality of runs, and of the answers of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.api import evaluate
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FOLDER, data_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
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
@data_options
@json_option
def command(subjects: tuple[Path, ...], data: str, as_json: bool, **options: Any) -> None:
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
    for subject in subjects:
        opened = load_subject(subject)
        size = opened.nbytes if isinstance(opened, Run) else opened.manifest.nbytes
        results.append({"subject": str(subject), "bytes": size, **evaluate(opened, interactions)})
    if as_json:
        print_json(results)
        return
    rows = [[r["subject"], f"{r['bytes']:,}", *(r[name] for name in SHOWN)] for r in results]
    print_table("", ["", "bytes", *SHOWN], rows)

"""edgerec evaluate: the quality of a run, or of what a bundle really answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.api import evaluate
from edgerec.cli.options import FOLDER, filter_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec.measure import load_subject
from edgerec.training import Run

SHOWN = ("ndcg@20", "recall@20", "coverage@20", "popularity@20")


@click.command()
@click.argument("subjects", metavar="RUN|BUNDLE...", type=FOLDER, nargs=-1, required=True)
@click.option("--data", default="ml-100k", show_default=True, help="The data that they were trained on.")
@filter_options
@json_option
def command(
    subjects: tuple[Path, ...], data: str, min_user: int, min_item: int, encoding: str | None, as_json: bool
) -> None:
    """Measure runs and bundles on the test part of their split, side by side.

    Full ranking over all items; what a user has seen is masked. A bundle is measured by its own answers,
    quantisation and all.

    \b
    Example:
      edgerec evaluate dense.bundle films.bundle --data ml-100k
    """
    interactions = load(data, min_user, min_item, encoding)
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

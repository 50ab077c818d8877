"""edgerec train: tables under a budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edgerec.api import train_request
from edgerec.budget import format_bytes
from edgerec.cli.cut import cut_of, cut_text
from edgerec.cli.made import made_of, made_text
from edgerec.cli.options import FOLDER, data_path, filter_options, load, tell_of_nothing_to_resume
from edgerec.cli.output import json_option, print_json
from edgerec.cli.training import train_kwargs, training_options, workers_of
from edgerec.console import messages, print_facts, resumable
from edgerec.methods.sparse.pep import OF_BUDGET
from edgerec.outputs import Output, always, check_outputs
from edgerec.request import TrainRequest
from edgerec.training import Progress as ProgressCallback
from edgerec.training import Run, Step

PHASES = {
    "choose": ("choosing", "epochs"),
    "final": ("training", "epochs"),
    "prune": ("pruning", "tries"),
    "full": ("training in full size", "epochs"),
    "search": ("searching", "actions"),
    "mask": ("searching the mask", "epochs"),
}
"""What a step is called and counted in, by its phase."""


@click.command()
@click.argument("data", default="ml-100k")
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder for the run; checkpoints go there each epoch. One training at a time.",
)
@training_options
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one, to the same result.")
@click.option("--overwrite", is_flag=True, help="Start anew where the folder holds a run.")
@filter_options
@json_option
def command(data: str, out: Path, resume: bool, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Train a recommender on DATA (a name, or a file or folder; else ml-100k) under a budget.

    Epochs and settings are chosen on a held-back part of the training data. Ctrl-C leaves a run that --resume
    continues.

    \b
    Example:
      edgerec train ml-100k --backbone ials --method popularity --budget 10% --out runs/films
      edgerec train ratings.csv --backbone svd --budget 256KiB --precision int8 --out runs/mine
    """
    request = TrainRequest.make(**train_kwargs(given))
    workers = workers_of(given)
    outputs = [Output(out, ours=always, folder=True)]
    if (search := getattr(request.method_config, "search", None)) is not None:
        outputs.append(Output(Path(search), "--method-set search", folder=True, shared=True))
    check_outputs(outputs, [data_path(data)])
    if resume:
        tell_of_nothing_to_resume(out)
    interactions = load(data, given["min_user"], given["min_item"], given["encoding"])
    with resumable(f"go on with the same command and --resume ({out})"), _progress_bar() as progress:
        run = train_request(
            interactions,
            request,
            out=out,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            workers=workers,
        )
    _show(run, out, as_json)


@contextmanager
def _progress_bar() -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("starting", total=None, unit="epochs", values="")

        def show(step: Step) -> None:
            what, unit = PHASES[step.phase]
            _tell_of_mask(step)
            which = f" {step.candidate}/{step.candidates}" if step.phase == "choose" and step.candidates > 1 else ""
            values = "  ".join(f"{name} {value:.4g}" for name, value in step.values.items())
            bar.update(
                task,
                description=what + which,
                completed=step.epoch,
                total=step.max_epochs,
                unit=unit,
                values=values,
            )

        yield show


def _tell_of_mask(step: Step) -> None:
    """Where the search of a mask has ended above its budget."""
    if step.phase == "mask" and step.epoch == step.max_epochs and (left := step.values[OF_BUDGET]) > 1:
        messages.print(
            f"pep's search ended with {left:.3g} times the budget's values, and keeps those that are furthest above "
            "their thresholds; for a mask that is learnt give --method-set threshold=..., nearer to 0, or more "
            "--method-set search_epochs=...",
            markup=False,
        )


def _show(run: Run, out: Path, as_json: bool) -> None:
    test = run.metrics["test"]
    facts: dict[str, Any] = {
        "run": str(out),
        "backbone": run.config["backbone"],
        "method": run.config["method"],
        "budget": run.config["budget"],
        "epochs": run.config["epochs"],
        "settings": run.config["chosen_settings"],
        "method settings": run.method_settings,
        "table bytes": run.nbytes,
        **{name: round(test[name], 6) for name in ("ndcg@20", "recall@20", "coverage@20", "popularity@20")},
    }
    if (weights := run.metrics.get("training", {}).get("weights")) is not None:
        facts["weights beside the tables"] = int(weights)
    cut = cut_of(run)
    if as_json:
        print_json({**facts, "cut": cut, "users from histories": made_of(run), "metrics": run.metrics})
        return
    if (made := made_of(run)) is not None:
        facts["users from histories"] = made_text(made)
    if cut is not None:
        facts["cut after training"] = cut_text(cut)
    for name in ("settings", "method settings"):
        facts[name] = ", ".join(f"{setting}={value}" for setting, value in facts[name].items())
    facts["table bytes"] = f"{run.nbytes:,} ({format_bytes(run.nbytes)})"
    print_facts("", facts)

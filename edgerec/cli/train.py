"""edgerec train: trains a recommender, within a size budget or as a full table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgerec.api import train_request
from edgerec.budget import format_bytes
from edgerec.cli.help import Command, option
from edgerec.cli.options import FOLDER, data_argument, data_inputs, data_options, load, warn_if_nothing_to_resume
from edgerec.cli.output import json_option, print_json
from edgerec.cli.quality import encoder_quality, encoder_text, truncation, truncation_text
from edgerec.cli.training import train_kwargs, training_options, workers_of
from edgerec.console import messages, print_facts, progress_bar, resumable, text_column
from edgerec.data import MARGIN, Interactions
from edgerec.methods.sparse.pep import OF_BUDGET
from edgerec.outputs import Output, always, check_outputs
from edgerec.ranks import Ranks
from edgerec.request import TrainRequest
from edgerec.training import Run, Step
from edgerec.training.ranks.gloo import is_rank, joined, threads_of_rank
from edgerec.training.ranks.launch import launch, reported

SHOWN = ("ndcg@20", "recall@20", "coverage@20", "popularity@20")
PHASES = {
    "settings": ("trying settings", "trials"),
    "choose": ("choosing", "epochs"),
    "final": ("training", "epochs"),
    "prune": ("pruning", "trials"),
    "full": ("training in full size", "epochs"),
    "search": ("searching", "actions"),
    "mask": ("searching the mask", "epochs"),
}
"""The name and the unit of a step, by its phase."""


@click.command(cls=Command)
@data_argument
@option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder to write the run to; a checkpoint is written there after every epoch.",
)
@training_options
@option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    show_default="this one",
    help="Train svd, ials, lae, lightgcn or mf in N processes of this machine, each with a part of the users; "
    "'torchrun ... -m edgerec train' does so on several machines.",
)
@option("--resume", is_flag=True, help="Continue from the last checkpoint in the folder, to the same result.")
@option(
    "--overwrite", is_flag=True, help="If the folder contains a run, replace it by one that is trained from scratch."
)
@data_options
@json_option
def command(
    data: str, out: Path, processes: int | None, resume: bool, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Train a recommender, within a size budget if one is given, and write it as a run.

    \b
    Example:
      edgerec train ml-100k --budget 10% --out runs/films

    The recommender is a table of user vectors and one of item vectors; a row is one vector. The budget limits the
    tables: to a share of their full size, with all --dimensions in fp32 (10%), to bytes of the whole bundle (512KiB),
    to bytes per row (8B/row) or to a parameter count (250000). Units may be in upper or lower case; KiB, MiB and GiB
    are powers of 1024, KB, MB and GB powers of 1000. The backbone is the model that is trained; the method decides how
    many values each row gets. The number of epochs, and settings of the backbone without a value, are chosen on
    validation data. At the end the size of the tables and the quality on test data are printed. After Ctrl-C, the same
    command with --resume continues.

    \b
    More examples:
      edgerec train orders.csv --out runs/full
      edgerec train ml-100k --backbone lightgcn --method uniform --budget 8B/row --out runs/graph
      edgerec train ratings.csv --backbone svd --budget 256KiB --precision int8 --out runs/mine
    """
    request = TrainRequest.make(**train_kwargs(options))
    workers = workers_of(options)
    outputs = [Output(out, ours=always, folder=True)]
    if (search := getattr(request.method_config, "search", None)) is not None:
        outputs.append(Output(Path(search), "--method-set search", folder=True, shared=True))
    check_outputs(outputs, data_inputs(data, options))
    how_to_resume = f"continue with the same command and --resume ({out})"
    if processes is not None and processes > 1 and not is_rank():
        with resumable(how_to_resume):
            launch(click.get_current_context().obj, processes)
        return
    with reported(), joined() as ranks:
        messages.quiet = ranks.rank > 0
        if resume and not ranks.rank:
            warn_if_nothing_to_resume(out)
        interactions = _loaded_on(ranks, data, options)
        if ranks.count > 1 and options["threads"] is None:
            request = replace(request, options=replace(request.options, threads=threads_of_rank()))
        bar = step_bar() if ranks.rank == 0 else nullcontext()
        with resumable(how_to_resume) if ranks.count == 1 else nullcontext(), bar as progress:
            run = train_request(
                interactions,
                request,
                ranks=ranks,
                out=out,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
                workers=workers,
            )
    if ranks.rank == 0:
        _show(run, out, as_json)


def _loaded_on(ranks: Ranks, data: str, options: dict[str, Any]) -> Interactions:
    """Load the data on rank 0 first, which may have to download them."""
    if ranks.rank:
        ranks.wait()
    interactions = load(data, options)
    if not ranks.rank:
        ranks.wait()
    return interactions


@contextmanager
def step_bar() -> Iterator[Callable[..., None]]:
    """Show a bar on standard error while the block runs; yields a function of a step and a prefix that updates it."""
    counts = text_column("{task.completed}/{task.total} {task.fields[unit]}"), text_column("{task.fields[values]}")
    with progress_bar("starting", counts=counts, unit="epochs", values="") as update:

        def show(step: Step, prefix: str = "") -> None:
            name, unit = PHASES[step.phase]
            _warn_of_mask(step)
            candidate = f" {step.candidate}/{step.candidates}" if step.phase == "choose" and step.candidates > 1 else ""
            update(
                description=prefix + name + candidate,
                completed=step.epoch,
                total=step.max_epochs,
                unit=unit,
                values="  ".join(f"{name} {value:.4g}" for name, value in step.values.items()),
            )

        yield show


def _warn_of_mask(step: Step) -> None:
    """Print a warning if the search of a mask ended above its budget."""
    if step.phase == "mask" and step.epoch == step.max_epochs and (left := step.values[OF_BUDGET]) > 1:
        messages.print(
            f"pep's search ended with {left:.3g} times the values of the budget; those furthest above their thresholds "
            "are used. For a mask that is learned entirely, give --method-set threshold=... nearer to 0, or more "
            "--method-set search_epochs=...",
            markup=False,
        )


def _show(run: Run, out: Path, as_json: bool) -> None:
    test = run.metrics.get("test", {})
    facts: dict[str, Any] = {
        "run": str(out),
        "backbone": run.config["backbone"],
        "method": run.config["method"],
        "budget": run.config["budget"],
        "epochs": run.config["epochs"],
        "settings": run.config["chosen_settings"],
        "method settings": run.method_settings,
        "table bytes": run.nbytes,
        **{name: round(test[name], 6) for name in SHOWN if name in test},
    }
    if (weights := run.metrics.get("training", {}).get("weights")) is not None:
        facts["weights besides the tables"] = int(weights)
    truncated, users = truncation(run), encoder_quality(run)
    if as_json:
        print_json({**facts, "truncation": truncated, "users from histories": users, "metrics": run.metrics})
        return
    if users is not None:
        facts["users from histories"] = encoder_text(users)
    if truncated is not None:
        facts["truncated after training"] = truncation_text(truncated)
    for name in ("settings", "method settings"):
        facts[name] = ", ".join(f"{setting}={value}" for setting, value in facts[name].items() if value is not None)
    facts["table bytes"] = f"{run.nbytes:,} ({format_bytes(run.nbytes)})"
    # Of a sample of users: half the width of a 95 % confidence interval.
    facts |= {name: f"{test[name]:.4f} ± {test[name + MARGIN]:.4f}" for name in SHOWN if name + MARGIN in test}
    print_facts("", facts)

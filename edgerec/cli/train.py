"""edgerec train: tables under a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edgerec.api import TrainRequest, train
from edgerec.budget import format_bytes
from edgerec.cli.cut import cut_of, cut_text
from edgerec.cli.made import made_of, made_text
from edgerec.cli.options import FOLDER, filter_options, load, settings_of, settings_options
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_facts
from edgerec.errors import RequestError, SettingError
from edgerec.methods import METHODS, methods_with
from edgerec.methods import method as find_method
from edgerec.methods.search.workers import parse_workers
from edgerec.models import BACKBONES
from edgerec.models import backbone as find_backbone
from edgerec.training import FitOptions, Run, Step
from edgerec.training import Progress as ProgressCallback

PHASES = {
    "choose": ("choosing", "epochs"),
    "final": ("training", "epochs"),
    "prune": ("pruning", "tries"),
    "full": ("training in full size", "epochs"),
    "search": ("searching", "actions"),
}
"""What a step is called and counted in, by its phase."""


@click.command()
@click.argument("data", default="ml-100k")
@click.option("--out", type=FOLDER, required=True, help="Folder for the run; checkpoints go there each epoch.")
@click.option("--backbone", type=click.Choice(BACKBONES), default="ials", show_default=True, help="How to score.")
@click.option(
    "--method", type=click.Choice(METHODS), default="popularity", show_default=True, help="How to keep the budget."
)
@click.option("--budget", help="10% of the dense fp32 tables, 512KiB of bundle, 8B/row, or a parameter count.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option(
    "--split",
    default="random:80/20",
    show_default=True,
    help="random:80/20, random:50/25/25, random:50+25/25, leave-last-out or time:80/20.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random choice.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="That the bundle will have; decides how many values a budget in bytes buys.",
)
@click.option("--threads", type=click.IntRange(1), help="At most so many; one is reproducible to the bit.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda, for backbones on torch.")
@click.option("--epochs", type=click.IntRange(1), help="At most so many.")
@click.option("--patience", type=click.IntRange(1), help="Epochs without a better NDCG@20 before it stops.")
@click.option(
    "--mask-at",
    type=click.Choice(["output", "ego"]),
    help="Where sizes cut lightgcn and ngcf in training: output, what ships (the default), or ego, the rows before "
    "propagation.",
)
@click.option("--oracle", help="What judges sizes in a search: backbone, or ials, which is far quicker.")
@click.option("--protocol", help="Of a search: paper or code, where they differ; bet has its own too.")
@click.option(
    "--workers", help="Who judges sizes in a search: so many processes, or a Ray cluster: ray, ray://HOST:PORT."
)
@click.option("--mask-init", help="Of sparserec: where values stand at first: nmf or random.")
@click.option("--grow", help="Of sparserec: which values grow, by gradients: accumulated, last-batch, or at random.")
@click.option("--backward", help="Of sparserec: gradients of sampled rows, or of all: dense.")
@settings_options
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, to the same result.")
@click.option("--overwrite", is_flag=True, help="Start anew where the folder holds a run.")
@filter_options
@json_option
def command(
    data: str,
    out: Path,
    backbone: str,
    method: str,
    budget: str | None,
    dimensions: int,
    split: str,
    seed: int,
    precision: str,
    threads: int | None,
    device: str,
    epochs: int | None,
    patience: int | None,
    mask_at: str | None,
    oracle: str | None,
    protocol: str | None,
    workers: str | None,
    mask_init: str | None,
    grow: str | None,
    backward: str | None,
    settings: tuple[str, ...],
    method_settings: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    min_user: int,
    min_item: int,
    as_json: bool,
) -> None:
    """Train a recommender on DATA (a name, or a file or folder) under a budget.

    Epochs and settings are chosen on a held-back part of the training data. Ctrl-C leaves a run that --resume
    continues.

    \b
    Example:
      edgerec train ml-100k --backbone ials --method popularity --budget 10% --out runs/films
      edgerec train ratings.csv --backbone svd --budget 256KiB --precision int8 --out runs/mine
    """
    flags = {"oracle": oracle, "protocol": protocol, "mask_init": mask_init, "grow": grow, "backward": backward}
    request = TrainRequest.make(
        backbone,
        method,
        budget=budget,
        dimensions=dimensions,
        split=split,
        precision=precision,
        settings=_backbone_settings(backbone, settings, mask_at),
        method_settings=_method_settings(method, backbone, method_settings, flags),
        options=FitOptions(seed, threads, device, epochs, patience),
    )
    interactions = load(data, min_user, min_item)
    try:
        with _progress_bar() as progress:
            run = train(
                interactions,
                request,
                out=out,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
                workers=None if workers is None else parse_workers(workers),
            )
    except KeyboardInterrupt:
        messages.print(f"interrupted; go on with the same command and --resume ({out})", markup=False)
        raise
    _show(run, out, as_json)


def _backbone_settings(backbone: str, pairs: Sequence[str], mask_at: str | None) -> dict[str, Any]:
    """What --set and --mask-at give. Raises RequestError, SettingError."""
    settings = settings_of(pairs)
    if mask_at is None:
        return settings
    if "mask_at" in settings:
        raise RequestError("--mask-at and --set mask_at=... are the same setting; give one of them")
    if "mask_at" not in {setting.name for setting in fields(find_backbone(backbone).config)}:
        raise SettingError(
            f"--mask-at is for backbones that propagate, such as lightgcn, not for {backbone}; leave it out"
        )
    return {**settings, "mask_at": mask_at}


def _method_settings(
    method: str, backbone: str, pairs: Sequence[str], flags: Mapping[str, str | None]
) -> dict[str, Any]:
    """What --method-set and the flags of single settings give. Raises RequestError, SettingError."""
    settings = settings_of(pairs)
    for name, value in flags.items():
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if name in settings:
            raise RequestError(f"{flag} and --method-set {name}=... are the same setting; give one of them")
        if name not in {setting.name for setting in fields(find_method(method, backbone).config)}:
            takers = ", ".join(methods_with(name))
            raise SettingError(f"{flag} is for the methods {takers}, not for {method}; leave it out")
        settings[name] = value
    return settings


@contextmanager
def _progress_bar() -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("starting", total=None, unit="epochs", values="")

        def show(step: Step) -> None:
            what, unit = PHASES[step.phase]
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

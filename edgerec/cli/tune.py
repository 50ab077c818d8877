"""edgerec tune: searches for settings on validation data, and prints the command that trains with them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import Command, option
from edgerec.cli.options import FILE, data_argument, data_inputs, data_options, load
from edgerec.cli.output import json_option, print_json, say
from edgerec.cli.training import train_kwargs, training_options, workers_of
from edgerec.console import print_table, progress_bar, resumable
from edgerec.outputs import Output, check_outputs, json_of
from edgerec.tune import FORMAT, Study, Trial, part_of, tune

SHOWN = 10
"""Number of trials in the table."""


@click.command(cls=Command)
@data_argument
@option(
    "--trials",
    type=click.IntRange(1),
    default=30,
    help="Number of trials, those of an earlier call included; the first one has the default settings.",
)
@option(
    "--out",
    type=FILE,
    default="study.json",
    help="File to write the trials to, after each one; an existing study of the same options is continued.",
)
@option(
    "--no-users",
    is_flag=True,
    help="Score users that are computed from their histories, as in a bundle without a user table.",
)
@training_options
@data_options
@json_option
def command(data: str, trials: int, out: Path, no_users: bool, as_json: bool, **options: Any) -> None:
    """Search for the settings that train best, on validation data.

    \b
    Example:
      edgerec tune ml-100k --backbone ials --budget 10% --trials 30 --out study.json

    Each trial trains with other settings of the backbone and of the method, and is measured by NDCG@20 on validation
    data; test data are never used. A setting that is given with --set or --method-set stays fixed. A trial that falls
    behind the median of earlier ones is stopped. At the end the 'edgerec train' command with the best settings is
    printed. If the command is interrupted, give it again; for more trials, give it again with a larger --trials.
    """
    check_outputs([Output(out, ours=json_of(FORMAT))], data_inputs(data, options), overwrite=None)
    kwargs, workers = train_kwargs(options), workers_of(options)
    interactions = load(data, options)
    with resumable(f"the same command resumes ({out})"), _progress_bar(trials) as progress:
        how = {"workers": workers, "users": not no_users, **kwargs}
        study = tune(interactions, trials=trials, out=out, progress=progress, **how)
    _show(study, _train_command(click.get_current_context(), data, study.best), as_json)


@contextmanager
def _progress_bar(trials: int) -> Iterator[Callable[[Study], None]]:
    with progress_bar("trying the defaults", trials) as update:

        def show(study: Study) -> None:
            scores = [trial.score for trial in study.trials if trial.score is not None]
            pruned = f", {study.pruned} pruned" if study.pruned else ""
            update(description=f"best {max(scores, default=0):.4f}{pruned}", completed=len(study.trials))

        yield show


def _train_command(ctx: click.Context, data: str, best: Trial) -> str:
    """Return the `edgerec train` command with the given options, the fixed settings and those of the best trial."""
    words = ["edgerec", "train", data]
    for parameter in ctx.command.params:
        value = ctx.params[parameter.name or ""]
        if parameter.name in ("data", "trials", "out", "no_users", "as_json", "settings", "method_settings"):
            continue
        if value not in (None, parameter.default):
            words += [parameter.opts[0], str(value)]
    for flag, part in (("--set", "settings"), ("--method-set", "method_settings")):
        words += [word for pair in ctx.params[part] for word in (flag, pair)]
        words += [word for pair in _pairs(part_of(part, best.values)) for word in (flag, pair)]
    return shlex.join([*words, "--out", "runs/tuned"])


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value is not None]


def _show(study: Study, train_command: str, as_json: bool) -> None:
    if as_json:
        trials = [vars(trial) for trial in study.trials]
        print_json({"best": vars(study.best), "command": train_command, "pruned": study.pruned, "trials": trials})
        return
    scored = [(number, trial) for number, trial in enumerate(study.trials, 1) if trial.score is not None]
    scored.sort(key=lambda pair: -(pair[1].score or 0))
    names = {name: name.partition(".")[2] for name in study.best.values}
    rows = [[number, trial.score, trial.epochs, *map(str, trial.values.values())] for number, trial in scored[:SHOWN]]
    print_table("", ["trial", "validation ndcg@20", "epochs", *names.values()], rows)
    if study.pruned:
        say(f"{study.pruned} of {len(study.trials)} trials were pruned: below the median at the same epoch")
    say(train_command)

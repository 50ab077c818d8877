"""edgerec tune: settings found on validation, as the command line that trains with them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgerec.cli.options import PathType, data_path, filter_options, load
from edgerec.cli.output import json_option, print_json, say
from edgerec.cli.training import train_kwargs, training_options, workers_of
from edgerec.console import messages, print_table, resumable
from edgerec.outputs import Output, check_outputs, json_of
from edgerec.tune import FORMAT, Study, Trial, part_of, tune

FILE = PathType(dir_okay=False)
SHOWN = 10


@click.command()
@click.argument("data", default="ml-100k")
@click.option(
    "--trials", type=click.IntRange(1), default=30, show_default=True, help="In all; the first is the default."
)
@click.option("--out", type=FILE, default="study.json", show_default=True, help="Holds the study after each trial.")
@training_options
@filter_options
@json_option
def command(data: str, trials: int, out: Path, as_json: bool, **given: Any) -> None:
    """Find settings on DATA (a name, or a file or folder; else ml-100k) by NDCG@20 on validation.

    They are the backbone's and the method's. One that is given is fixed. The test part is never looked at. Trials that
    fall behind the median of those before are pruned. The same command goes on where it was stopped, or adds trials
    where --trials is more than there are. The best settings are printed as the command line that trains with them.

    \b
    Example:
      edgerec tune ml-100k --backbone ials --method popularity --budget 10% --trials 30 --out study.json
    """
    check_outputs([Output(out, ours=json_of(FORMAT))], [data_path(data)], overwrite=None)
    wanted, workers = train_kwargs(given), workers_of(given)
    interactions = load(data, given["min_user"], given["min_item"], given["encoding"])
    with resumable(f"the same command goes on ({out})"), _progress_bar(trials) as progress:
        study = tune(interactions, trials=trials, out=out, progress=progress, workers=workers, **wanted)
    _show(study, _train_command(click.get_current_context(), data, study.best), as_json)


@contextmanager
def _progress_bar(trials: int) -> Iterator[Callable[[Study], None]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("trying the defaults", total=trials)

        def show(study: Study) -> None:
            scores = [trial.score for trial in study.trials if trial.score is not None]
            pruned = f", {study.pruned} pruned" if study.pruned else ""
            bar.update(task, description=f"best {max(scores, default=0):.4f}{pruned}", completed=len(study.trials))

        yield show


def _train_command(ctx: click.Context, data: str, best: Trial) -> str:
    """`edgerec train` with the options that were given here, the fixed settings and the best trial's."""
    words = ["edgerec", "train", data]
    for option in ctx.command.params:
        value = ctx.params[option.name or ""]
        if option.name in ("data", "trials", "out", "as_json", "settings", "method_settings"):
            continue
        if option.name in ("backbone", "method") or value not in (None, option.default):
            words += [option.opts[0], str(value)]
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

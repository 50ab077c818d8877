"""edgerec fit: finds the best bundle within a size, and writes it with a page of what was tried."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes, parse_bytes
from edgerec.cli.diff import show_patch
from edgerec.cli.help import Choice, Command, argument, option
from edgerec.cli.options import (
    FILE,
    FOLDER,
    READING,
    FiniteRange,
    data_inputs,
    data_options,
    load,
    overwrite_option,
    seed_option,
)
from edgerec.cli.output import json_option, print_json, print_text, say
from edgerec.cli.own_tables import attribute_names, attributes_option, read_item_attributes
from edgerec.cli.train import PHASES, step_bar
from edgerec.cli.training import WORKERS, parsed_workers
from edgerec.console import print_facts, progress_bar, resumable, tell, text_column
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.outputs import Output, page
from edgerec.runtime.bundle import Bundle
from edgerec_bench.command import is_default, typed

METRIC = "ndcg@20"
FEW = 3
"""Number of trainings below which a search was short."""
QUICK: dict[str, Any] = {"processes": 1, "calls": 50, "seconds": 0.2, "scenarios": ("recommend",)}
"""The measurement of a bundle on a device."""
NEXT = "Next week (newer data, instead of a search)"
AGAIN = ("data", "out", "max_bytes", "final", "like", "patch", "threads", "overwrite", "as_json")
"""Parameters that --like takes, in addition to those that say how the data are read."""


@click.command(cls=Command)
@argument(
    "data",
    help="Interactions: files or a folder of your own, or the name of a data set (see 'edgerec data list').",
)
@option(
    "--max-bytes",
    metavar="SIZE",
    show_default="the size beyond which quality rises by less than 1 %",
    help="Maximum size of the whole bundle, all files counted, such as 300KiB.",
)
@option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder to write the bundle to, or one file, if the name ends in .edgerec; a bundle there is replaced.",
)
@option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    default=10.0,
    help="Time for everything; the first training is always finished.",
)
@option(
    "--trials",
    type=click.IntRange(1),
    show_default="as many as fit in --minutes",
    help="Number of trainings to try, instead of a time; the result is then reproducible.",
)
@option(
    "--users/--no-users",
    default=None,
    show_default="the better of both",
    help="Include a table of users, or leave it out; the bundle then computes a user's vector from the user's history.",
)
@option("--max-rss", metavar="SIZE", help="Maximum peak memory of a request above an empty onnxruntime session.")
@option(
    "--max-ms",
    type=FiniteRange(0, min_open=True),
    help="Maximum median latency of a request in milliseconds, measured on --device.",
)
@option(
    "--device",
    metavar="ADDRESS",
    default="local",
    help="Device to measure the latency of each bundle on, as in 'edgerec bench'.",
)
@option("--ids", type=Choice(["raw", "hash64"]), default="raw", help="Form of the ids, as in 'edgerec export'.")
@option("--titles", is_flag=True, help="Include item titles, if the data have them.")
@attributes_option
@option("--metric", default=METRIC, metavar="NAME", help="Metric that decides: ndcg or recall, at 5, 10 or 20.")
@option(
    "--split",
    show_default="random:80/20, or leave-one-out if most users have one or two interactions",
    metavar="SPLIT",
    help="Split whose test part measures the result, as in 'edgerec train'; what decides is a part of the rest.",
)
@option(
    "--final",
    is_flag=True,
    help="Train the chosen bundle on all interactions, the test part included; its quality is then not measured.",
)
@option(
    "--like",
    type=FOLDER,
    section=NEXT,
    help="Older bundle whose training and size are repeated on DATA, without a search; it records both. Rows that "
    "changed little stay the same, so that the patch is small.",
)
@option("--patch", type=FILE, section=NEXT, help="File to write the patch from the bundle of --like to.")
@seed_option
@option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    help="Maximum number of threads; results are reproducible to the bit with one.",
)
@option(
    "--workers",
    callback=parsed_workers,
    metavar=WORKERS,
    show_default="this process",
    help="Try several trainings at a time: in N processes here, on a Ray that is started here (ray), or on a Ray "
    "cluster (ray://HOST:PORT). Memory is needed for each.",
)
@option(
    "--sample-users",
    type=click.IntRange(2),
    show_default="all",
    help="Measure trainings and the result on a sample of N users, for large data.",
)
@overwrite_option
@data_options
@json_option
@click.pass_context
def command(context: click.Context, /, data: str, out: Path, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Find the best bundle within a size, and write it.

    \b
    Example:
      edgerec fit ratings.csv --max-bytes 300KiB --out app.bundle

    Backbones, dimensions, methods and precisions are tried, with and without a user table: each is trained, exported
    within the size, and measured by the answers of its bundle on validation data. The best is trained again on
    validation data too, exported, and measured on test data once. Next to the bundle, app.report.html shows every
    bundle that was tried, with the commands that build it. After Ctrl-C the best so far is written; after a kill, or to
    search longer, give the same command again: finished trainings are not repeated.

    \b
    More examples:
      edgerec fit orders.csv --out app.edgerec --no-users
      edgerec fit gowalla --split published --max-bytes 1MiB --minutes 40 --out places.bundle
      edgerec fit week2.csv --like app.bundle --patch week2.patch --out week2.bundle
    """
    if options["like"] is not None:
        _fit_again(context, data, out, overwrite, as_json, options)
        return
    if options["patch"] is not None:
        raise RequestError("--patch leads from an older bundle to the new one; give the older one by --like")
    fitting = require("edgerec.fitting", "all")
    report = report_of(out)
    fitting.check_out(out, [Output(report, ours=page)], data_inputs(data, options), overwrite=overwrite)
    sizes = {name: parse_bytes(size) if (size := options[name]) else None for name in ("max_bytes", "max_rss")}
    names = (
        "minutes",
        "trials",
        "users",
        "ids",
        "titles",
        "metric",
        "split",
        "final",
        "seed",
        "threads",
        "workers",
        "max_ms",
        "sample_users",
    )
    attribute_names(options)  # refused before the data are read
    interactions = load(data, options)
    attributes = read_item_attributes(options, interactions.item_ids)
    with (
        resumable(f"the same command continues ({fitting.trials_folder(out)})"),
        _latency_on(options["device"]) as latency,
        _bar(options["metric"]) as progress,
    ):
        fitted = fitting.fit(
            interactions,
            out,
            **sizes,
            **{name: options[name] for name in names},
            attributes=attributes,
            latency=latency,
            overwrite=overwrite,
            progress=progress,
        )
    if fitted.interrupted:
        tell("the best so far was written; the same command continues the search")
    if len(fitted.study.trials) < FEW and options["trials"] is None:
        tell(f"only {len(fitted.study.trials)} trainings ended in the time; for a better choice give more --minutes")
    if interactions.titles is not None and not options["titles"]:
        tell("the bundle has no titles; --titles adds those of the data")
    elif interactions.titles is None and options["titles"]:
        tell("the data have no titles, nor will the bundle; --item-attributes FILE reads them from a table of items")
    commands = Commands(context, data, {**options, "split": str(fitted.split)})
    require("edgerec_bench.reports.fit_page", "bench").write_page(
        report, fitted, interactions, commands.of, typed(context, "edgerec", "fit", aside=("overwrite", "as_json"))
    )
    _show(fitted, report, commands, as_json)


def _fit_again(
    context: click.Context, data: str, out: Path, overwrite: bool, as_json: bool, options: dict[str, Any]
) -> None:
    """Repeat the training of the bundle of --like, and print the result."""
    others = [name for name in options if name not in (*AGAIN, *READING) and not is_default(context, name)]
    if others:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise RequestError(f"--like repeats the training of its bundle; leave {names} out")
    fitting = require("edgerec.fitting", "all")
    patches = []
    if options["patch"] is not None:
        patches.append(replace(require("edgerec_export", "export").patch_output(options["patch"]), option="--patch"))
    fitting.check_out(out, patches, [*data_inputs(data, options), options["like"]], overwrite=overwrite)
    interactions = load(data, options)
    how = {name: options[name] for name in ("like", "patch", "final", "threads")}
    how |= {"max_bytes": parse_bytes(size) if (size := options["max_bytes"]) else None, "on_stage": tell}
    with resumable(f"the same command continues ({fitting.trials_folder(out)})"), step_bar() as progress:
        fitted = fitting.fit_again(interactions, out, **how, overwrite=overwrite, progress=progress)
    patch = fitted.patch
    facts: dict[str, Any] = {"bundle": str(out), "bytes": fitted.nbytes}
    if fitted.test is not None:
        facts |= {f"test {name}": round(fitted.test[name], 6) for name in (METRIC, "recall@20", "coverage@20")}
    if patch is not None:
        facts |= {"patch": str(patch.path), "patch bytes": patch.nbytes}
    if as_json:
        print_json(facts)
        return
    facts["bytes"] = f"{fitted.nbytes:,} ({format_bytes(fitted.nbytes)})"
    print_facts("", {name: value for name, value in facts.items() if not name.startswith("patch")})
    if patch is not None:
        show_patch(patch, as_json=False)


@contextmanager
def _latency_on(address: str) -> Iterator[Callable[[Path], float] | None]:
    """Give a function that measures a bundle on a device; None for this machine. Raises BenchError."""
    if address == "local":
        yield None
        return
    bench = require("edgerec_bench", "bench")
    with require("edgerec_devices", "bench").open_device(address, tell=tell) as device:

        def latency(bundle: Path) -> float:
            k = min(20, Bundle(bundle, verify=False).manifest.items.rows)
            return float(bench.bench(bundle, **QUICK, k=k, device=device).measured.latency())

        yield latency


def report_of(out: Path) -> Path:
    """Return the page of a bundle: app.report.html for app.bundle."""
    return out.with_name(f"{out.stem}.report.html")


class Commands:
    """The commands that build the bundles of a fit one by one."""

    def __init__(self, context: click.Context, data: str, options: dict[str, Any]) -> None:
        aside = {parameter.name or "" for parameter in context.command.params} - set(READING)
        self._data = [data, *shlex.split(typed(context, aside=aside))]
        self._split, self._seed, self._options = options["split"], options["seed"], options

    def of(self, recipe: Any, variant: Any, limit: int) -> list[str]:
        """Return the two commands of a bundle, 'edgerec train' and 'edgerec export'."""
        train = ["edgerec", "train", *self._data, *recipe.train_options(limit), "--split", self._split]
        sample = self._options["sample_users"]
        train += [] if sample is None else ["--sample-users", str(sample)]
        train += ["--seed", str(self._seed), "--threads", str(self._options["threads"]), "--out", "runs/best"]
        export = ["edgerec", "export", "runs/best", *variant.export_options(limit)]
        export += ["--ids", self._options["ids"]] if self._options["ids"] != "raw" else []
        export += ["--titles"] if self._options["titles"] else []
        if (names := self._options["attributes"]) is not None:
            export += ["--attributes", names, "--item-attributes", str(self._options["item_attributes"])]
        return [shlex.join(train), shlex.join([*export, "--out", "best.bundle"])]


@contextmanager
def _bar(metric: str) -> Iterator[Callable[[Any], None]]:
    """Show a bar with what runs, the best so far and the time left, and print a line for each finished training."""
    counts = (text_column("{task.fields[best]}"), text_column("{task.fields[left]}"))
    with progress_bar("starting", counts=counts, best="", left="") as update:

        def show(state: Any) -> None:
            if state.note:
                tell(state.note)
            if state.finished is not None:
                tell(_line(state.trials, state.finished, metric))
            doing, step = state.doing, state.step
            if step is not None:
                doing += f": {PHASES[step.phase][0]} {step.epoch}/{step.max_epochs}"
            best = (
                "" if state.score is None else f"best {state.score:.4f} in {format_bytes(state.nbytes)}: {state.best}"
            )
            left = "" if state.seconds_left is None else f"{state.seconds_left / 60:.1f} min left"
            update(
                description=f"{state.trials + 1}. {doing}",
                best=best,
                left=left,
                completed=None if step is None else step.epoch,
                total=None if step is None else step.max_epochs,
            )

        yield show


def _line(number: int, trial: Any, metric: str) -> str:
    """Return a finished training as a line."""
    head = f"{number:3}. {trial.recipe.name:34} {trial.seconds:6.1f} s  "
    if trial.failure:
        return f"{head}failed: {trial.failure}"
    best = max(trial.bundles, key=lambda one: float(one.metrics[metric]))
    return f"{head}{metric} {best.metrics[metric]:.4f} in {format_bytes(best.nbytes)} ({best.variant.name})"


def _show(fitted: Any, report: Path, commands: Commands, as_json: bool) -> None:
    study, built = fitted.study, commands.of(fitted.recipe, fitted.variant, fitted.limit)
    facts: dict[str, Any] = {
        "bundle": str(fitted.out),
        "bytes": fitted.nbytes,
        "training": fitted.recipe.name,
        "export": fitted.variant.name,
        f"validation {study.metric}": round(fitted.validation, 6),
    }
    if fitted.test is not None:
        names = dict.fromkeys((study.metric, METRIC, "recall@20", "coverage@20"))
        facts |= {f"test {name}": round(fitted.test[name], 6) for name in names}
    facts |= {"trainings tried": len(study.trials), "report": str(report)}
    if as_json:
        trials = [
            {
                "training": trial.recipe.name,
                "seconds": trial.seconds,
                "failure": trial.failure or None,
                "bundles": [
                    {"export": one.variant.name}
                    | {name: value for name, value in vars(one).items() if name != "variant"}
                    for one in trial.bundles
                ],
            }
            for trial in study.trials
        ]
        print_json({**facts, "interrupted": fitted.interrupted, "commands": built, "trials": trials})
        return
    facts["bytes"] = f"{fitted.nbytes:,} ({format_bytes(fitted.nbytes)})"
    validation = f"validation {study.metric}"
    facts[validation] = f"{facts[validation]:.4f} (trained on less data)"
    if fitted.test is None:
        facts["test"] = "not measured: the bundle was trained on all interactions"
    print_facts("", facts)
    say("the same bundle by parts:")
    for line in built:
        print_text(f"  {line}\n")

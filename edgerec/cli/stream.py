"""edgerec stream: follow interactions over time, within one budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edgerec.cli.options import (
    FOLDER,
    data_path,
    filter_options,
    load,
    precision_option,
    seed_option,
    settings_options,
    tell_of_nothing_to_resume,
    threads_option,
)
from edgerec.cli.output import json_option, print_json, say
from edgerec.cli.train import PHASES
from edgerec.console import messages, print_table, resumable
from edgerec.data import StreamSpec
from edgerec.data.stream import HOLDOUTS
from edgerec.methods.stream import STREAM_METHODS
from edgerec.methods.stream.result import METRICS, SegmentResult, StreamResult
from edgerec.methods.stream.warm_start import BACKBONES, REFITS
from edgerec.outputs import Output, always, check_outputs
from edgerec.request import settings_of
from edgerec.streaming import StreamProgress, StreamRequest, train_stream_request
from edgerec.training import Step

PAGE = "stream.html"


@click.command()
@click.argument("data", default="ml-100k")
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder, of one stream at a time: a run for each segment, stream.json, stream.html.",
)
@click.option("--method", type=click.Choice(STREAM_METHODS), default="scall", show_default=True, help="Who sets sizes.")
@click.option("--backbone", type=click.Choice(BACKBONES), default="ials", show_default=True, help="How to score.")
@click.option(
    "--budget",
    required=True,
    help="10% or 8B/row fix the mean size, 512KiB of bundle or a parameter count the total, at every segment.",
)
@click.option("--dimensions", default=64, show_default=True, help="Of a full row.")
@click.option(
    "--segments",
    default="8",
    show_default=True,
    help="So many with as many new users and items each; new:1000, of so many new ones; days:30.",
)
@click.option(
    "--holdout",
    type=click.Choice(HOLDOUTS),
    default="time",
    show_default=True,
    help="What tests of a segment: its last fifth, or the last fifth of each of its users.",
)
@click.option(
    "--replay", default=0.2, show_default=True, help="Past interactions trained again, as a share of the new."
)
@seed_option
@precision_option
@threads_option
@click.option("--first-epochs", type=click.IntRange(1), help="Of the first segment's training.")
@click.option("--epochs", type=click.IntRange(1), help="Of each later segment's.")
@click.option(
    "--refit",
    type=click.Choice(REFITS),
    default="full",
    show_default=True,
    help="How ials trains a later segment: full, from the start; or from the tables that there were, solving all rows, "
    "active ones, or active ones and those of another size (touched), so that patches are small.",
)
@settings_options
@click.option("--resume", is_flag=True, help="Go on from where it was stopped, if it was, to the same result.")
@click.option("--overwrite", is_flag=True, help="Start anew where the folder holds a stream.")
@filter_options
@json_option
def command(data: str, out: Path, resume: bool, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Follow DATA (a name, or a file or folder, with timestamps; else ml-100k) segment by segment, within one budget.

    Each segment sizes all rows anew, trains, tests on its own last part, and leaves a run that 'edgerec export' takes;
    with --like the bundle before, 'edgerec diff' makes a patch of it, a small one where --refit active left most rows
    as they were. Ctrl-C leaves a stream that --resume continues.

    \b
    Example:
      edgerec stream ml-100k --method scall --budget 10% --out streams/films
      edgerec export streams/films/segment-00 --out monday.bundle --precision int8
      edgerec export streams/films/segment-01 --out tuesday.bundle --like monday.bundle
      edgerec diff monday.bundle tuesday.bundle --out tuesday.patch
    """
    request = StreamRequest.make(
        given["backbone"],
        given["method"],
        budget=given["budget"],
        dimensions=given["dimensions"],
        segments=StreamSpec.parse(
            given["segments"], holdout=given["holdout"], replay=given["replay"], seed=given["seed"]
        ),
        precision=given["precision"],
        settings=settings_of(given["settings"]),
        method_settings=settings_of(given["method_settings"]),
        seed=given["seed"],
        threads=given["threads"],
        first_epochs=given["first_epochs"],
        epochs=given["epochs"],
        refit=given["refit"],
    )
    check_outputs([Output(out, ours=always, folder=True)], [data_path(data)])
    # What draws the page is missing now, or never.
    from edgerec_bench.reports.stream_page import write_page

    if resume:
        tell_of_nothing_to_resume(out)
    interactions = load(data, given["min_user"], given["min_item"], given["encoding"])
    with resumable(f"go on with the same command and --resume ({out})"), _progress_bar() as progress:
        followed = train_stream_request(
            interactions, request, out=out, resume=resume, overwrite=overwrite, progress=progress
        )
    write_page(out / PAGE, {str(out): followed})
    if as_json:
        print_json({"out": str(out), **followed.to_json()})
    else:
        _show(followed, out)


@contextmanager
def _progress_bar() -> Iterator[StreamProgress]:
    columns = (
        TextColumn("segment {task.fields[number]}/{task.fields[of]}"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("starting", total=None, unit="epochs", values="", number=1, of="?")

        def show(number: int, of: int, step: Step) -> None:
            what, unit = PHASES[step.phase]
            bar.update(
                task,
                description=what,
                completed=step.epoch,
                total=step.max_epochs,
                unit=unit,
                values="  ".join(f"{name} {value:.4g}" for name, value in step.values.items()),
                number=number + 1,
                of=of,
            )

        yield show


COLUMNS = ("segment", "users", "items", "new", "values", "a user", "an item", "table bytes", *METRICS)


def _show(followed: StreamResult, out: Path) -> None:
    command = followed.command
    title = f"{command['data']}, {command['backbone']}, {command['method']}, {command['budget']}"
    print_table(title, COLUMNS, [*map(_row, followed.segments)])
    means = ", ".join(f"{name} {value:.4f}" for name, value in followed.mean().items())
    say(f"mean of the segments after the first: {means}")
    messages.print(f"wrote {out / PAGE}", markup=False)


def _row(told: SegmentResult) -> list[Any]:
    sizes = [f"{size:.1f}" for size in told.mean_sizes.values()]
    new = told.rows["new_users"] + told.rows["new_items"]
    counts = [told.rows["users"], told.rows["items"], new, told.values]
    scores = [told.metrics[name] for name in METRICS]
    return [told.number, *(f"{count:,}" for count in counts), *sizes, f"{told.table_bytes:,}", *scores]

"""edgerec stream: trains on interactions in order of time, within one budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import RESEARCH, Choice, Command, option
from edgerec.cli.options import (
    FOLDER,
    data_argument,
    data_inputs,
    data_options,
    load,
    precision_option,
    seed_option,
    settings_options,
    threads_option,
    warn_if_nothing_to_resume,
)
from edgerec.cli.output import json_option, print_json, say
from edgerec.cli.train import step_bar
from edgerec.console import messages, print_table, resumable
from edgerec.data import StreamSpec
from edgerec.data.stream import HOLDOUTS
from edgerec.methods.stream import STREAM_METHODS
from edgerec.methods.stream.result import METRICS, SegmentResult, StreamResult
from edgerec.methods.stream.warm_start import BACKBONES, EPOCHS, PARTIAL, REFITS
from edgerec.outputs import Output, always, check_outputs
from edgerec.request import settings_of
from edgerec.streaming import StreamRequest, train_stream_request
from edgerec.training import Step

PAGE = "stream.html"


def _epochs_of(segment: int) -> str:
    """Return the default number of epochs of the first (0) or of a later segment (1), for each backbone."""
    return ", ".join(f"{epochs[segment]} for {backbone}" for backbone, epochs in EPOCHS.items())


@click.command(cls=Command)
@data_argument
@option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder to write to: a run for each segment, stream.json with the results, and stream.html with charts.",
)
@option(
    "--budget",
    required=True,
    metavar="BUDGET",
    help="Size limit at every segment: 10% or 8B/row limit the mean size of a row, so that tables grow with the data; "
    "512KiB (the whole bundle) or 250000 (parameters) limit the total.",
)
@option("--backbone", type=Choice(BACKBONES), default="ials", help="Model to train: implicit ALS (ials) or lightgcn.")
@option(
    "--method",
    type=Choice(STREAM_METHODS),
    default="scall",
    help="How values are divided among rows: learned by an agent (scall), the same for all (uniform), more for "
    "frequent rows (popularity), or searched on the first segment and then fixed (static).",
)
@precision_option
@option("--dimensions", default=64, help="Number of dimensions of a full vector, the most that a row can have.")
@option(
    "--segments",
    default="8",
    metavar="SEGMENTS",
    help="How to cut the data by time: into a number of segments (8), at that many new users and items in each "
    "(new:1000), or at that many days (days:30).",
)
@seed_option
@threads_option
@option("--resume", is_flag=True, help="Continue a stream that was interrupted, to the same result.")
@option(
    "--overwrite", is_flag=True, help="If the folder contains a stream, replace it by one that is trained from scratch."
)
@option(
    "--holdout",
    type=Choice(HOLDOUTS),
    default="time",
    section=RESEARCH,
    help="Test data of a segment: its last fifth (time), or the last fifth of each of its users (user).",
)
@option(
    "--replay",
    default=0.2,
    section=RESEARCH,
    help="Number of past interactions that a segment trains on again, as a share of its new ones.",
)
@option(
    "--first-epochs",
    type=click.IntRange(1),
    section=RESEARCH,
    show_default=_epochs_of(0),
    help="Number of training epochs of the first segment.",
)
@option(
    "--epochs",
    type=click.IntRange(1),
    section=RESEARCH,
    show_default=f"{_epochs_of(1)}; {PARTIAL} for ials with another --refit than full",
    help="Number of training epochs of each later segment.",
)
@option(
    "--refit",
    type=Choice(REFITS),
    default="full",
    section=RESEARCH,
    help="Rows that ials computes again in a later segment: every row from scratch (full); or, starting from the last "
    "tables, every row (all), rows with new interactions (active), or these and rows whose size changed (touched). "
    "Fewer rows make smaller patches.",
)
@settings_options
@data_options
@json_option
def command(data: str, out: Path, resume: bool, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Train on interactions in order of time, one run per segment, within one budget.

    \b
    Example:
      edgerec stream ml-100k --method scall --budget 10% --out streams/films

    The data need timestamps. At each segment all rows get new sizes within the budget, the model is trained on the
    first part of the segment and tested on the last, and a run is written that 'edgerec export' takes. After Ctrl-C,
    the same command with --resume continues.

    \b
    More examples:
      edgerec export streams/films/segment-00 --out monday.bundle --precision int8
      edgerec export streams/films/segment-01 --out tuesday.bundle --like monday.bundle
      edgerec diff monday.bundle tuesday.bundle --out tuesday.patch
    """
    names = ("backbone", "method", "budget", "dimensions", "precision", "seed", "threads", "first_epochs", "epochs")
    rules = {name: options[name] for name in ("holdout", "replay", "seed")}
    request = StreamRequest.make(
        **{name: options[name] for name in names},
        segments=StreamSpec.parse(options["segments"], **rules),
        settings=settings_of(options["settings"]),
        method_settings=settings_of(options["method_settings"]),
        refit=options["refit"],
    )
    check_outputs([Output(out, ours=always, folder=True)], data_inputs(data, options))
    # A missing package for the page is reported before training.
    from edgerec_bench.reports.stream_page import write_page

    if resume:
        warn_if_nothing_to_resume(out)
    interactions = load(data, options)
    with resumable(f"continue with the same command and --resume ({out})"), step_bar() as show:

        def progress(number: int, of: int, step: Step) -> None:
            show(step, f"segment {number + 1}/{of} ")

        result = train_stream_request(
            interactions, request, out=out, resume=resume, overwrite=overwrite, progress=progress
        )
    write_page(out / PAGE, {str(out): result})
    if as_json:
        print_json({"out": str(out), **result.to_json()})
    else:
        _show(result, out)


COLUMNS = ("segment", "users", "items", "new", "values", "a user", "an item", "table bytes", *METRICS)


def _show(result: StreamResult, out: Path) -> None:
    command = result.command
    title = f"{command['data']}, {command['backbone']}, {command['method']}, {command['budget']}"
    print_table(title, COLUMNS, [*map(_row, result.segments)])
    means = ", ".join(f"{name} {value:.4f}" for name, value in result.mean().items())
    say(f"mean of the segments after the first: {means}")
    messages.print(f"wrote {out / PAGE}", markup=False)


def _row(segment: SegmentResult) -> list[Any]:
    sizes = [f"{size:.1f}" for size in segment.mean_sizes.values()]
    new = segment.rows["new_users"] + segment.rows["new_items"]
    counts = [segment.rows["users"], segment.rows["items"], new, segment.values]
    scores = [segment.metrics[name] for name in METRICS]
    return [segment.number, *(f"{count:,}" for count in counts), *sizes, f"{segment.table_bytes:,}", *scores]

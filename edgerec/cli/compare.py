"""`edgerec compare`: what became of every figure, and whether that is sure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edgerec.cli.options import PathType
from edgerec.cli.output import json_option, print_json, print_text
from edgerec.console import messages, print_table
from edgerec_bench import compare, read_results
from edgerec_bench.comparison import UNSTABLE, Comparison, Limit, failures
from edgerec_bench.reports.text import FORMATS, change_row, compare_text

COLUMNS = ("", "base", "new", "ratio", "95 % interval", "verdict")


@click.command("compare")
@click.argument("base", metavar="BASE.json", type=PathType())
@click.argument("new", metavar="NEW.json", type=PathType())
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="CONDITION", help="Exit with 1 where 'FIGURE > NUMBERx' is sure."
)
@click.option("--force", is_flag=True, help="Compare although devices or settings differ, or a result is partial.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", *FORMATS)),
    default="table",
    show_default=True,
    help="What to print.",
)
@json_option
def command(base: Path, new: Path, conditions: tuple[str, ...], force: bool, form: str, as_json: bool) -> None:
    """Compare two results of bench, figure by figure, with confidence intervals.

    Bundles are found by name; a single one on each side is compared whatever its name. A verdict is slower, faster,
    larger or smaller where the whole interval lies on one side of 1; no difference found where a tenth would have
    shown; else unstable. A condition of --fail-if holds where the whole interval lies above its number.

    \b
    Example:
      edgerec bench films.bundle --out before.json
      edgerec bench films.bundle --out after.json
      edgerec compare before.json after.json --fail-if 'p50 > 1.1x' --fail-if 'bytes > 1x'
    """
    limits = [Limit.parse(text) for text in conditions]
    comparisons = compare(read_results(base), read_results(new), force=force)
    failed = failures(limits, comparisons)
    if as_json:
        print_json({"comparisons": [one.to_json() for one in comparisons], "failed": failed})
    elif form != "table":
        print_text(compare_text(comparisons, form))
    else:
        _print(comparisons)
    for line in failed:
        messages.print(f"Failed: {line}", markup=False)
    if failed:
        sys.exit(1)


def _print(comparisons: Sequence[Comparison]) -> None:
    for one in comparisons:
        title = one.new if one.new == one.base else f"{one.base} -> {one.new}"
        print_table(title, COLUMNS, [change_row(change) for change in one.changes])
    for one in comparisons:
        if one.machine_changed and one.machine:
            said = f"the machine itself took {one.machine.ratio:.2f} times as long for the same work; times say nothing"
            messages.print(f"Warning: {one.new}: {said}", markup=False)
        elif one.contested and one.cpu_share is not None:
            said = f"other programs took up to {1 - one.cpu_share:.0%} of the processor"
            counts = "tails and load say nothing, and medians must surely differ by more than 5 %"
            messages.print(f"Warning: {one.new}: {said}: {counts}", markup=False)
    if any(change.verdict == UNSTABLE for one in comparisons for change in one.changes):
        messages.print("unstable: close other programs and measure again, one right after the other:", style="dim")
        for line in dict.fromkeys(line for one in comparisons for line in one.again):
            messages.print(f"  {line} --out RESULT.json", style="dim", markup=False)

"""edgerec compare: the change of every figure between two results, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edgerec.cli.help import Choice, Command, argument, option
from edgerec.cli.options import FILE_OR_FOLDER
from edgerec.cli.output import json_option, print_json, print_text
from edgerec.console import messages, print_table
from edgerec_bench import compare, read_results
from edgerec_bench.comparison import UNSTABLE, Comparison, Limit, failures
from edgerec_bench.reports.text import FORMATS, change_row, compare_text

COLUMNS = ("", "base", "new", "ratio", "95 % interval", "verdict")


@click.command("compare", cls=Command)
@argument("base", metavar="BASE.json", type=FILE_OR_FOLDER, help="Result to compare with, of 'edgerec bench --out'.")
@argument(
    "new", metavar="NEW.json", type=FILE_OR_FOLDER, help="Result that is compared with it, of 'edgerec bench --out'."
)
@option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with status 1 if 'FIGURE > NUMBERx' holds with confidence for a bundle; a FIGURE is p50, p95 or p99 "
    "(latency of recommend), load (time), peak (memory) or bytes (size), and a wrong one lists all. May be repeated.",
)
@option("--force", is_flag=True, help="Compare even if devices or settings differ, or if a result is partial.")
@option("--format", "form", type=Choice(("table", *FORMATS)), default="table", help="Format to print.")
@json_option
def command(base: Path, new: Path, conditions: tuple[str, ...], force: bool, form: str, as_json: bool) -> None:
    """Compare two results of 'edgerec bench', with confidence intervals.

    \b
    Example:
      edgerec bench old.bundle --out before.json
      edgerec bench new.bundle --out after.json
      edgerec compare before.json after.json --fail-if 'p50 > 1.1x'

    Bundles are matched by name; a single bundle on each side is compared whatever its name. For each figure the ratio
    NEW / BASE is printed with its 95 % confidence interval and a verdict: slower, faster, larger or smaller if the
    whole interval lies on one side of 1; no difference found if it excludes a change by a tenth; else unstable, so
    that you should measure again with more --processes. A condition of --fail-if holds if the whole interval lies above
    its number.

    \b
    More examples:
      edgerec compare before.json after.json --fail-if 'p50 > 1.1x' --fail-if 'bytes > 1x'
      edgerec compare before.json after.json --format markdown
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
        raise click.exceptions.Exit(1)


def _print(comparisons: Sequence[Comparison]) -> None:
    for one in comparisons:
        title = one.new if one.new == one.base else f"{one.base} -> {one.new}"
        print_table(title, COLUMNS, [change_row(change) for change in one.changes])
    for one in comparisons:
        if one.machine_changed and one.machine:
            warning = f"the machine took {one.machine.ratio:.2f} times as long for the same work; ignore the times"
            messages.print(f"Warning: {one.new}: {warning}", markup=False)
        elif one.contested and one.cpu_share is not None:
            warning = f"other programs took up to {1 - one.cpu_share:.0%} of the processor"
            advice = "ignore tails and load times; a median has changed only if its interval exceeds 5 %"
            messages.print(f"Warning: {one.new}: {warning}: {advice}", markup=False)
    if any(change.verdict == UNSTABLE for one in comparisons for change in one.changes):
        messages.print("unstable: close other programs and measure again, one right after the other:", style="dim")
        for line in dict.fromkeys(line for one in comparisons for line in one.again):
            messages.print(f"  {line} --out RESULT.json", style="dim", markup=False)

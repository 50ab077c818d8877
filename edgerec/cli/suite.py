"""edgerec suite: the measurements that the documentation quotes, by name."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.options import PathType
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table, resumable
from edgerec.errors import BenchError, RequestError
from edgerec_bench.suites import Outcome, Step, Suite, read_suite, run_suite, suites


@click.command("suite")
@click.argument("name", metavar="[NAME|FILE.toml]", required=False)
@click.option("--out", type=PathType(file_okay=False), help="Folder of what is made.  [default: NAME]")
@click.option("--only", multiple=True, metavar="STEP", help="A step; may be repeated.")
@click.option("--list", "listed", is_flag=True, help="List the suites, or the steps of one, and run nothing.")
@json_option
def command(name: str | None, out: Path | None, only: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """Make the measurements of a suite: those that the documentation quotes, or your own in a TOML file.

    Each step is a command and the file that it makes. Stopped at any point, the same command goes on: a step whose
    file is there is not run again. A step whose data set is not here is skipped, and the command that brings it told.

    \b
    Example:
      edgerec suite --list
      edgerec suite smoke --out smoke
      edgerec suite peers --out results --only peers-10k
    """
    if name is None:
        if not listed:
            raise RequestError(f"name a suite: {', '.join(suites())}; 'edgerec suite --list' says what they are")
        _list_suites(as_json)
        return
    suite = read_suite(name)
    steps, folder = _chosen(suite, only), out or Path(suite.name)
    if listed:
        _list_steps(suite, steps, folder, as_json)
        return
    with resumable(f"what is made is in {folder}, and the same command goes on"):
        outcome = run_suite(steps, folder, lambda line: messages.print(line, markup=False, style="bold"))
    _show(steps, outcome, as_json)
    if outcome.failed or outcome.skipped:
        reasons = [f"{step}: {reason}" for step, reason in {**outcome.failed, **outcome.skipped}.items()]
        raise BenchError(f"not all was made, and the same command goes on; {'; '.join(reasons)}")


def _chosen(suite: Suite, only: tuple[str, ...]) -> list[Step]:
    known = [step.name for step in suite.steps]
    for name in only:
        if name not in known:
            raise RequestError(f"the suite {suite.name} has no step {name!r}; it has: {', '.join(known)}")
    return [step for step in suite.steps if not only or step.name in only]


def _list_suites(as_json: bool) -> None:
    read = [read_suite(name) for name in suites()]
    if as_json:
        print_json([{"name": suite.name, "about": suite.about, "steps": len(suite.steps)} for suite in read])
    else:
        print_table("", ["suite", "steps", "shows"], [[suite.name, len(suite.steps), suite.about] for suite in read])


def _list_steps(suite: Suite, steps: list[Step], folder: Path, as_json: bool) -> None:
    rows = [
        {"step": step.name, "made": step.is_made(folder), "minutes": step.minutes, "command": step.command}
        for step in steps
    ]
    if as_json:
        print_json(rows)
    else:
        shown = [[row["step"], "yes" if row["made"] else "", row["minutes"], row["command"]] for row in rows]
        print_table(f"{suite.name}: {suite.about}", ["step", f"in {folder}", "minutes", "command"], shown)


def _show(steps: list[Step], outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(vars(outcome))
        return
    told = dict.fromkeys(outcome.kept, "was there")
    told |= {name: f"made in {seconds:.0f} s" for name, seconds in outcome.made.items()}
    told |= {name: f"FAILED: {reason}" for name, reason in outcome.failed.items()}
    told |= {name: f"SKIPPED: {reason}" for name, reason in outcome.skipped.items()}
    print_table("", ["step", "file", ""], [[step.name, step.makes, told[step.name]] for step in steps])

"""edgerec reproduce: the papers' protocol, ours beside what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.cli.grid import progress_bar
from edgerec.cli.options import FiniteRange, PathType, data_path, overwrite_option
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table, resumable
from edgerec.errors import BenchError, RequestError
from edgerec.methods import VARIANT
from edgerec.methods.ciess.config import UNIFORM
from edgerec.methods.ciess.config import VARIANTS as CIESS_VARIANTS
from edgerec.models import BACKBONES
from edgerec.outputs import Output, check_outputs, json_of
from edgerec.request import settings_by_method, settings_of
from edgerec_bench.command import ASIDE, is_default, typed
from edgerec_bench.grid import grid_outputs, run_grid
from edgerec_bench.record import write_record
from edgerec_bench.reproduce import (
    BUDGETS,
    COMPARED,
    PAPERS,
    ReproductionPlan,
    for_searches,
    outcome,
    searches_folder,
    shown,
    verdicts,
)

QUICK: dict[str, Any] = {
    "data": "synthetic:200x150x6000",
    "backbone": "ials",
    "budgets": ("20%",),
    "seeds": 1,
    "dimensions": 32,
    "iterations": 5,
    "candidates": 10,
    "episodes": 1,
    "retrain": 1,
}
"""What a trial takes where nothing else is given: seconds, of made-up data."""
KIND = "reproduce"
"""Of the record, in its format."""
WHOSE = {"iterations": {"bet"}, "candidates": {"bet"}, "episodes": {"ciess"}, "retrain": {"bet", "ciess"}}
"""Methods that have a setting which not all have."""


@click.command("reproduce")
@click.argument("paper", type=click.Choice(tuple(PAPERS)))
@click.option("--data", help="A name, or a file or folder.  [default: ml-1m for ciess, gowalla for bet]")
@click.option(
    "--backbone", type=click.Choice(BACKBONES), default="lightgcn", show_default=True, help="What is trained."
)
@click.option("--method", "methods", multiple=True, default=COMPARED, show_default=True, help="May be repeated.")
@click.option("--budget", "budgets", multiple=True, default=BUDGETS, show_default=True, help="May be repeated.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Splits and trainings of each.")
@click.option("--dimensions", type=click.IntRange(1), default=128, show_default=True, help="Of a full row.")
@click.option("--epochs", type=click.IntRange(1), help="Of a training in full, at most.")
@click.option("--patience", type=click.IntRange(1), help="Epochs without a better NDCG@20 before it stops.")
@click.option("--proxy", help="Model that evaluates sizes in searches: backbone, or ials, which is far quicker.")
@click.option("--iterations", type=click.IntRange(1), help="Actions that BET judges.")
@click.option("--candidates", type=click.IntRange(1), help="Actions that BET draws for one that it judges.")
@click.option("--episodes", type=click.IntRange(1), help="Of CIESS.")
@click.option("--judge-epochs", type=click.IntRange(1), help="Of the training that judges an action.")
@click.option("--retrain", type=click.IntRange(1), help="Actions that a search trains in full at its end.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the backbone.")
@click.option(
    "--method-set", "method_settings", multiple=True, metavar="METHOD.NAME=VALUE", help="A setting of one method."
)
@click.option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="That a cell may take in one call.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time.")
@click.option("--quick", is_flag=True, help="A trial in half a minute: made-up data and iALS, unless others are given.")
@click.option(
    "--out",
    type=PathType(dir_okay=False),
    help="The result, JSON; the grid's .jsonl stands beside it.  [default: reproduce-PAPER.json]",
)
@click.option("--note", default="", help="What else ran on the machine, for the record.")
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context, /, paper: str, out: Path | None, overwrite: bool, as_json: bool, **chosen: Any
) -> None:
    """Train what the PAPER compares by its protocol, ours beside the published figures.

    Train, validation and test are 50/25/25 at random inside each user, and the final model is trained on the first two;
    20, 10 and 5 % of rows of 128 dimensions are kept. A setting is the same for all methods that have it. Stopped at
    any point, the same command goes on.

    \b
    Example:
      edgerec reproduce ciess --data ml-1m --proxy ials --out ciess-ml-1m.json
      edgerec reproduce bet --quick
    """
    out = out or Path(f"reproduce-{paper}.json")
    if out.suffix != ".json":
        raise RequestError(f"{out} is to be JSON; give --out {out.with_suffix('.json')}")
    note = chosen.pop("note")
    if chosen.pop("quick"):
        trial = {name: value for name, value in QUICK.items() if is_default(context, name)}
        there = set(chosen["methods"])
        chosen |= {name: value for name, value in trial.items() if WHOSE.get(name, there) & there}
    workers = chosen.pop("workers")
    wanted, cells = _wanted(paper, out, **chosen), out.with_suffix(".jsonl")
    searches = Output(searches_folder(out), folder=True, shared=True)
    written = [Output(out, ours=json_of(f"edgerec.{KIND}")), searches, *grid_outputs(cells)]
    check_outputs(written, [data_path(wanted.data)], overwrite=overwrite)
    with resumable(f"what is done is in {cells}, and the same command goes on"), progress_bar() as progress:
        grid = run_grid(wanted.plan(), cells, workers=workers, progress=progress, on_message=_tell)
    if not grid.rows:
        raise BenchError(f"no cell could be made: {grid.reasons}")
    found = outcome(wanted, grid.rows)
    write_record(out, KIND, typed(context, "edgerec", "reproduce", aside=(*ASIDE, "minutes")), {"note": note, **found})
    if as_json:
        print_json(found)
    else:
        print_table(f"{paper.upper()}'s protocol: {wanted.data}, {wanted.backbone}", *shown(found["rows"]))
        for line in verdicts(found["rows"]):
            messages.print(line, markup=False)
    for line in grid.notes:
        _tell(line)
    if grid.failures:
        raise BenchError(f"{len(grid.failures)} cells failed, and the same command tries them again: {grid.reasons}")


def _wanted(
    paper: str,
    out: Path,
    *,
    data: str | None,
    backbone: str,
    methods: tuple[str, ...],
    budgets: tuple[str, ...],
    settings: tuple[str, ...],
    method_settings: tuple[str, ...],
    judge_epochs: int | None,
    proxy: str | None,
    iterations: int | None,
    candidates: int | None,
    episodes: int | None,
    retrain: int | None,
    **others: Any,
) -> ReproductionPlan:
    """What is to be trained. Raises RequestError, BenchError, UnsupportedError."""
    common = {"proxy": proxy, "epochs": judge_epochs, "candidates": candidates, "episodes": episodes}
    own = for_searches(methods, backbone, {**common, "retrain": retrain})
    # The table is of what searches find: the papers' searches ship nothing else.
    if "bet" in own:
        own["bet"]["include_uniform_baseline"] = False
    if iterations is not None:
        if "bet" not in own:
            raise RequestError("--iterations are of bet, which is none of the methods; leave it out")
        own["bet"]["iterations"] = iterations
    if "ciess" in own:
        # One search serves all budgets, of each seed.
        own["ciess"] |= {"budgets": ",".join(budgets), "search": str(searches_folder(out))}
    for method, given in settings_by_method(method_settings, methods).items():
        own.setdefault(method, {}).update(given)
    if "ciess" in own:
        own["ciess"].setdefault("candidate_sources", _searched_sources(own["ciess"].get(VARIANT, "default")))
    return ReproductionPlan(
        paper,
        data or PAPERS[paper],
        backbone,
        tuple(methods),
        tuple(budgets),
        settings=settings_of(settings),
        method_settings=own,
        **others,
    )


def _searched_sources(variant: str) -> str:
    """Return the sources of a variant of CIESS without the uniform one: the table is of what searches find."""
    config = CIESS_VARIANTS.get(variant, CIESS_VARIANTS["default"])
    return ",".join(name for name in config.sources() if name != UNIFORM)


def _tell(line: str) -> None:
    messages.print(line, markup=False)

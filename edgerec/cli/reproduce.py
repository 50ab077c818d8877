"""edgerec reproduce: trains by a paper's protocol, and compares with its published figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgerec.cli.grid import fail_if_any_failed, run_cells
from edgerec.cli.help import RESEARCH, Choice, Command, F, argument, option
from edgerec.cli.options import FILE, FiniteRange, data_paths, dimensions_option, encoding_option, overwrite_option
from edgerec.cli.output import json_option, print_json
from edgerec.cli.training import MAX_EPOCHS, PATIENCE, WORKERS, parsed_workers
from edgerec.console import print_table, tell
from edgerec.errors import BenchError, RequestError
from edgerec.methods import VARIANT
from edgerec.methods.bet.search import BETConfig
from edgerec.methods.ciess.config import UNIFORM, CIESSConfig
from edgerec.methods.ciess.config import VARIANTS as CIESS_VARIANTS
from edgerec.models import BACKBONES
from edgerec.outputs import Output, check_outputs, json_of
from edgerec.request import settings_by_method, settings_of
from edgerec_bench.command import ASIDE, is_default, typed
from edgerec_bench.grid import grid_outputs
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
"""Defaults of --quick: seconds, on synthetic data."""
KIND = "reproduce"
"""The kind of the record, in its format."""
METHODS_WITH = {"iterations": {"bet"}, "candidates": {"bet"}, "episodes": {"ciess"}, "retrain": {"bet", "ciess"}}
"""The methods that have a setting, if not all have it."""
SEARCH = "Search options"
EVALUATION_EPOCHS = "10 for bet (15 with ngcf, 1 with ials), 5 for ciess (2 with ials)"
"""The defaults of the methods, which depend on the backbone; a test compares the two."""


def _search_option(name: str, default: str, help: str) -> Callable[[F], F]:
    """Return a decorator that adds an option with a number of a search; `default` is that of the methods."""
    return option(name, type=click.IntRange(1), section=SEARCH, show_default=default, help=help)


@click.command("reproduce", cls=Command)
@argument("paper", metavar="PAPER", type=Choice(tuple(PAPERS)), help="Paper: ciess or bet.")
# Records name the options of their command in this order.
@option(
    "--data",
    metavar="DATA",
    show_default="ml-1m for ciess, gowalla for bet",
    help="Interactions: the name of a data set (see 'edgerec data list'), or a file or folder of your own.",
)
@encoding_option
@option("--backbone", type=Choice(BACKBONES), default="lightgcn", help="Model to train, as in 'edgerec train'.")
@option(
    "--method",
    "methods",
    multiple=True,
    default=COMPARED,
    metavar="NAME",
    help="Method of 'edgerec train' to train; may be repeated.",
)
@option(
    "--budget",
    "budgets",
    multiple=True,
    default=BUDGETS,
    metavar="BUDGET",
    help="Budget to train within; may be repeated.",
)
@option("--seeds", type=click.IntRange(1), default=3, help="Number of splits and trainings of each method and budget.")
@dimensions_option(128)
@option(
    "--epochs",
    type=click.IntRange(1),
    section=RESEARCH,
    show_default=MAX_EPOCHS,
    help="Maximum number of epochs of a full training.",
)
@option(
    "--patience",
    type=click.IntRange(1),
    section=RESEARCH,
    show_default=PATIENCE,
    help="Number of epochs without a better validation NDCG@20 after which a full training stops.",
)
@option(
    "--proxy",
    metavar="NAME",
    section=SEARCH,
    show_default="backbone",
    help="Model that evaluates sizes in a search: backbone, the trained one itself, or ials, which is much faster.",
)
@_search_option(
    "--iterations",
    str(BETConfig.iterations),
    "Number of size assignments (a size for every row) that bet evaluates.",
)
@_search_option(
    "--candidates",
    str(BETConfig.candidates),
    "Number of size assignments that bet samples for each one that it evaluates.",
)
@_search_option(
    "--episodes",
    str(CIESSConfig.episodes),
    "Number of episodes of ciess, each of which changes the sizes several times.",
)
@_search_option(
    "--evaluation-epochs",
    EVALUATION_EPOCHS,
    "Number of epochs of the short training that evaluates a size assignment.",
)
@_search_option(
    "--retrain",
    f"{BETConfig.retrain} for bet, {CIESSConfig.retrain} for ciess",
    "Number of the best size assignments that a search trains in full at its end.",
)
@option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    section=RESEARCH,
    help="Setting of the backbone, such as reg=0.1; may be repeated.",
)
@option(
    "--method-set",
    "method_settings",
    multiple=True,
    metavar="METHOD.NAME=VALUE",
    section=RESEARCH,
    help="Setting of one method, such as ciess.gamma=0.9; may be repeated.",
)
@option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    default=60.0,
    help="Maximum time of one training in a call, in minutes; the next call resumes it.",
)
@option(
    "--workers",
    callback=parsed_workers,
    metavar=WORKERS,
    default="1",
    help="Number of trainings to run at the same time, or a Ray cluster that runs them.",
)
@option(
    "--quick",
    is_flag=True,
    help="Try the command in half a minute: synthetic data, iALS, one budget and seed, and short searches, except for "
    "what other options give.",
)
@option(
    "--out",
    type=FILE,
    show_default="reproduce-PAPER.json",
    help="Result file, JSON; the combinations are written as .jsonl with the same name.",
)
@option(
    "--note",
    default="",
    show_default=False,
    help="Remark to store in the result, such as what else ran on the machine.",
)
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context, /, paper: str, out: Path | None, overwrite: bool, as_json: bool, **chosen: Any
) -> None:
    """Train the methods of a paper by its protocol, and compare with its published figures.

    \b
    Example:
      edgerec reproduce ciess --data ml-1m --proxy ials --out ciess-ml-1m.json

    The papers are CIESS (Qu et al. 2023) and BET (Qu et al. 2024), which search embedding sizes. Their protocol: each
    user's interactions are divided at random into 50 % for training, 25 % for validation and 25 % for the test; the
    final model trains on the first two; budgets are 20, 10 and 5 % of tables with 128 dimensions. A search option
    applies to each of the searches, bet and ciess, that has it. If the command is interrupted, give it again: it
    resumes.

    \b
    More examples:
      edgerec reproduce bet --quick
    """
    out = out or Path(f"reproduce-{paper}.json")
    if out.suffix != ".json":
        raise RequestError(f"{out} does not end in .json, and --out is JSON; give --out {out.with_suffix('.json')}")
    note = chosen.pop("note")
    if chosen.pop("quick"):
        trial = {name: value for name, value in QUICK.items() if is_default(context, name)}
        methods = set(chosen["methods"])
        chosen |= {name: value for name, value in trial.items() if METHODS_WITH.get(name, methods) & methods}
    workers = chosen.pop("workers")
    task, cells = _task(paper, out, **chosen), out.with_suffix(".jsonl")
    searches = Output(searches_folder(out), folder=True, shared=True)
    written = [Output(out, ours=json_of(f"edgerec.{KIND}")), searches, *grid_outputs(cells)]
    check_outputs(written, data_paths(task.data), overwrite=overwrite)
    grid = run_cells(task.plan(), cells, workers=workers)
    if not grid.rows:
        raise BenchError(f"every combination failed: {grid.reasons}")
    found = outcome(task, grid.rows)
    write_record(out, KIND, typed(context, "edgerec", "reproduce", aside=(*ASIDE, "minutes")), {"note": note, **found})
    if as_json:
        print_json(found)
    else:
        print_table(f"{paper.upper()}'s protocol: {task.data}, {task.backbone}", *shown(found["rows"]))
        for line in verdicts(found["rows"]):
            tell(line)
    for line in grid.notes:
        tell(line)
    fail_if_any_failed(grid)


def _task(
    paper: str,
    out: Path,
    *,
    data: str | None,
    backbone: str,
    methods: tuple[str, ...],
    budgets: tuple[str, ...],
    settings: tuple[str, ...],
    method_settings: tuple[str, ...],
    evaluation_epochs: int | None,
    proxy: str | None,
    iterations: int | None,
    candidates: int | None,
    episodes: int | None,
    retrain: int | None,
    **others: Any,
) -> ReproductionPlan:
    """Return what to train. Raises RequestError, BenchError, UnsupportedError."""
    common = {"proxy": proxy, "epochs": evaluation_epochs, "candidates": candidates, "episodes": episodes}
    own = for_searches(methods, backbone, {**common, "retrain": retrain})
    # The table compares what searches find, as the papers do, so uniform sizes are no candidate of theirs.
    if "bet" in own:
        own["bet"]["include_uniform_baseline"] = False
    if iterations is not None:
        if "bet" not in own:
            raise RequestError("--iterations is an option of bet, which is not among the methods; leave it out")
        own["bet"]["iterations"] = iterations
    if "ciess" in own:
        # One search serves all budgets, of each seed.
        own["ciess"] |= {"budgets": ",".join(budgets), "search": str(searches_folder(out))}
    for method, values in settings_by_method(method_settings, methods).items():
        own.setdefault(method, {}).update(values)
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
    """Return the sources of a variant of CIESS without the uniform one: the table compares what searches find."""
    config = CIESS_VARIANTS.get(variant, CIESS_VARIANTS["default"])
    return ",".join(name for name in config.sources() if name != UNIFORM)

"""Quality of sparse methods and of uniform sizes by data set, backbone and density.

usage: python -m bench.experiments.sparse_quality --data ml-1m [--backbones mf] [--workers 2] --out result.json

Every method has the same trials of L2: the one with the best NDCG@20 on the validation part at `TUNED_AT` with seed 0
is used for all densities and seeds. All train for the same maximum number of epochs, fewer than the backbones' defaults
(`REDUCED`); PEP trains up to twice as many, because it searches its mask first. Nothing is chosen by the test part.
Cells run in a grid: after an interruption, the same command resumes from --grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, grid_rows, next_to_out
from edgerec.budget import Budget
from edgerec.console import messages, print_table
from edgerec.request import settings_by_method
from edgerec_bench.grid import GridPlan, Row
from edgerec_bench.record import over_seeds, with_spread

SPLIT = "random:70/10/20"
METHODS = ("uniform", "magnitude", "set", "rigl", "pep", "sparserec")


@dataclass(frozen=True)
class Reduced:
    """The reduced training of every method.

    Attributes:
        epochs: maximum number of epochs; PEP's search has as many in addition.
        settings: settings of the backbone; step sizes suit the number of epochs, and decrease over them.
        threshold: initial threshold of PEP before the sigmoid, chosen by hand (docs/research/sparse-training.md) by
            NDCG@20 on the validation part at `TUNED_AT` with seed 0.
        l2: values to try.
    """

    epochs: int
    settings: dict[str, Any]
    threshold: float
    l2: tuple[float, ...] = (0.0015, 0.005, 0.015)

    @property
    def pep(self) -> dict[str, Any]:
        """PEP's settings."""
        return {"threshold": self.threshold, "search_epochs": self.epochs}


REDUCED = {
    "mf": Reduced(16, {"decay": 0.8}, -8.0, l2=(0.0015, 0.005, 0.015, 0.05)),
    "gowalla/mf": Reduced(16, {"decay": 0.8}, -8.0, l2=(0.0015, 0.005, 0.015, 0.05, 0.15)),
    "lightgcn": Reduced(30, {"horizon": 30, "lr": 0.12}, -4.0),
    "gowalla/lightgcn": Reduced(
        12, {"horizon": 12, "lr": 0.12, "users": 2048, "popular": 0.5}, -4.0, l2=(0.005, 0.02, 0.05, 0.1)
    ),
}
"""Reduced trainings by backbone, or by data and backbone. LightGCN's epochs take minutes on Gowalla and seconds on
MovieLens-1M; with MF, `magnitude` needs more decay on Gowalla than any method on MovieLens-1M."""
# LightGCN's steps use the whole graph, so that sampling rows would save memory but no time.
_FIXED: dict[tuple[str, str], dict[str, Any]] = {("lightgcn", "sparserec"): {"backward": "dense"}}
TUNED_AT = "10%"
NAMES = ("data", "backbone", "method")
METRICS = ("ndcg@20", "recall@20")


@dataclass(frozen=True)
class Trial:
    """Settings to try for a method."""

    settings: dict[str, Any]
    method_settings: dict[str, Any]


def reduced(data: str, backbone: str) -> Reduced:
    """Return the entry of `REDUCED` for a backbone on a data set."""
    return REDUCED.get(f"{data}/{backbone}", REDUCED[backbone])


def trials(data: str, backbone: str, method: str, more: Mapping[str, Any] | None = None) -> list[Trial]:
    """Return the trials of a method, equally many for each, with the settings `more`."""
    how = reduced(data, backbone)
    fixed = how.pep if method == "pep" else _FIXED.get((backbone, method), {})
    return [Trial({**how.settings, "l2": l2}, {**fixed, **(more or {})}) for l2 in how.l2]


def plan(
    data: str, backbone: str, method: str, trial: Trial, budgets: Sequence[str], seeds: Sequence[int], dimensions: int
) -> GridPlan:
    """Return the grid plan of one method with the settings of one trial."""
    epochs = reduced(data, backbone).epochs
    return GridPlan.parse(
        {
            "data": data,
            "backbone": backbone,
            "method": method,
            "budget": list(budgets),
            "seed": list(seeds),
            "settings": {backbone: trial.settings},
            "method_settings": {method: trial.method_settings} if trial.method_settings else {},
            "split": SPLIT,
            "dimensions": dimensions,
            "epochs": epochs,
            "patience": epochs,
            "layout": "csr",
        }
    )


@dataclass(frozen=True)
class QualityComparison:
    """The comparison to run.

    Attributes:
        seeds: number of seeds: 0, 1, ...
        workers: number of cells that run at a time.
        grid: file of the cells' rows.
        method_settings: additional settings by method.
    """

    data: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: int
    dimensions: int
    workers: int
    grid: Path
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def rows_of(self, data: str, backbone: str, method: str, trial: Trial, budgets: Sequence[str], n: int) -> list[Row]:
        """Return the rows of the cells, computed if they are missing. Raises BenchError if a cell fails."""
        cells = plan(data, backbone, method, trial, budgets, range(n), self.dimensions)
        return grid_rows(cells, self.grid, workers=self.workers)

    def groups(self) -> Iterator[tuple[str, str]]:
        return product(self.data, self.backbones)


def chosen(comparison: QualityComparison, data: str, backbone: str, method: str) -> tuple[Trial, list[dict[str, Any]]]:
    """Return the trial that is best on the validation part, and the score of each trial."""
    tried = []
    more = comparison.method_settings.get(method, {})
    for trial in trials(data, backbone, method, more):
        (row,) = comparison.rows_of(data, backbone, method, trial, [TUNED_AT], 1)
        tried.append((row["metrics"]["validation"]["ndcg@20"], trial))
    best = max(tried, key=lambda pair: pair[0])[1]
    scores = [{"ndcg@20": score, **trial.settings, **trial.method_settings} for score, trial in tried]
    return best, scores


def measured(comparison: QualityComparison) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for each data set, backbone, budget and method, and the trials by data set, backbone and method."""
    rows: list[dict[str, Any]] = []
    tuned: dict[str, Any] = {}
    for data, backbone in comparison.groups():
        best = {}
        for method in comparison.methods:
            best[method], tuned[f"{data}/{backbone}/{method}"] = chosen(comparison, data, backbone, method)
        trained = {
            method: comparison.rows_of(data, backbone, method, best[method], comparison.budgets, comparison.seeds)
            for method in comparison.methods
        }
        for budget, method in product(comparison.budgets, comparison.methods):
            cells = [row for row in trained[method] if row["cell"]["budget"] in (budget, None)]
            rows.append(summary(data, backbone, budget, method, best[method], cells))
    return rows, tuned


def summary(data: str, backbone: str, budget: str, method: str, trial: Trial, cells: Sequence[Row]) -> dict[str, Any]:
    """Return the metrics of the exported bundles on the test part: of each seed, their mean and spread."""
    row: dict[str, Any] = {"data": data, "backbone": backbone, "budget": budget, "method": method}
    for metric in METRICS:
        row[metric] = over_seeds([cell["metrics"]["bundle"][metric] for cell in cells])
    row |= {"settings": trial.settings, "method_settings": trial.method_settings}
    return {**row, "epochs": [cell["epochs"] for cell in cells], "bundle_bytes": cells[0]["bundle_bytes"]}


def leads(rows: Sequence[Mapping[str, Any]], method: str = "sparserec") -> list[dict[str, Any]]:
    """Compare the mean NDCG@20 of `method` with the best other method in each cell of the table, with the spread."""
    found = []
    for key in dict.fromkeys((row["data"], row["backbone"], row["budget"]) for row in rows):
        here = {row["method"]: row["ndcg@20"] for row in rows if (row["data"], row["backbone"], row["budget"]) == key}
        if method not in here or len(here) < 2:
            continue
        other = max((name for name in here if name != method), key=lambda name: here[name]["mean"])
        lead = here[method]["mean"] - here[other]["mean"]
        spread = max(here[name]["stdev"] or 0.0 for name in (method, other))
        won = sum(ours > theirs for ours, theirs in zip(here[method]["seeds"], here[other]["seeds"], strict=True))
        found.append(
            {
                **dict(zip(("data", "backbone", "budget"), key, strict=True)),
                "best_other": other,
                "lead": lead,
                "relative": lead / here[other]["mean"],
                "spread": spread,
                "seeds_won": won,
                "ahead": lead > spread,
            }
        )
    return found


@experiment("sparse-quality", needs_out=True)
@click.option("--data", default="ml-1m,gowalla", show_default=True, help="Data sets, separated by commas.")
@click.option("--backbones", default="mf,lightgcn", show_default=True, help="Backbones, separated by commas.")
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Methods, separated by commas.")
@click.option("--budgets", default="20%,10%,5%", show_default=True, help="Budgets, separated by commas.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option(
    "--method-set",
    "method_settings",
    multiple=True,
    metavar="METHOD.NAME=VALUE",
    help="A setting of one method. Repeatable.",
)
@click.option("--workers", default=2, show_default=True, help="Number of cells that run at a time.")
@click.option("--grid", type=click.Path(path_type=Path), help="File of the cells' rows; by default OUT.cells.jsonl.")
def main(
    data: str,
    backbones: str,
    methods: str,
    budgets: str,
    seeds: int,
    dimensions: int,
    method_settings: tuple[str, ...],
    workers: int,
    grid: Path | None,
) -> Figures:
    """Tune, train, export and evaluate each method, and print a table."""
    data_names, backbone_names, method_names, budget_names = (
        tuple(text.split(",")) for text in (data, backbones, methods, budgets)
    )
    budget_names = tuple(str(Budget.parse(text)) for text in budget_names)  # normalised as in the grid
    rows_file = grid or next_to_out(".cells.jsonl")
    given = settings_by_method(method_settings, method_names)
    comparison = QualityComparison(
        data_names, backbone_names, method_names, budget_names, seeds, dimensions, workers, rows_file, given
    )
    rows, tuned = measured(comparison)
    ahead = leads(rows)
    _show(rows, ahead)
    had = {f"{data}/{backbone}": asdict(reduced(data, backbone)) for data, backbone in comparison.groups()}
    return {"split": SPLIT, "reduced": had, "tuned_at": TUNED_AT, "trials": tuned, "rows": rows, "leads": ahead}


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and lines of a table: for each data set, backbone and method, each metric by budget."""
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    found = {tuple(row[name] for name in (*NAMES, "budget")): row for row in rows}
    lines = [
        [*line, *(with_spread(found[*line, budget][metric]) for metric, budget in product(METRICS, budgets))]
        for line in dict.fromkeys(key[:-1] for key in found)
    ]
    return [*NAMES, *(f"{metric}, {budget}" for metric, budget in product(METRICS, budgets))], lines


def _show(rows: Sequence[Mapping[str, Any]], ahead: Sequence[Mapping[str, Any]]) -> None:
    print_table("", *table(rows))
    for lead in ahead:
        verdict = "ahead" if lead["ahead"] else "not ahead by more than the spread"
        where = f"{lead['data']} {lead['backbone']} {lead['budget']}"
        messages.print(f"{where}: {verdict}, {lead['relative']:+.1%} of {lead['best_other']}", markup=False)


if __name__ == "__main__":
    main()

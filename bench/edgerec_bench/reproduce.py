"""The protocol of CIESS and BET as a grid of cells, and its outcome compared with the papers' figures.

The split is random 50/25/25 within each user, with full ranking that masks train and validation, and rows of 128
dimensions at densities of 20, 10 and 5 %, counted in parameters. One size for all rows, random sizes and both searches
are trained alike: settings, epochs and sizes are chosen on validation, and the final model is trained again on train
and validation, as in the authors' code. Unlike there, averages are over users with a positive in the test part only.
Every bundle is exported in the layout mixed and evaluated by its own answers.

The papers' budgets apply to the ego rows of a graph backbone, and scores come from untruncated rows. With
`mask_at=ego` that model is trained, and its metrics are listed in addition to those of the bundle ('uncut' in files);
published figures are then compared with these.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgerec.budget import Budget
from edgerec.data import load_data
from edgerec.errors import BenchError
from edgerec.methods import METHODS, method
from edgerec.methods.search import searches
from edgerec_bench.grid import FULL, UNTRUNCATED, GridPlan, Row
from edgerec_bench.record import over_seeds, with_spread

PAPERS = {"ciess": "ml-1m", "bet": "gowalla"}
"""The papers, with the first data set of each."""
COMPARED = tuple(name for name in ("uniform", "random", "ciess", "bet") if name in METHODS)
BUDGETS = ("20%", "10%", "5%")
SPLIT = "random:50+25/25"
TOLERANCE = 1e-3
"""Largest difference of NDCG@20 between a bundle and its run."""
CLOSE = 0.97
"""Share of a published figure that counts as reached."""


@dataclass(frozen=True)
class ReproductionPlan:
    """The trainings of a reproduction.

    Attributes:
        paper: one of PAPERS, for the published figures.
        methods: methods to train, each at every budget.
        seeds: number of seeds of splits and trainings: 0, 1, ...
        epochs, patience: limits of trainings in full; None takes the backbone's defaults.
        settings: settings of the backbone.
        method_settings: settings by method.
        minutes: time limit of a cell in one call.
        encoding: character encoding of the data's text files; None for UTF-8 or Latin-1.
    """

    paper: str
    data: str
    backbone: str = "lightgcn"
    methods: tuple[str, ...] = COMPARED
    budgets: tuple[str, ...] = BUDGETS
    seeds: int = 3
    dimensions: int = 128
    epochs: int | None = None
    patience: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    minutes: float = 60.0
    encoding: str | None = None

    def plan(self) -> GridPlan:
        """Return the grid plan. Raises BenchError, BudgetError."""
        limits = {"epochs": self.epochs, "patience": self.patience, "encoding": self.encoding}
        return GridPlan.parse(
            {
                "data": self.data,
                "backbone": self.backbone,
                "method": list(self.methods),
                "budget": list(self.budgets),
                "seed": list(range(self.seeds)),
                "split": SPLIT,
                "dimensions": self.dimensions,
                "layout": "mixed",
                "settings": {self.backbone: dict(self.settings)},
                "method_settings": {name: dict(own) for name, own in self.method_settings.items()},
                "timeout_minutes": self.minutes,
                **{name: value for name, value in limits.items() if value is not None},
            }
        )


def for_searches(methods: Sequence[str], backbone: str, common: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return common settings by method, for the methods that search and have them; None values are left out.

    Raises BenchError for a setting that no such method has.
    """
    given = {name: value for name, value in common.items() if value is not None}
    configs = {name: method(name, backbone) for name in methods}
    own = {name: found.config for name, found in configs.items() if searches(found)}
    unknown = [name for name in given if not any(name in config.__dataclass_fields__ for config in own.values())]
    if unknown:
        raise BenchError(f"none of the methods {', '.join(methods)} has a setting {', '.join(unknown)}; leave it out")
    return {
        name: {key: value for key, value in given.items() if key in config.__dataclass_fields__}
        for name, config in own.items()
    }


def outcome(plan: ReproductionPlan, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of a grid's rows: means and spreads over the seeds, and those of the paper if it has them."""
    name = load_data(plan.data, encoding=plan.encoding).name
    printed = published(plan.paper, name.lower(), plan.backbone)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["cell"]["seed"]):
        groups.setdefault((row["cell"]["budget"] or FULL, row["cell"]["method"]), []).append(row)
    # Normalised as in the grid; full rows have no budget.
    budgets = dict.fromkeys([FULL, *(str(Budget.parse(budget)) for budget in plan.budgets)])
    places = [(budget, name) for budget in budgets for name in plan.methods]
    return {
        "paper": plan.paper,
        "data": name,
        "backbone": plan.backbone,
        "split": SPLIT,
        "dimensions": plan.dimensions,
        "epochs": plan.epochs,
        "patience": plan.patience,
        "settings": dict(plan.settings),
        # A folder of searches belongs to one machine, and does not change the outcome.
        "method_settings": {
            method: {key: value for key, value in own.items() if key != "search"}
            for method, own in plan.method_settings.items()
        },
        "rows": [_row(*place, groups[place], printed.get(place)) for place in places if place in groups],
    }


def _row(budget: str, name: str, group: Sequence[Row], printed: dict[str, float] | None) -> dict[str, Any]:
    figures = {metric: over_seeds([row["metrics"]["run"][metric] for row in group]) for metric in METRICS}
    untruncated = None
    if all(UNTRUNCATED in row["metrics"] for row in group):
        untruncated = {metric: over_seeds([row["metrics"][UNTRUNCATED][metric] for row in group]) for metric in METRICS}
    counted = untruncated or figures
    differences = [abs(row["metrics"]["run"]["ndcg@20"] - row["metrics"]["bundle"]["ndcg@20"]) for row in group]
    return {
        "budget": budget,
        "method": name,
        **figures,
        UNTRUNCATED: untruncated,
        "published": printed,
        "of_published": {metric: counted[metric]["mean"] / printed[metric] for metric in METRICS} if printed else None,
        "epochs": [row["epochs"] for row in group],
        "bundle_bytes": [row["bundle_bytes"] for row in group],
        "bundle_ndcg_differs_by": max(differences),
    }


def shown(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and cells of a table: our figures with spreads, those before truncation if known, the paper's,
    and the ratios of ours to the paper's."""
    short = [f"{metric[0].upper()}@{metric.partition('@')[2]}" for metric in METRICS]
    untruncated = any(row.get(UNTRUNCATED) for row in rows)
    columns = ["density", "method", *short, *(f"{name} untruncated" for name in short if untruncated)]
    columns += [*(f"paper's {name}" for name in short), "R@20 of paper's", "N@20 of paper's"]
    cells = []
    for row in rows:
        ours = [with_spread(row[metric]) for metric in METRICS]
        if untruncated:
            ours += [with_spread(row[UNTRUNCATED][metric]) if row.get(UNTRUNCATED) else "-" for metric in METRICS]
        theirs = [f"{row['published'][metric]:.4f}" if row["published"] else "-" for metric in METRICS]
        ratios = [f"{row['of_published'][m]:.3f}" if row["of_published"] else "-" for m in ("recall@20", "ndcg@20")]
        cells.append([row["budget"], row["method"], *ours, *theirs, *ratios])
    return columns, cells


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences that compare the figures with the papers, with uniform sizes, and with those of the bundles."""
    sentences = []
    known = [(row, metric) for row in rows if row["of_published"] for metric in ("recall@20", "ndcg@20")]
    if known:
        near = sum(row["of_published"][metric] >= CLOSE for row, metric in known)
        sentences.append(f"{near} of {len(known)} figures are within 3 % of the paper's or above")
    else:
        sentences.append("the paper prints no figures for these data, budgets and backbone")
    means = {
        (row["budget"], row["method"], m): (row.get(UNTRUNCATED) or row)[m]["mean"]
        for row in rows
        for m in ("recall@20", "ndcg@20")
    }
    for name in dict.fromkeys(row["method"] for row in rows):
        pairs = [
            (v, means[b, "uniform", m])
            for (b, own, m), v in means.items()
            if own == name and (b, "uniform", m) in means
        ]
        if name != "uniform" and pairs:
            sentences.append(f"{name} is above uniform in {sum(a > b for a, b in pairs)} of {len(pairs)} figures")
    worst = max((row["bundle_ndcg_differs_by"] for row in rows), default=0.0)
    sentences.append(f"bundles' own NDCG@20 differs from the runs' by {worst:.1g} at most")
    return sentences


def searches_folder(out: Path) -> Path:
    """Return the folder of searches that serve several budgets."""
    return out.with_suffix(".searches")


METRICS = ("recall@5", "recall@20", "ndcg@5", "ndcg@20")
"""The figures of every cell, in this order."""


def published(paper: str, data: str, backbone: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return the published metrics by budget (a density) and method; empty if the paper has no such table."""
    rows = csv.DictReader(files("edgerec_bench").joinpath("published.csv").read_text().splitlines())
    return {
        (row["density"], row["method"]): {metric: float(row[f"{backbone} {metric}"]) for metric in METRICS}
        for row in rows
        if (row["paper"], row["data"]) == (paper, data) and f"{backbone} {METRICS[0]}" in row
    }

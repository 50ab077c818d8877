"""The protocol of CIESS and BET, as a grid of cells, and its outcome beside what the papers print.

50/25/25 at random inside each user, full ranking with train and validation masked, rows of 128 dimensions of which 20,
10 and 5 % are kept, counted in parameters. One size for all rows, sizes at random and both searches are trained alike:
settings, epochs and sizes are chosen with train on validation, and the final model is trained once more on both, as the
authors' code does. Unlike there, only users with a positive in the test part are averaged. Every bundle is exported in
the layout mixed, and asked itself.

The papers' budgets are of the ego rows of a graph's backbone, and what scores is not cut. With `mask_at=ego` that is
trained, and told beside what ships ('uncut'); it is then what the published figures are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgerec.budget import Budget
from edgerec.data import load_data
from edgerec.errors import BenchError
from edgerec.methods import METHODS, method
from edgerec.methods.search import searches
from edgerec_bench.grid_plan import FULL, Plan
from edgerec_bench.grid_rows import Row
from edgerec_bench.published import METRICS, published
from edgerec_bench.record import over_seeds, with_spread

PAPERS = {"ciess": "ml-1m", "bet": "gowalla"}
"""The papers, and the first of each one's data sets."""
COMPARED = tuple(name for name in ("uniform", "random", "ciess", "bet") if name in METHODS)
BUDGETS = ("20%", "10%", "5%")
SPLIT = "random:50+25/25"
TOLERANCE = 1e-3
"""By which a bundle's own NDCG@20 may differ from its run's."""
CLOSE = 0.97
"""Of a published figure: what counts as reached."""


@dataclass(frozen=True)
class Wanted:
    """What is trained.

    Attributes:
        paper: one of PAPERS, for what it prints.
        methods: one row a budget each.
        seeds: of splits and trainings: 0, 1, ...
        epochs, patience: of trainings in full, at most; None for the backbone's.
        settings: of the backbone.
        method_settings: by method.
        minutes: that a cell may take in one call.
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

    def plan(self) -> Plan:
        """The grid. Raises BenchError, BudgetError."""
        limits = {"epochs": self.epochs, "patience": self.patience}
        return Plan.parse(
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
    """Settings, by method, of those that search and know them; None leaves one out.

    Raises BenchError for a setting that none of them knows.
    """
    given = {name: value for name, value in common.items() if value is not None}
    configs = {name: method(name, backbone) for name in methods}
    own = {name: made.config for name, made in configs.items() if searches(made)}
    unknown = [name for name in given if not any(name in config.__dataclass_fields__ for config in own.values())]
    if unknown:
        raise BenchError(f"none of the methods {', '.join(methods)} has a setting {', '.join(unknown)}; leave it out")
    return {
        name: {key: value for key, value in given.items() if key in config.__dataclass_fields__}
        for name, config in own.items()
    }


def outcome(wanted: Wanted, rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of a grid's rows: means and spreads over the seeds, and those of the paper where it has them."""
    name = load_data(wanted.data).name
    printed = published(wanted.paper, name.lower(), wanted.backbone)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["cell"]["seed"]):
        groups.setdefault((row["cell"]["budget"] or FULL, row["cell"]["method"]), []).append(row)
    # As the grid spells them; full rows know no budget.
    budgets = dict.fromkeys([FULL, *(str(Budget.parse(budget)) for budget in wanted.budgets)])
    places = [(budget, name) for budget in budgets for name in wanted.methods]
    return {
        "paper": wanted.paper,
        "data": name,
        "backbone": wanted.backbone,
        "split": SPLIT,
        "dimensions": wanted.dimensions,
        "epochs": wanted.epochs,
        "patience": wanted.patience,
        "settings": dict(wanted.settings),
        # A folder of searches is of one machine, and decides nothing.
        "method_settings": {
            method: {key: value for key, value in own.items() if key != "search"}
            for method, own in wanted.method_settings.items()
        },
        "rows": [_row(*place, groups[place], printed.get(place)) for place in places if place in groups],
    }


def _row(budget: str, name: str, group: Sequence[Row], printed: dict[str, float] | None) -> dict[str, Any]:
    figures = {metric: over_seeds([row["metrics"]["run"][metric] for row in group]) for metric in METRICS}
    uncut = None
    if all("uncut" in row["metrics"] for row in group):
        uncut = {metric: over_seeds([row["metrics"]["uncut"][metric] for row in group]) for metric in METRICS}
    counted = uncut or figures
    differences = [abs(row["metrics"]["run"]["ndcg@20"] - row["metrics"]["bundle"]["ndcg@20"]) for row in group]
    return {
        "budget": budget,
        "method": name,
        **figures,
        "uncut": uncut,
        "published": printed,
        "of_published": {metric: counted[metric]["mean"] / printed[metric] for metric in METRICS} if printed else None,
        "epochs": [row["epochs"] for row in group],
        "bundle_bytes": [row["bundle_bytes"] for row in group],
        "bundle_ndcg_differs_by": max(differences),
    }


def shown(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a table: ours with spreads, before the cut too where that is known, the paper's, and ours
    over the paper's."""
    short = [f"{metric[0].upper()}@{metric.partition('@')[2]}" for metric in METRICS]
    uncut = any(row.get("uncut") for row in rows)
    columns = ["kept", "method", *short, *(f"{name} uncut" for name in short if uncut)]
    columns += [*(f"paper's {name}" for name in short), "R@20 of paper's", "N@20 of paper's"]
    cells = []
    for row in rows:
        ours = [with_spread(row[metric]) for metric in METRICS]
        if uncut:
            ours += [with_spread(row["uncut"][metric]) if row.get("uncut") else "-" for metric in METRICS]
        theirs = [f"{row['published'][metric]:.4f}" if row["published"] else "-" for metric in METRICS]
        ratios = [f"{row['of_published'][m]:.3f}" if row["of_published"] else "-" for m in ("recall@20", "ndcg@20")]
        cells.append([row["budget"], row["method"], *ours, *theirs, *ratios])
    return columns, cells


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on what the figures say: beside the papers, against one size for all, and of the bundles."""
    said = []
    known = [(row, metric) for row in rows if row["of_published"] for metric in ("recall@20", "ndcg@20")]
    if known:
        near = sum(row["of_published"][metric] >= CLOSE for row, metric in known)
        said.append(f"{near} of {len(known)} figures are within 3 % of the paper's or above")
    else:
        said.append("the paper prints no figures for these data, budgets and backbone")
    means = {
        (row["budget"], row["method"], m): (row.get("uncut") or row)[m]["mean"]
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
            said.append(f"{name} is above uniform in {sum(a > b for a, b in pairs)} of {len(pairs)} figures")
    worst = max((row["bundle_ndcg_differs_by"] for row in rows), default=0.0)
    said.append(f"bundles' own NDCG@20 differs from the runs' by {worst:.1g} at most")
    return said


def searches_folder(out: Path) -> Path:
    """Where searches that serve several budgets are kept."""
    return out.with_suffix(".searches")

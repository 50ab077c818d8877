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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
BACKBONES = ("lightgcn", "ngcf", "ncf")
"""The columns of a table; each backbone has METRICS."""

_TABLES = {
    ("ciess", "ml-1m"): """
        20% pep      .0771 .2098 .4346 .3778  .0806 .2138 .4382 .3798  .0725 .2045 .4054 .3603
        20% uniform  .0825 .2248 .4536 .3969  .0803 .2232 .4281 .3858  .0779 .2080 .4121 .3682
        20% random   .0737 .2004 .4211 .3648  .0748 .2053 .4202 .3693  .0692 .1914 .3787 .3374
        20% ciess    .0920 .2436 .4854 .4257  .0800 .2148 .4442 .3854  .0792 .2221 .4233 .3828
        10% pep      .0733 .1988 .4237 .3641  .0794 .2092 .4309 .3727  .0723 .2033 .4053 .3591
        10% uniform  .0778 .2105 .4376 .3787  .0747 .2069 .4149 .3679  .0694 .1973 .4011 .3546
        10% random   .0663 .1802 .3948 .3383  .0745 .2056 .4122 .3660  .0605 .1703 .3523 .3127
        10% ciess    .0846 .2248 .4631 .4023  .0782 .2082 .4385 .3779  .0759 .2131 .4216 .3750
        5% pep      .0659 .1789 .3876 .3315  .0762 .2020 .4248 .3618  .0697 .1955 .3864 .3379
        5% uniform  .0646 .1752 .3847 .3272  .0736 .1977 .4134 .3595  .0666 .1841 .3881 .3358
        5% random   .0594 .1634 .3657 .3119  .0728 .1958 .4152 .3593  .0595 .1637 .3575 .3072
        5% ciess    .0744 .2009 .4264 .3664  .0774 .2055 .4333 .3727  .0707 .1982 .4082 .3587
    """,
    ("ciess", "yelp2018"): """
        20% pep      .0253 .0723 .0605 .0682  .0086 .0275 .0167 .0223  .0130 .0406 .0236 .0327
        20% uniform  .0289 .0822 .0665 .0758  .0223 .0665 .0517 .0603  .0131 .0465 .0226 .0351
        20% random   .0253 .0783 .0588 .0698  .0212 .0618 .0499 .0573  .0101 .0342 .0183 .0268
        20% ciess    .0292 .0839 .0692 .0783  .0233 .0701 .0566 .0652  .0175 .0533 .0377 .0474
        10% pep      .0224 .0657 .0531 .0610  .0080 .0276 .0153 .0215  .0139 .0427 .0242 .0335
        10% uniform  .0230 .0722 .0544 .0648  .0205 .0622 .0528 .0592  .0119 .0416 .0201 .0309
        10% random   .0210 .0642 .0476 .0573  .0195 .0573 .0449 .0524  .0089 .0309 .0170 .0242
        10% ciess    .0263 .0730 .0649 .0705  .0232 .0669 .0551 .0619  .0153 .0500 .0350 .0442
        5% pep      .0199 .0600 .0496 .0561  .0075 .0259 .0143 .0206  .0125 .0399 .0244 .0330
        5% uniform  .0217 .0624 .0494 .0571  .0196 .0573 .0496 .0545  .0091 .0303 .0174 .0238
        5% random   .0195 .0583 .0465 .0540  .0175 .0528 .0415 .0486  .0078 .0275 .0145 .0216
        5% ciess    .0230 .0657 .0534 .0640  .0222 .0662 .0540 .0613  .0157 .0483 .0383 .0446
    """,
    ("bet", "gowalla"): """
        20% pep      .0715 .1588 .1189 .1347  .0656 .1524 .1049 .1245  .0498 .1282 .0704 .0957
        20% uniform  .0756 .1674 .1219 .1400  .0619 .1466 .0961 .1170  .0481 .1235 .0662 .0916
        20% random   .0708 .1583 .1150 .1323  .0512 .1223 .0815 .0982  .0478 .1243 .0656 .0910
        20% ciess    .0777 .1750 .1263 .1461  .0676 .1504 .1084 .1251  .0550 .1307 .0744 .0997
        20% bet      .0797 .1753 .1303 .1483  .0643 .1454 .1039 .1204  .0511 .1294 .0723 .0973
        10% pep      .0594 .1274 .0992 .1102  .0552 .1327 .0914 .1081  .0414 .1121 .0631 .0839
        10% uniform  .0646 .1477 .1041 .1217  .0589 .1380 .0935 .1115  .0413 .1112 .0548 .0796
        10% random   .0617 .1403 .1013 .1171  .0466 .1123 .0764 .0911  .0399 .1069 .0536 .0769
        10% ciess    .0721 .1589 .1193 .1353  .0601 .1380 .0980 .1140  .0448 .1131 .0613 .0841
        10% bet      .0736 .1620 .1212 .1376  .0623 .1426 .1012 .1177  .0434 .1122 .0648 .0845
        5% pep      .0372 .0803 .0666 .0712  .0247 .0674 .0471 .0554  .0351 .0897 .0591 .0712
        5% uniform  .0446 .1085 .0727 .0872  .0527 .1213 .0870 .1007  .0336 .0952 .0478 .0682
        5% random   .0500 .1178 .0834 .0975  .0438 .1040 .0739 .0859  .0329 .0918 .0489 .0674
        5% ciess    .0513 .1214 .0853 .0997  .0505 .1129 .0856 .0964  .0361 .0933 .0567 .0717
        5% bet      .0627 .1374 .1037 .1171  .0528 .1172 .0883 .0998  .0388 .0963 .0616 .0756
    """,
    ("bet", "yelp2018"): """
        20% pep      .0253 .0723 .0605 .0682  .0086 .0275 .0167 .0223  .0130 .0406 .0236 .0327
        20% uniform  .0289 .0822 .0665 .0758  .0223 .0665 .0517 .0603  .0131 .0465 .0226 .0351
        20% random   .0253 .0783 .0588 .0698  .0212 .0618 .0499 .0573  .0101 .0342 .0183 .0268
        20% ciess    .0292 .0839 .0692 .0783  .0233 .0701 .0566 .0652  .0175 .0533 .0377 .0474
        20% bet      .0310 .0873 .0726 .0816  .0254 .0741 .0601 .0685  .0194 .0620 .0451 .0554
        10% pep      .0224 .0657 .0531 .0610  .0080 .0276 .0153 .0215  .0139 .0427 .0242 .0335
        10% uniform  .0230 .0722 .0544 .0648  .0205 .0622 .0528 .0592  .0119 .0416 .0201 .0309
        10% random   .0210 .0642 .0476 .0573  .0195 .0573 .0449 .0524  .0089 .0309 .0170 .0242
        10% ciess    .0263 .0730 .0649 .0705  .0232 .0669 .0551 .0619  .0153 .0500 .0350 .0442
        10% bet      .0284 .0816 .0674 .0762  .0246 .0736 .0586 .0676  .0173 .0565 .0400 .0499
        5% pep      .0199 .0600 .0496 .0561  .0075 .0259 .0143 .0206  .0125 .0399 .0244 .0330
        5% uniform  .0217 .0624 .0494 .0571  .0196 .0573 .0496 .0545  .0091 .0303 .0174 .0238
        5% random   .0195 .0583 .0465 .0540  .0175 .0528 .0415 .0486  .0078 .0275 .0145 .0216
        5% ciess    .0230 .0657 .0534 .0640  .0222 .0662 .0540 .0613  .0157 .0483 .0383 .0446
        5% bet      .0255 .0727 .0596 .0676  .0216 .0639 .0505 .0588  .0170 .0545 .0404 .0491
    """,
}


def published(paper: str, data: str, backbone: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return the published metrics by budget (a density) and method; empty if the paper has no such table."""
    if (paper, data) not in _TABLES or backbone not in BACKBONES:
        return {}
    first = 2 + len(METRICS) * BACKBONES.index(backbone)
    rows = [line.split() for line in _TABLES[paper, data].strip().splitlines()]
    return {(row[0], row[1]): dict(zip(METRICS, map(float, row[first:]), strict=False)) for row in rows}

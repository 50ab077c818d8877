"""The page of `edgerec fit`: the bundle in two sentences, the chart of everything tried, and a table with commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgerec.budget import format_bytes
from edgerec.fitting import Exported, Fitted, Study, frontier
from edgerec_bench.record import now
from edgerec_bench.reports.charts import (
    INK,
    add_legend,
    bytes_tick,
    colour_of,
    drawing,
    inline,
    legend_height,
    marker_of,
    whole_powers,
)
from edgerec_bench.reports.frontier_page import SHAPES
from edgerec_bench.reports.html import Cell, Column, bytes_cell, write_template
from edgerec_devices import Local
from edgerec_devices.facts import MOMENTARY

Commands = Callable[[Any, Any, int], list[str]]
"""Returns the commands of a recipe, a variant and a size."""
OTHER = "chosen training, other sizes"
SHOWN = 25
"""Number of bundles in the table, best first."""


class _Bundle(NamedTuple):
    name: str
    backbone: str
    one: Exported
    trial: int


def write_page(out: Path, fitted: Fitted, commands: Commands, command: str) -> None:
    """Write the page `out`. Raises StorageError.

    Args:
        commands: gives the commands of a bundle.
        command: command line of the fit.
    """
    study, bundles = fitted.study, _bundles(fitted.study)
    best = sorted(bundles, key=lambda one: -study.score(one.one))
    facts = {name: str(value) for name, value in Local().info().items() if name not in MOMENTARY}
    write_template(
        out,
        "fit.html.jinja",
        title=headline(fitted),
        subject=f"{fitted.out.name}: the best of {_count(bundles, 'bundle')} of {_count(study.trials, 'training')}",
        second=rival_sentence(fitted),
        build=commands(fitted.recipe, fitted.variant, fitted.limit),
        notes=study.failures,
        charts={shape: chart(fitted, shape) for shape in SHAPES} if bundles else {},
        columns=[Column(name) for name in ("", "bytes", f"validation {study.metric}", "coverage@20", "ms", "seconds")],
        rows=[_row(study, one) for one in best[:SHOWN]],
        listed=[
            (one.name, commands(study.trials[one.trial].recipe, one.one.variant, _limit(one.one)))
            for one in best[:SHOWN]
        ],
        device={"measured": [now()], **{name.replace("_", " "): [value] for name, value in facts.items()}},
        command=command,
    )


def _count(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def headline(fitted: Fitted) -> str:
    """Return the sentence about the bundle's size and quality."""
    name, size, metric = fitted.out.name, format_bytes(fitted.nbytes), fitted.study.metric
    how = f"{fitted.recipe.name}, {fitted.variant.name}"
    if fitted.test is None:
        return f"{name} takes {size} ({how}); it was trained on all data, and is not measured."
    return f"{name} reaches {metric} {fitted.test[metric]:.4f} on test data in {size} ({how})."


def rival_sentence(fitted: Fitted) -> str:
    """Return the sentence that compares the choice with the best bundle of another backbone, on validation data."""
    study = fitted.study
    others = [
        one for one in _bundles(study) if one.backbone != fitted.recipe.backbone and one.one.nbytes <= fitted.limit
    ]
    if not others:
        return (
            f"No bundle of another backbone was measured within {format_bytes(fitted.limit)}; search longer to compare."
        )
    rival = max(others, key=lambda one: study.score(one.one))
    share = study.score(rival.one) / fitted.validation - 1 if fitted.validation else 0.0
    return (
        f"On validation data it has {study.metric} {fitted.validation:.4f}; the best of another backbone is "
        f"{rival.name} with {study.score(rival.one):.4f} ({share:+.1%}) in {format_bytes(rival.one.nbytes)}."
    )


def _bundles(study: Study) -> list[_Bundle]:
    return [
        _Bundle(f"{trial.recipe.name}, {one.variant.name}", trial.recipe.backbone, one, number)
        for number, trial in enumerate(study.trials)
        for one in trial.bundles
    ]


def _limit(one: Exported) -> int:
    return one.max_bytes or one.nbytes


def _row(study: Study, bundle: _Bundle) -> list[Cell]:
    one = bundle.one
    figures = f"{study.score(one):.4f}", f"{one.metrics['coverage@20']:.3f}", f"{one.ms:.2f}"
    seconds = f"{study.trials[bundle.trial].seconds:.0f}"
    return [Cell(bundle.name), bytes_cell(one.nbytes), *map(Cell, (*figures, seconds))]


def chart(fitted: Fitted, shape: str = "wide") -> str:
    """Draw every bundle as an <svg> element: a colour and a shape a backbone, the front as a line, the choice ringed.

    Args:
        shape: of `SHAPES`.
    """
    study, bundles = fitted.study, _bundles(fitted.study)
    width, height = SHAPES[shape]
    everything: Sequence[Exported] = [one.one for one in bundles] + study.sizes
    backbones = sorted({one.backbone for one in bundles})
    names = [*backbones, "front", "chosen", *([OTHER] if study.sizes else [])]
    with drawing(height + legend_height(names), width) as (figure, axes):
        best = frontier(everything, study.metric)
        axes.step(
            [one.nbytes for one in best], [study.score(one) for one in best], where="post", color=INK, label="front"
        )
        for number, backbone in enumerate(backbones):
            own = [one.one for one in bundles if one.backbone == backbone]
            axes.scatter(
                [one.nbytes for one in own], [study.score(one) for one in own],
                s=30, marker=marker_of(number), color=colour_of(number), label=backbone, zorder=3,
            )  # fmt: skip
        if study.sizes:
            sizes = sorted(study.sizes, key=lambda one: one.nbytes)
            axes.plot(
                [one.nbytes for one in sizes], [study.score(one) for one in sizes],
                color=INK, linestyle="--", marker=".", alpha=0.6, label=OTHER,
            )  # fmt: skip
        chosen = study.trials[(study.final or {})["trial"]].bundles
        at = max(chosen, key=study.score).nbytes
        axes.scatter(
            at, fitted.validation, s=190, facecolors="none", edgecolors=INK, linewidths=1.4, label="chosen", zorder=5
        )
        axes.set_xlabel("bytes of the bundle, all its files")
        axes.set_ylabel(f"validation {study.metric} of its answers")
        axes.set_xscale("log", base=2)
        axes.set_xlim(*whole_powers([one.nbytes for one in everything]))
        axes.xaxis.set_major_formatter(bytes_tick)
        axes.grid(alpha=0.18, color=INK)
        add_legend(figure)
        return inline(figure, "validation quality against bytes")

"""The page of `edgerec fit`: the bundle in two sentences, its bytes and some answers, all that was tried, commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgerec.budget import format_bytes, front
from edgerec.data import Interactions
from edgerec.fitting import Exported, Fitted, Study
from edgerec.measure import recommend_to
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import FILE_NAME, Manifest, section_name
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
LIMIT = "size limit"
SHOWN = 25
"""Number of bundles in the table, best first."""
EXAMPLES, HISTORY, ANSWERS = 5, 5, 5
"""Numbers of users whose recommendations are shown, of the items of each history, and of the recommended items."""


class _Bundle(NamedTuple):
    name: str
    backbone: str
    one: Exported
    trial: int
    score: float


def write_page(out: Path, fitted: Fitted, interactions: Interactions, commands: Commands, command: str) -> None:
    """Write the page `out`. Raises StorageError.

    Args:
        interactions: the data, for examples of recommendations.
        commands: gives the commands of a bundle.
        command: command line of the fit.
    """
    study, bundles = fitted.study, _bundles(fitted.study)
    best = sorted(bundles, key=lambda one: -one.score)
    with Recommender.load(fitted.out) as model:
        manifest, shown = model.manifest, examples(model, interactions)
    facts = {name: str(value) for name, value in Local().info().items() if name not in MOMENTARY}
    write_template(
        out,
        "fit.html.jinja",
        title=headline(fitted),
        subject=f"{fitted.out.name}: the best of {_count(bundles, 'bundle')} of {_count(study.trials, 'training')}",
        second=rival_sentence(fitted),
        build=commands(fitted.recipe, fitted.variant, fitted.limit),
        parts=[[Cell(name), bytes_cell(size, f"{size / fitted.nbytes:.0%}")] for name, size in parts(manifest)],
        part_columns=[Column("part"), Column("bytes")],
        splits=1 + max((one.split for one in study.repeats), default=0),
        limit=format_bytes(fitted.limit),
        examples=shown,
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


def parts(manifest: Manifest) -> list[tuple[str, int]]:
    """Return the parts of a bundle with their bytes, largest first: sections of the tables, graphs and other files."""
    sections = {section_name(name): section.nbytes for name, section in manifest.sections.items()}
    kinds = {".onnx": "graphs", ".json": FILE_NAME, ".md": "card", ".sig": "signature"}
    others: dict[str, int] = {FILE_NAME: manifest.own_bytes}
    for entry in manifest.files:
        kind = kinds.get(Path(entry.name).suffix, "alignment of the tables")
        others[kind] = others.get(kind, 0) + entry.bytes
    if "alignment of the tables" in others:
        others["alignment of the tables"] -= sum(sections.values())
    found = {**sections, **others}
    if rest := manifest.nbytes - sum(found.values()):
        found["alignment"] = rest
    return sorted(found.items(), key=lambda part: -part[1])


def examples(model: Recommender, interactions: Interactions) -> list[tuple[list[str], list[str]]]:
    """Return the latest items of some users, drawn once, and what the bundle recommends to them, by title if there are.

    The order of a history is by time, if the data have times.
    """
    names = interactions.item_ids if interactions.titles is None else interactions.titles
    by_id = dict(zip(interactions.item_ids.tolist(), names.tolist(), strict=True))
    rows = np.flatnonzero(interactions.user_counts() >= HISTORY)
    found = []
    for row in np.sort(np.random.default_rng(0).permutation(rows)[:EXAMPLES]):
        span = slice(interactions.indptr[row], interactions.indptr[row + 1])
        items = interactions.indices[span]
        if interactions.timestamps is not None:
            items = items[np.argsort(interactions.timestamps[span], kind="stable")]
        history = interactions.item_ids[items].tolist()
        answer = recommend_to(model, interactions.user_ids[row].item(), history, ANSWERS)
        latest = [str(by_id[item] or item) for item in history[::-1][:HISTORY]]
        found.append((latest, [str(by_id[one.item] or one.item) for one in answer]))
    return found


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
    rival = max(others, key=lambda one: one.score)
    share = rival.score / fitted.validation - 1 if fitted.validation else 0.0
    return (
        f"On validation data it has {study.metric} {fitted.validation:.4f}; the best of another backbone is "
        f"{rival.name} with {rival.score:.4f} ({share:+.1%}) in {format_bytes(rival.one.nbytes)}."
    )


def _bundles(study: Study) -> list[_Bundle]:
    return [
        _Bundle(f"{trial.recipe.name}, {one.variant.name}", trial.recipe.backbone, one, number, study.mean(number, one))
        for number, trial in enumerate(study.trials)
        for one in trial.bundles
    ]


def _limit(one: Exported) -> int:
    return one.max_bytes or one.nbytes


def _row(study: Study, bundle: _Bundle) -> list[Cell]:
    one = bundle.one
    figures = f"{bundle.score:.4f}", f"{one.metrics['coverage@20']:.3f}", f"{one.ms:.2f}"
    seconds = f"{study.trials[bundle.trial].seconds:.0f}"
    return [Cell(bundle.name), bytes_cell(one.nbytes), *map(Cell, (*figures, seconds))]


def chart(fitted: Fitted, shape: str = "wide") -> str:
    """Draw every bundle as an <svg> element: a colour and a shape a backbone, the front as a line, the choice ringed.

    Args:
        shape: of `SHAPES`.
    """
    study, bundles = fitted.study, _bundles(fitted.study)
    width, height = SHAPES[shape]
    points = [(one.one.nbytes, one.score) for one in bundles]
    sizes = sorted((one.nbytes, study.score(one)) for one in study.sizes)
    backbones = sorted({one.backbone for one in bundles})
    limited = study.command["max_bytes"] is not None
    names = [*backbones, "front", "chosen", *([OTHER] if study.sizes else []), *([LIMIT] if limited else [])]
    with drawing(height + legend_height(names), width) as (figure, axes):
        best = front([*points, *sizes], nbytes=lambda point: point[0], score=lambda point: point[1])
        axes.step([nbytes for nbytes, _ in best], [score for _, score in best], where="post", color=INK, label="front")
        for number, backbone in enumerate(backbones):
            own = [point for point, one in zip(points, bundles, strict=True) if one.backbone == backbone]
            axes.scatter(
                [nbytes for nbytes, _ in own], [score for _, score in own],
                s=30, marker=marker_of(number), color=colour_of(number), label=backbone, zorder=3,
            )  # fmt: skip
        if sizes:
            axes.plot(
                [nbytes for nbytes, _ in sizes], [score for _, score in sizes],
                color=INK, linestyle="--", marker=".", alpha=0.6, label=OTHER,
            )  # fmt: skip
        chosen = (study.final or {})["trial"]
        at = max((one for one in bundles if one.trial == chosen), key=lambda one: one.score).one.nbytes
        axes.scatter(
            at, fitted.validation, s=190, facecolors="none", edgecolors=INK, linewidths=1.4, label="chosen", zorder=5
        )
        if limited:
            axes.axvline(fitted.limit, color=INK, linestyle=":", alpha=0.7, label=LIMIT)
        axes.set_xlabel("bytes of the bundle, all its files")
        axes.set_ylabel(f"validation {study.metric} of its answers")
        axes.set_xscale("log", base=2)
        axes.set_xlim(*whole_powers([nbytes for nbytes, _ in [*points, *sizes]]))
        axes.xaxis.set_major_formatter(bytes_tick)
        axes.grid(alpha=0.18, color=INK)
        add_legend(figure)
        return inline(figure, "validation quality against bytes")

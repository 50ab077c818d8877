"""Results of streams on one self-contained page: quality, bytes and sizes over time, and the segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edgerec.budget import format_bytes
from edgerec.methods.stream.result import METRICS, SegmentResult, StreamResult
from edgerec_bench.reports.charts import by_step
from edgerec_bench.reports.html import Cell, Column, bytes_cell, write_template
from edgerec_bench.reports.plots import Plot

METRIC = "ndcg@20"
SIZE = "size of the tables"
COLUMNS = (
    "segment",
    "users",
    "items",
    "new",
    "values",
    "budget",
    "tables",
    "values a user",
    "values an item",
    *METRICS,
)
_TENTHS = {"top tenth": -1, "bottom tenth": 0}
"""Tenths of the rows by their interactions; places in `SegmentResult.sizes`."""

_SIZES = "mean sizes of the tenth of the rows with the most interactions, and of that with the fewest."


def write_page(out: Path, streams: Mapping[str, StreamResult]) -> None:
    """Write the page `out` of streams by their names. Raises StorageError."""
    write_template(
        out,
        "stream.html.jinja",
        title=stream_sentence(streams),
        plots=stream_plots(streams),
        columns=[Column(name) for name in COLUMNS],
        streams=[
            (name, _origin(result), [*map(_row, result.segments)], result.mean()) for name, result in streams.items()
        ],
    )


def stream_sentence(streams: Mapping[str, StreamResult]) -> str:
    """Return the sentence that the page opens with: the best stream, and by how much it leads the next."""
    means = {name: mean[METRIC] for name, result in streams.items() if (mean := result.mean())}
    if not means:
        return f"No stream has finished its second segment: {', '.join(streams)}."
    best, *others = sorted(means, key=means.__getitem__, reverse=True)
    sentence = f"{best} reaches a mean NDCG@20 of {means[best]:.4f} in tables of {_size(streams[best])}"
    if not others or not means[others[0]]:
        return f"{sentence}."
    second = others[0]
    lead = 100 * (means[best] / means[second] - 1)
    return f"{sentence}, {lead:.1f} % more than {second} in tables of {_size(streams[second])}."


def _size(result: StreamResult) -> str:
    return format_bytes(result.segments[-1].table_bytes)


def stream_plots(streams: Mapping[str, StreamResult]) -> list[Plot]:
    """Quality, bytes and sizes by segment, a line a stream."""
    curves: list[tuple[str, str, Callable[[SegmentResult], float]]] = [
        ("NDCG@20", "Quality on each segment's test part.", lambda segment: segment.metrics["ndcg@20"]),
        ("recall@20", "The same by recall.", lambda segment: segment.metrics["recall@20"]),
        (SIZE, "Bytes of the stored tables: values and sizes.", lambda segment: segment.table_bytes),
        ("rows", "Known users and items.", lambda segment: segment.rows["users"] + segment.rows["items"]),
    ]
    drawn = [
        Plot(
            caption,
            by_step(
                {name: [*map(figure, one.segments)] for name, one in streams.items()},
                y_label=label,
                y_bytes=label == SIZE,
            ),
        )
        for label, caption, figure in curves
    ]
    return [*drawn, *(Plot(f"{name}: {_SIZES}", _sizes(result)) for name, result in streams.items())]


def _sizes(result: StreamResult) -> str:
    series = {
        f"{side}, {tenth}": [segment.sizes[side][place] for segment in result.segments]
        for side in ("users", "items")
        for tenth, place in _TENTHS.items()
    }
    return by_step(series, y_label="values of a row")


def _origin(result: StreamResult) -> str:
    command = result.command
    parts = [command["data"], command["backbone"], command["method"], command["budget"]]
    return ", ".join([*map(str, parts), f"seed {command['seed']}"])


def _row(segment: SegmentResult) -> list[Cell]:
    sizes = [f"{size:.1f}" for size in segment.mean_sizes.values()]
    new = segment.rows["new_users"] + segment.rows["new_items"]
    counts = [segment.rows["users"], segment.rows["items"], new, segment.values, segment.capacity]
    scores = [f"{segment.metrics[name]:.4f}" for name in METRICS]
    before = [str(segment.number), *(f"{count:,}" for count in counts)]
    return [*map(Cell, before), bytes_cell(segment.table_bytes), *map(Cell, [*sizes, *scores])]

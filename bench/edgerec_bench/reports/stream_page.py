"""Streams that were followed as one self-contained page: quality, bytes and sizes over time, and the segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgerec.budget import format_bytes
from edgerec.extras import require
from edgerec.files import write_bytes
from edgerec.methods.stream.result import METRICS, SegmentResult, StreamResult
from edgerec_bench.reports.charts import by_step
from edgerec_bench.reports.plots import Plot

require("jinja2", "bench")

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: E402

COLUMNS = ("segment", "users", "items", "new", "values", "of", "table bytes", "a user", "an item", *METRICS)
_TENTHS = {"top tenth": -1, "bottom tenth": 0}
"""Of the rows by their interactions; places in `Told.sizes`."""

_SIZES = "mean sizes of the tenth of the rows with the most interactions, and of that with the fewest."


def write_page(out: Path, streams: Mapping[str, StreamResult]) -> None:
    """Write the page `out` of streams by their names. Raises StorageError."""
    templates = Environment(loader=PackageLoader("edgerec_bench.reports"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    page = templates.get_template("stream.html.jinja").render(
        plots=stream_plots(streams),
        columns=COLUMNS,
        streams=[
            (name, _origin(followed), [*map(_row, followed.segments)], followed.mean())
            for name, followed in streams.items()
        ],
    )
    write_bytes(out, page.encode())


def stream_plots(streams: Mapping[str, StreamResult]) -> list[Plot]:
    """Quality, bytes and sizes by segment, a line a stream."""
    curves: list[tuple[str, str, Callable[[SegmentResult], float]]] = [
        ("NDCG@20", "Quality on each segment's test part.", lambda told: told.metrics["ndcg@20"]),
        ("recall@20", "The same by recall.", lambda told: told.metrics["recall@20"]),
        ("tables, KiB", "Bytes of the stored tables: values and sizes.", lambda told: told.table_bytes / 1024),
        ("rows", "Users and items that are known.", lambda told: told.rows["users"] + told.rows["items"]),
    ]
    drawn = [
        Plot(caption, by_step({name: [*map(figure, f.segments)] for name, f in streams.items()}, y_label=label))
        for label, caption, figure in curves
    ]
    return [*drawn, *(Plot(f"{name}: {_SIZES}", _sizes(followed)) for name, followed in streams.items())]


def _sizes(followed: StreamResult) -> str:
    series = {
        f"{side}, {tenth}": [told.sizes[side][place] for told in followed.segments]
        for side in ("users", "items")
        for tenth, place in _TENTHS.items()
    }
    return by_step(series, y_label="values of a row")


def _origin(followed: StreamResult) -> str:
    command = followed.command
    said = [command["data"], command["backbone"], command["method"], command["budget"]]
    return ", ".join([*map(str, said), f"seed {command['seed']}"])


def _row(told: SegmentResult) -> Sequence[Any]:
    sizes = [f"{size:.1f}" for size in told.mean_sizes.values()]
    new = told.rows["new_users"] + told.rows["new_items"]
    counts = [told.rows["users"], told.rows["items"], new, told.values, told.capacity]
    scores = [f"{told.metrics[name]:.4f}" for name in METRICS]
    return [told.number, *(f"{count:,}" for count in counts), format_bytes(told.table_bytes), *sizes, *scores]

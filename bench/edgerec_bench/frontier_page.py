"""The frontier as one self-contained page: the chart, the front by name, what it beats, where it was made."""

from __future__ import annotations

from pathlib import Path

from edgerec.budget import format_bytes
from edgerec.extras import require
from edgerec.files import write_bytes
from edgerec_bench.frontier import Frontier
from edgerec_bench.frontier_text import BEATEN, COLUMNS, dominated_rows, front_rows
from edgerec_bench.record import now
from edgerec_devices import Local
from edgerec_devices.facts import MOMENTARY

require("jinja2", "bench")

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: E402


def write_page(out: Path, frontier: Frontier) -> None:
    """Write the page `out`. Raises StorageError."""
    from edgerec_bench.frontier_chart import frontier_svg

    templates = Environment(loader=PackageLoader("edgerec_bench"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    seeds = frontier.settings["seeds"]
    mean = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    page = templates.get_template("frontier.html.jinja").render(
        title=frontier.title,
        subtitle=f"Test NDCG@20 of what the bundles answer, {mean}; made {now()}.",
        notes=frontier.notes,
        svg=frontier_svg(frontier.points),
        tables=[
            ("The front", COLUMNS, front_rows(frontier.points)),
            ("Beaten", BEATEN, dominated_rows(frontier.points)),
        ],
        facts=_facts(),
        command=frontier.command,
    )
    write_bytes(out, page.encode())


def _facts() -> dict[str, str]:
    return {
        name.replace("_", " "): format_bytes(value) if name.endswith("_bytes") else str(value)
        for name, value in Local().info().items()
        if name not in MOMENTARY
    }

"""`edgerec report`: results as one page."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.console import messages
from edgerec_bench import read_results


@click.command("report")
@click.argument("results", metavar="RESULT.json...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page to write."
)
def command(results: tuple[Path, ...], out: Path) -> None:
    """Show results side by side on one self-contained HTML page.

    \b
    Example:
      edgerec bench dense.bundle mixed.bundle --out both.json
      edgerec report both.json --out report.html
    """
    from edgerec_bench import report

    report([result for path in results for result in read_results(path)], out)
    messages.print(f"wrote {out}")

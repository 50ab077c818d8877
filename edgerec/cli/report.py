"""`edgerec report`: results and runs as one page."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.console import messages
from edgerec.errors import BenchError
from edgerec.runtime.manifest import FILE_NAME
from edgerec.training import Run
from edgerec_bench import read_results


@click.command("report")
@click.argument("subjects", metavar="RESULT.json|RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page to write."
)
def command(subjects: tuple[Path, ...], out: Path) -> None:
    """Show results of bench side by side on one self-contained HTML page, and runs by their embedding sizes.

    A RUN is a folder that 'edgerec train' wrote: how many values its rows have, against their interactions.

    \b
    Example:
      edgerec bench dense.bundle mixed.bundle --out both.json
      edgerec report both.json runs/films --out report.html
    """
    from edgerec_bench import report

    for path in subjects:
        if (path / FILE_NAME).exists():
            raise BenchError(f"{path} is a bundle; measure it first: edgerec bench {path} --out result.json")
    runs = {str(path): Run.load(path) for path in subjects if path.is_dir()}
    files = [path for path in subjects if not path.is_dir()]
    report([result for path in files for result in read_results(path)], out, runs=runs)
    messages.print(f"wrote {out}", markup=False)

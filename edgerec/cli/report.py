"""`edgerec report`: results and runs as one page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgerec.console import messages
from edgerec.errors import BenchError
from edgerec.files import write_bytes
from edgerec.runtime.manifest import FILE_NAME
from edgerec.training import Run
from edgerec_bench import read_results
from edgerec_bench.text import FORMATS, report_text


@click.command("report")
@click.argument("subjects", metavar="RESULT.json|RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file to write: report.html, or standard output for text."
)
@click.option(
    "--format", "form", type=click.Choice(("html", *FORMATS)), default="html", show_default=True, help="What to write."
)
def command(subjects: tuple[Path, ...], out: Path | None, form: str) -> None:
    """Show results of bench side by side on one self-contained HTML page, and runs by their embedding sizes.

    A RUN is a folder that 'edgerec train' wrote: how many values its rows have, against their interactions. Markdown
    and CSV hold the same figures of results alone.

    \b
    Example:
      edgerec bench dense.bundle mixed.bundle --out both.json
      edgerec report both.json runs/films --out report.html
      edgerec report both.json --format csv --out both.csv
    """
    from edgerec_bench import report

    for path in subjects:
        if (path / FILE_NAME).exists():
            raise BenchError(f"{path} is a bundle; measure it first: edgerec bench {path} --out result.json")
    runs = {str(path): Run.load(path) for path in subjects if path.is_dir()}
    files = [path for path in subjects if not path.is_dir()]
    results = [result for path in files for result in read_results(path)]
    if form == "html":
        out = out or Path("report.html")
        report(results, out, runs=runs)
    else:
        if runs:
            raise BenchError("runs are shown as charts; leave them out, or give --format html")
        text = report_text(results, form)
        if out is None:
            sys.stdout.write(text)
            return
        write_bytes(out, text.encode())
    messages.print(f"wrote {out}", markup=False)

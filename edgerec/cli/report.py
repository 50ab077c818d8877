"""edgerec report: writes results, runs or streams as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edgerec.cli.help import Choice, Command, argument, option
from edgerec.cli.options import FILE_OR_FOLDER, overwrite_option
from edgerec.cli.output import json_option, print_json, print_text
from edgerec.console import messages
from edgerec.errors import BenchError
from edgerec.files import write_bytes
from edgerec.methods.search.history import FILE_NAME as SEARCH_FILE
from edgerec.methods.stream.result import FILE_NAME as STREAM_FILE
from edgerec.methods.stream.result import StreamResult
from edgerec.outputs import Output, check_outputs, page
from edgerec.runtime.manifest import FILE_NAME
from edgerec.training import Run
from edgerec.training.run import FILE_NAME as RUN_FILE
from edgerec_bench import read_results
from edgerec_bench.reports.search import SearchFigures, search_figures
from edgerec_bench.reports.text import FORMATS, report_text


@click.command("report", cls=Command)
@argument(
    "subjects",
    metavar="RESULT.json|RUN|STREAM...",
    nargs=-1,
    required=True,
    type=FILE_OR_FOLDER,
    help="Files of 'edgerec bench --out', folders of 'edgerec train', or folders of 'edgerec stream'.",
)
@option(
    "--out",
    type=FILE_OR_FOLDER,
    show_default="report.html, or standard output for markdown and csv",
    help="File to write.",
)
@option("--format", "form", type=Choice(("html", *FORMATS)), default="html", help="Format of the report.")
@overwrite_option
@json_option
def command(subjects: tuple[Path, ...], out: Path | None, form: str, overwrite: bool, as_json: bool) -> None:
    """Write one self-contained HTML page of benchmark results, runs or streams.

    \b
    Example:
      edgerec report both.json runs/films --out report.html

    The page shows results of 'edgerec bench' side by side. Of a run it charts the sizes of the rows against their
    numbers of interactions; of a search (a run of bet or ciess, finished or not) also the sizes that were tried and
    found. Streams have a page of their own: give no results or runs with them. Markdown and CSV contain the figures of
    results only; --json prints those of searches or streams only, and writes no page.

    \b
    More examples:
      edgerec report streams/scall streams/uniform --out streams.html
      edgerec report both.json --format csv --out both.csv
    """
    if out is None and form == "html":
        out = Path("report.html")
    if out is not None and not as_json:
        check_outputs([Output(out, ours=page if form == "html" else None)], subjects, overwrite=overwrite)
    if any((path / STREAM_FILE).exists() for path in subjects):
        _report_streams(subjects, out, form, as_json)
        return
    from edgerec_bench import report

    for path in subjects:
        if (path / FILE_NAME).exists():
            raise BenchError(f"{path} is a bundle; measure it first: edgerec bench {path} --out result.json")
        if not path.exists():
            raise BenchError(f"{path} does not exist; name a run's folder, or a file of 'edgerec bench --out'")
    runs, searches = _runs([path for path in subjects if path.is_dir()])
    if as_json:
        if len(searches) < len(subjects):
            raise BenchError(
                "--json prints the figures of searches only; give runs of methods that search, such as bet"
            )
        print_json({name: search.to_json() for name, search in searches.items()})
        return
    files = [path for path in subjects if not path.is_dir()]
    results = [result for path in files for result in read_results(path)]
    if out is not None and form == "html":
        report(results, out, runs=runs, searches=searches)
    else:
        if runs or searches:
            raise BenchError("runs are shown as charts only; leave them out, or give --format html")
        text = report_text(results, form)
        if out is None:
            print_text(text)
            return
        write_bytes(out, text.encode())
    messages.print(f"wrote {out}", markup=False)


def _report_streams(folders: Sequence[Path], out: Path | None, form: str, as_json: bool) -> None:
    """Write a page of streams. Raises BenchError if something else is among them, RunError."""
    from edgerec_bench.reports.stream_page import write_page

    if out is None or form != "html" or not all((path / STREAM_FILE).exists() for path in folders):
        raise BenchError("streams have an HTML page of their own; give streams only, without --format")
    streams = {str(path): StreamResult.load(path) for path in folders}
    if as_json:
        print_json({name: stream.to_json() for name, stream in streams.items()})
        return
    write_page(out, streams)
    messages.print(f"wrote {out}", markup=False)


def _runs(folders: Sequence[Path]) -> tuple[dict[str, Run], dict[str, SearchFigures]]:
    """Return runs and searches by their folder's name; an unfinished search has no run yet. Raises RunError."""
    runs: dict[str, Run] = {}
    searches: dict[str, SearchFigures] = {}
    for folder in folders:
        if (folder / RUN_FILE).exists() or not (folder / SEARCH_FILE).exists():
            runs[str(folder)] = Run.load(folder)
        if (found := search_figures(folder)) is not None:
            searches[str(folder)] = found
    return runs, searches

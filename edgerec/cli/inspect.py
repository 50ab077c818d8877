"""edgerec inspect: shows what a run or a bundle contains, without reading its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER
from edgerec.cli.output import json_option, print_json
from edgerec.cli.quality import encoder_quality, truncation
from edgerec.console import print_facts
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME, Manifest, RowsEntry, section_name
from edgerec.tables import Table
from edgerec.training import Run

BYTES = ("sections", "files", "total bytes", "table bytes")
"""Facts that are numbers of bytes."""


@click.command(cls=Command)
@argument("subject", metavar="RUN|BUNDLE", type=FOLDER, help="Folder of a run or of a bundle.")
@option(
    "--trusted",
    multiple=True,
    type=FILE,
    help="Public key (.pub); a bundle is refused unless one of the given keys signed it and no file changed since. "
    "May be repeated.",
)
@json_option
def command(subject: Path, trusted: tuple[Path, ...], as_json: bool) -> None:
    """Show what a run or a bundle contains and where its bytes go.

    \b
    Example:
      edgerec inspect films.bundle

    A bundle with a missing or truncated file is refused. The checksums of its files are compared only if --trusted is
    given, while 'edgerec recommend' always compares them.

    \b
    More examples:
      edgerec inspect films.bundle --trusted films.key.pub
    """
    if trusted:
        facts = _bundle(Bundle(subject, trusted=trusted).manifest, checked=True)
    elif subject.is_file() or (subject / FILE_NAME).exists():
        facts = _bundle(Bundle(subject, verify=False).manifest, checked=False)
    else:
        facts = _run(Run.load(subject))
    if as_json:
        print_json(facts)
    else:
        there = {name: value for name, value in facts.items() if value is not None}
        print_facts(str(subject), {name: _text(value, as_bytes=name in BYTES) for name, value in there.items()})


def _bundle(manifest: Manifest, *, checked: bool) -> dict[str, Any]:
    files = {entry.name: entry.bytes for entry in manifest.files} | {FILE_NAME: manifest.own_bytes}
    about, users, signer = manifest.about, manifest.users, manifest.signed_by
    metrics = about.get("metrics", {})
    return {
        **{name: about.get(name) for name in ("data", "backbone", "method", "budget")},
        "layout": manifest.layout,
        "precision": manifest.precision,
        "dimensions": manifest.d,
        "items": manifest.items.rows,
        "item widths": _widths(manifest.items),
        "users": None if users is None else users.rows,
        "user widths": None if users is None else _widths(users),
        "version": ".".join(map(str, manifest.version)),
        "rollback index": manifest.rollback_index or None,
        "sections": {section_name(name): section.nbytes for name, section in manifest.sections.items()},
        "files": files,
        "total bytes": manifest.nbytes,
        "signed by": None if signer is None else {"key": signer, "checked": checked},
        "metrics (trained tables)": metrics.get("test"),
        "metrics (users from histories)": None if users else metrics.get("encoder"),
    }


def _widths(entry: RowsEntry) -> dict[int, int]:
    """Return the number of rows of each width; blocks of one width may differ in precision."""
    widths: dict[int, int] = {}
    for width, rows in entry.blocks:
        widths[width] = widths.get(width, 0) + rows
    return widths


def _run(run: Run) -> dict[str, Any]:
    return {
        **{name: run.config[name] for name in ("data", "backbone", "method", "budget", "epochs", "seed")},
        "settings": run.config["chosen_settings"],
        "method settings": run.method_settings,
        "items": _table(run.items),
        "users": None if run.users is None else _table(run.users),
        "table bytes": run.nbytes,
        "truncation after training": truncation(run),
        "metrics": run.metrics.get("test"),
        "users from histories": encoder_quality(run),
    }


def _table(table: Table) -> dict[str, Any]:
    return {"kind": table.kind, "rows": table.n_rows, "dimensions": table.d, "values": table.n_values}


def _text(value: Any, *, as_bytes: bool) -> str:
    if isinstance(value, dict):
        given = {name: part for name, part in value.items() if part is not None}
        return "\n".join(f"{name}: {_text(part, as_bytes=as_bytes)}" for name, part in given.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,} ({format_bytes(value)})" if as_bytes and value >= 10_000 else f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)

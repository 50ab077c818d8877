"""edgerec export: from a run, or from your own tables, to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgerec.budget import format_bytes, parse_bytes
from edgerec.cli.cut import cut_of, cut_text
from edgerec.cli.options import FOLDER
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec.data.columns import is_id, to_ids
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.files import storage_failure
from edgerec.runtime.manifest import SECTION_NAMES
from edgerec.training import Run

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("run", type=FOLDER, required=False)
@click.option("--items", type=FILE, help="Your own item table: an .npy of (items, dimensions).")
@click.option("--users", "users_file", type=FILE, help="Your own user table: an .npy of (users, dimensions).")
@click.option("--ids", type=FILE, help="Item ids of your own table, one a line.")
@click.option("--user-ids", type=FILE, help="User ids of your own table, one a line.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the bundle; a bundle there is replaced.")
@click.option("--layout", default="mixed", show_default=True, help="mixed or dense.")
@click.option("--precision", help="fp32 or int8; by default what the run was trained for, else fp32.")
@click.option("--max-bytes", help="Of the whole bundle, every file counted, such as 200KiB; refused if impossible.")
@click.option("--titles", is_flag=True, help="Ship item titles, where the data have them.")
@click.option("--no-users", is_flag=True, help="Ship no user's vector: it is made on the device from a history.")
@click.option("--no-verify", is_flag=True, help="Do not compare the bundle with numpy in a fresh process.")
@json_option
def command(
    run: Path | None,
    items: Path | None,
    users_file: Path | None,
    ids: Path | None,
    user_ids: Path | None,
    out: Path,
    layout: str,
    precision: str | None,
    max_bytes: str | None,
    titles: bool,
    no_users: bool,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Export RUN, or your own tables, as a bundle: ONNX graphs over one memory-mapped tables file.

    \b
    Example:
      edgerec export runs/films --out films.bundle --layout mixed --precision int8 --max-bytes 200KiB
      edgerec export --items items.npy --users users.npy --ids ids.txt --out mine.bundle
    """
    exporter, cut = require("edgerec_export", "export"), None
    if (run is None) == (items is None):
        raise RequestError("give either a RUN or --items, your own table")
    own = {"--users": users_file, "--ids": ids, "--user-ids": user_ids}
    if run is not None:
        mixed = [name for name, given in own.items() if given is not None]
        if mixed:
            raise RequestError(f"{', '.join(mixed)} belong to your own --items; a RUN has its own")
        trained = Run.load(run)
        source, cut = exporter.from_run(trained), cut_of(trained)
        precision = precision or trained.config.get("precision")
    else:
        if users_file is None or items is None:
            raise RequestError("your own --items need --users: without a user table nothing can be scored")
        if titles:
            raise RequestError("--titles are those of a RUN's data; your own tables have none")
        source = exporter.from_arrays(
            _array(items), _array(users_file), item_ids=_lines(ids), user_ids=_lines(user_ids)
        )
    options = exporter.Options(
        layout=layout,
        precision=precision or "fp32",
        max_bytes=None if max_bytes is None else parse_bytes(max_bytes),
        users=not no_users,
        titles=titles,
        verify=not no_verify,
    )
    _show(exporter.export(source, out, options), cut, as_json)


def _show(done: Any, cut: dict[str, Any] | None, as_json: bool) -> None:
    checked = done.verification
    if as_json:
        verification = None if checked is None else vars(checked)
        print_json(
            {
                "bundle": str(done.folder),
                "bytes": done.nbytes,
                "parts": done.parts,
                "cut": cut,
                "verification": verification,
            }
        )
        return
    rows = [[SECTION_NAMES.get(name, name.replace("_", " ")), f"{size:,}"] for name, size in done.parts.items()]
    total = f"{done.nbytes:,} ({format_bytes(done.nbytes)})"
    print_table(str(done.folder), ["part", "bytes"], [*rows, ["alignment", _alignment(done)], ["total", total]])
    if cut is not None:
        click.echo(f"cut after training: {cut_text(cut)}")
    if checked is not None:
        click.echo(f"verified in a fresh process: scores within {checked.max_error:.1e} of numpy")


def _alignment(done: Any) -> str:
    return f"{done.nbytes - sum(done.parts.values()):,}"


def _array(path: Path) -> NDArray[Any]:
    try:
        values = np.load(path, allow_pickle=False)
    except OSError as error:
        storage_failure(path, error, "read")
    except (ValueError, EOFError) as error:
        raise RequestError(f"{path} is no .npy file of numbers ({error}); write it with numpy.save") from error
    if not isinstance(values, np.ndarray):
        raise RequestError(f"{path} is an archive of several arrays; give an .npy file with one")
    return values


def _lines(path: Path | None) -> NDArray[Any] | None:
    """Ids, one a line, read as the data readers read them: whole numbers where all are."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        storage_failure(path, error, "read")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error})") from error
    lines = text.removesuffix("\n").split("\n")
    bad = next((number for number, line in enumerate(lines, 1) if not is_id(line)), None)
    if bad is not None:
        raise RequestError(f"{path}, line {bad}: expected an id, found {lines[bad - 1]!r}")
    return to_ids(lines)

"""edgerec export: from a run, or from your own tables, to a bundle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes, parse_bytes
from edgerec.cli.cut import cut_of, cut_text
from edgerec.cli.made import made_of, made_text
from edgerec.cli.options import FOLDER, PathType, data_path, filter_options, load, overwrite_option
from edgerec.cli.output import json_option, print_json, say
from edgerec.cli.own_tables import read_array, read_ids
from edgerec.console import print_table
from edgerec.data import Interactions
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.measure import check_data, evaluate, held_back
from edgerec.outputs import Output, always, check_outputs
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import section_name
from edgerec.training import Run

METRIC = "ndcg@20"
NO_IDS = "none"
"""What --ids takes in place of a file."""
FILE = PathType(dir_okay=False)


@click.command()
@click.argument("run", type=FOLDER, required=False)
@click.option("--items", type=FILE, help="Your own item table: an .npy of (items, dimensions).")
@click.option("--users", "users_file", type=FILE, help="Your own user table: an .npy of (users, dimensions).")
@click.option("--ids", help="Item ids of your own table, a file with one a line; or none: ship no ids.")
@click.option("--user-ids", type=FILE, help="User ids of your own table, one a line.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the bundle; a bundle there is replaced.")
@click.option("--like", type=FOLDER, help="Keep the layout, precision, scales and widths of this older bundle.")
@click.option("--layout", default="auto", show_default=True, help="auto, dense, mixed, csr, ell, bitmask or csc.")
@click.option("--precision", help="fp32, fp16, int8, int4 or auto; by default what the run was trained for, else fp32.")
@click.option("--scales", default="auto", show_default=True, help="Of integers: one a table, block or row.")
@click.option("--max-bytes", help="Of the whole bundle, every file counted, such as 200KiB; refused if impossible.")
@click.option("--max-rss", help="Peak memory of a request above a bare session, measured in a fresh process.")
@click.option("--fit", is_flag=True, help="Shorten or prune a table that is too large for its limits.")
@click.option("--data", help="The data that RUN was trained on: measures what the export cost, as NDCG@20.")
@click.option("--calibration", type=FILE, help="Costs measured on your device, for --layout auto.")
@click.option("--similar/--no-similar", default=None, help="Ship the graph of similar items; by default where it fits.")
@click.option("--lookup", is_flag=True, help="With csc: a second copy of the items, for looking rows up.")
@click.option("--titles", is_flag=True, help="Ship item titles, where the data have them.")
@click.option("--id-map", type=FILE, help="Write which id each row of the bundle has, as CSV; --ids none needs it.")
@click.option("--no-users", is_flag=True, help="Ship no user's vector: it is made on the device from a history.")
@click.option("--sign", type=FILE, help="Sign the bundle with this private key, made by 'edgerec keys new'.")
@click.option("--no-verify", is_flag=True, help="Do not compare the bundle with numpy in a fresh process.")
@overwrite_option
@filter_options
@json_option
def command(run: Path | None, out: Path, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Export RUN, or your own tables, as a bundle: ONNX graphs over one memory-mapped tables file.

    \b
    Example:
      edgerec export runs/films --out films.bundle --precision int8 --max-bytes 200KiB
      edgerec export runs/films --out small.bundle --precision auto --max-bytes 60KiB --data ml-100k
      edgerec export runs/tuesday --out tuesday.bundle --like monday.bundle
      edgerec export --items items.npy --users users.npy --ids ids.txt --out mine.bundle
    """
    exporter = require("edgerec_export", "export")
    _refuse_what_does_not_go_together(run, given)
    _check_outputs(run, out, given, overwrite=overwrite)
    trained = None if run is None else Run.load(run)
    source = _own_source(exporter, given) if trained is None else exporter.from_run(trained)
    interactions = (
        None if given["data"] is None else load(given["data"], given["min_user"], given["min_item"], given["encoding"])
    )
    if trained is not None and interactions is not None:
        check_data(trained.about(), interactions)  # before a bundle that is there is replaced
    done = exporter.export(source, out, **_keywords(trained, given), overwrite=overwrite)
    cost = None if trained is None or interactions is None else cost_of(trained, out, interactions)
    made = None if trained is None or not (given["no_users"] or trained.users is None) else made_of(trained)
    _show(done, None if trained is None else cut_of(trained), cost, made, as_json)


def _refuse_what_does_not_go_together(run: Path | None, given: dict[str, Any]) -> None:
    """Raise RequestError, before anything is read."""
    if (run is None) == (given["items"] is None):
        raise RequestError("give either a RUN or --items, your own table")
    if given["data"] is None and (given["min_user"], given["min_item"], given["encoding"]) != (1, 1, None):
        raise RequestError(
            "--min-user and --min-item filter --data, the data that RUN was trained on, and --encoding is of its "
            "files: give them too"
        )
    if given["ids"] == NO_IDS and given["id_map"] is None:
        raise RequestError("--ids none needs --id-map FILE: without it nobody knows which item a row is")
    if run is not None:
        own = {"--users": given["users_file"], "--ids": _id_file(given), "--user-ids": given["user_ids"]}
        if mixed := [name for name, value in own.items() if value is not None]:
            raise RequestError(f"{', '.join(mixed)} belong to your own --items; a RUN has its own")
        return
    if given["users_file"] is None:
        raise RequestError("your own --items need --users: without a user table nothing can be scored")
    if given["data"] is not None:
        raise RequestError("--data are what a RUN was trained on; your own tables do not say")
    if given["titles"]:
        raise RequestError("--titles are those of a RUN's data; your own tables have none")


def _check_outputs(run: Path | None, out: Path, given: dict[str, Any], *, overwrite: bool) -> None:
    """Raise OutputError, before anything is read."""
    outputs = [Output(out, ours=always, folder=True)]  # `export` looks at what is there
    if given["id_map"] is not None:
        outputs.append(Output(given["id_map"], "--id-map"))
    files = ("items", "users_file", "user_ids", "like", "calibration", "sign")
    inputs = [run, _id_file(given), data_path(given["data"]), *(given[name] for name in files)]
    check_outputs(outputs, inputs, overwrite=overwrite)


def _id_file(given: dict[str, Any]) -> Path | None:
    return None if given["ids"] in (None, NO_IDS) else Path(given["ids"])


def _own_source(exporter: Any, given: dict[str, Any]) -> Any:
    """Of the user's own tables. Raises RequestError, StorageError, TableError, ExportError."""
    return exporter.from_arrays(
        read_array(given["items"]),
        read_array(given["users_file"]),
        item_ids=read_ids(_id_file(given)),
        user_ids=read_ids(given["user_ids"]),
    )


def _keywords(trained: Run | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `edgerec_export.export` for these options. Raises RequestError, BudgetError."""
    precision = given["precision"]
    if given["like"] is None:
        trained_for = None if trained is None else trained.config.get("precision")
        precision = precision or trained_for or "fp32"
    elif precision is not None:
        raise RequestError("the older bundle of --like decides the precision; leave out either --like or --precision")
    limits = {name: None if given[name] is None else parse_bytes(given[name]) for name in ("max_bytes", "max_rss")}
    same = ("layout", "scales", "fit", "similar", "lookup", "titles", "like", "id_map", "sign", "calibration")
    return {
        **{name: given[name] for name in same},
        **limits,
        "precision": precision or "fp32",
        "users": not given["no_users"],
        "ids": "none" if given["ids"] == NO_IDS else "raw",
        "verify": not given["no_verify"],
    }


def cost_of(run: Run, bundle: Path, interactions: Interactions) -> dict[str, Any]:
    """NDCG@20 before and after, on the validation part where the run was not trained on it, else on the test part."""
    part = held_back(run)
    before, after = (
        evaluate(subject, interactions, part=part)[METRIC] for subject in (run, Recommender.load(bundle, verify=False))
    )
    return {"part": part, "metric": METRIC, "run": before, "bundle": after}


def _show(
    done: Any, cut: dict[str, Any] | None, cost: dict[str, Any] | None, made: dict[str, Any] | None, as_json: bool
) -> None:
    checked = done.verification
    if as_json:
        print_json(
            {
                "bundle": str(done.folder),
                "bytes": done.nbytes,
                "parts": done.parts,
                "tried": [
                    {
                        "layout": one.layout,
                        "precision": one.precision,
                        **vars(one.cost),
                        "ms": _measured(one.cost.ms),
                        "score_error": one.score_error,
                    }
                    for one in done.chosen.tried
                ],
                "why": done.chosen.why,
                "kept": done.chosen.kept,
                "peak_bytes": done.peak_bytes,
                "rounded_to_zero": done.rounded_to_zero,
                "cost": cost,
                "cut": cut,
                "users from histories": made,
                "verification": None if checked is None else vars(checked),
            }
        )
        return
    rows = [[section_name(name), f"{size:,}"] for name, size in done.parts.items()]
    alignment = f"{done.nbytes - sum(done.parts.values()):,}"
    total = f"{done.nbytes:,} ({format_bytes(done.nbytes)})"
    print_table(str(done.folder), ["part", "bytes"], [*rows, ["alignment", alignment], ["total", total]])
    _show_choice(done.chosen)
    if cut is not None:
        say(f"cut after training: {cut_text(cut)}")
    if made is not None:
        say(f"users from histories: {made_text(made)}")
    if cost is not None:
        change = f" ({cost['bundle'] / cost['run'] - 1:+.2%})" if cost["run"] else ""
        say(f"{cost['metric']} on the {cost['part']} part: {cost['run']:.4f} -> {cost['bundle']:.4f}{change}")
    if done.peak_bytes is not None:
        say(f"peak memory of a request above a bare session: {format_bytes(done.peak_bytes)}")
    for side, count in done.rounded_to_zero.items():
        which = "row ships" if count == 1 else "rows ship"
        say(f"{count} {side} {which} as zeros, all values below a step; --scales row or --precision fp32 keeps them")
    if checked is not None:
        say(f"verified in a fresh process: scores within {checked.max_error:.1e} of numpy")


def _show_choice(chosen: Any) -> None:
    """What was compared, the chosen one first, and what is left of the table."""
    if len(chosen.tried) > 1:
        rows = [
            [
                one.layout,
                one.precision,
                f"{one.cost.nbytes:,}",
                "" if _measured(one.cost.ms) is None else f"{_measured(one.cost.ms):g}",
                format_bytes(one.cost.peak_bytes),
                "" if one.score_error is None else f"{one.score_error:.2g}",
            ]
            for one in chosen.tried
        ]
        columns = ["layout", "precision", "bytes", "expected ms", "peak memory", "score error"]
        print_table("compared, the chosen one first", columns, rows)
        say(f"{chosen.tried[0].layout} {chosen.tried[0].precision}: {chosen.why}")
    if chosen.kept < 1:
        say(f"fitted: {chosen.kept:.1%} of the item table's values are left")


def _measured(ms: float) -> float | None:
    """None where the calibration has no figure for a layout."""
    return float(f"{ms:.3g}") if math.isfinite(ms) else None

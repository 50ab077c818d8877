"""edgerec export: exports a run, or tables of your own, as a bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgerec.budget import parse_bytes
from edgerec.cli.exported import show_export
from edgerec.cli.help import DATA, Command, argument, option
from edgerec.cli.options import (
    FILE,
    FOLDER,
    FiniteRange,
    check_data_given,
    data_inputs,
    data_options,
    load,
    overwrite_option,
)
from edgerec.cli.output import json_option
from edgerec.cli.own_tables import (
    attribute_names,
    attributes_option,
    read_array,
    read_ids,
    read_item_attributes,
    read_item_titles,
)
from edgerec.cli.quality import better_without_users, encoder_quality, truncation
from edgerec.console import progress_bar, tell
from edgerec.data import Interactions
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.measure import check_data, evaluate, held_back
from edgerec.outputs import Output, always, check_outputs
from edgerec.runtime import Recommender
from edgerec.runtime.stored import SUFFIX, one_file_output
from edgerec.training import Run

METRIC = "ndcg@20"
NO_IDS, HASHES = "none", "hash64"
"""Values of --ids that say how ids are stored, instead of a file."""
OWN = "Tables of your own (instead of RUN)"
LAYOUT = "Layout options"


@click.command(cls=Command)
@argument("run", type=FOLDER, required=False, help="Folder of the run to export; leave it out with --items.")
@option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder to write the bundle to, or one file, if the name ends in .edgerec; a bundle there is replaced.",
)
@option(
    "--precision",
    metavar="NAME",
    show_default="the precision that the run was trained for, or fp32",
    help="Precision of the stored values: fp32, fp16, int8, int4, or auto, which needs --max-bytes or --max-rss and "
    "takes the precisions and row sizes that change scores least within it.",
)
@option(
    "--max-bytes",
    metavar="SIZE",
    help="Maximum size of the whole bundle, all files counted, such as 200KiB; an export that cannot meet it fails.",
)
@option(
    "--fit",
    is_flag=True,
    help="If the tables exceed --max-bytes or --max-rss, shorten their rows or drop values of sparse ones, where that "
    "changes scores least.",
)
@option(
    "--max-rss",
    metavar="SIZE",
    help="Maximum peak memory of a request above an empty onnxruntime session, such as 20MiB; an export that cannot "
    "meet it fails.",
)
@option(
    "--max-ms",
    type=FiniteRange(0, min_open=True),
    help="Maximum milliseconds of a request that --calibration predicts; an export that cannot meet it fails. With "
    "--precision auto it rules out what is small but slow.",
)
@option(
    "--titles",
    is_flag=True,
    help="Include item titles: those of --item-attributes, or without it of RUN's data.",
)
@attributes_option
@option(
    "--no-users",
    is_flag=True,
    help="Leave out the user table; the bundle computes a user's vector from the items of the user's history (all "
    "backbones but ncf).",
)
@option(
    "--like",
    type=FOLDER,
    help="Older bundle whose limit, layout, precisions, scales, rotation and row sizes are used again, and the rows "
    "that changed little, so that the patch of 'edgerec diff' from it is small; leave out --precision. --max-bytes "
    "replaces its limit.",
)
@option("--sign", type=FILE, help="Private key of 'edgerec keys new' that signs the bundle.")
@option(
    "--rollback-index",
    type=int,
    metavar="N",
    show_default="0, or that of the older bundle of --like",
    help="Number that a device never goes back below, once it has this bundle; raise it when older bundles must no "
    "longer be used. For signed bundles.",
)
@option("--id-map", type=FILE, help="CSV file to write the id of every row of the bundle to; required by --ids none.")
@option("--no-verify", is_flag=True, help="Skip the comparison of the bundle's answers with numpy in a fresh process.")
@option(
    "--items",
    type=FILE,
    section=OWN,
    help="Item vectors: an .npy file of shape (number of items, dimensions). Without --users a user's vector is the "
    "mean of the item vectors of the user's history, or one that the app passes.",
)
@option(
    "--users",
    "users_file",
    type=FILE,
    section=OWN,
    help="User vectors: an .npy file of shape (number of users, dimensions).",
)
@option(
    "--ids",
    metavar="FILE|none|hash64",
    section=OWN,
    show_default="row numbers",
    help="File of item ids, one per line. Also with a RUN: none, to store no ids in the bundle; hash64, to store the "
    "64-bit hashes of text ids: requests take the ids, answers have hashes.",
)
@option("--user-ids", type=FILE, section=OWN, show_default="row numbers", help="File of user ids, one per line.")
@option(
    "--item-counts",
    type=FILE,
    section=OWN,
    help="Interactions of each item, which say what is popular: an .npy file of shape (number of items,).",
)
@option(
    "--layout",
    default="auto",
    metavar="NAME",
    section=LAYOUT,
    help="Storage layout of the tables: dense (rows of one size), mixed (rows of several sizes), ell, csc, bitmask or "
    "csr (sparse rows), or auto, the one expected to be fastest among those within --max-bytes, or without it among "
    "those at most 25 % larger than the smallest.",
)
@option(
    "--scales",
    default="auto",
    metavar="NAME",
    section=LAYOUT,
    help="Quantization scales of int8 and int4: table (one for all rows), block (one per block of rows), row (one per "
    "row) or auto.",
)
@option(
    "--similar/--no-similar",
    default=None,
    section=LAYOUT,
    show_default="included if it fits in --max-bytes",
    help="Include the graph that 'edgerec similar' needs, or leave it out.",
)
@option(
    "--lookup",
    is_flag=True,
    section=LAYOUT,
    help="With --layout csc, include a second copy of the items by row, which makes scoring a few items faster.",
)
@option(
    "--calibration",
    type=FILE,
    section=LAYOUT,
    help="File of the costs that 'python -m edgerec_bench.calibrate' measured on your device, for --layout auto.",
)
@option(
    "--data",
    metavar="DATA",
    section=DATA,
    help="Interactions that RUN was trained on, to measure and print NDCG@20 of the run and of the bundle; the bundle "
    "does not depend on them.",
)
@overwrite_option
@data_options
@json_option
def command(run: Path | None, out: Path, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Export a run, or tables of your own, as a bundle that an app loads.

    \b
    Example:
      edgerec export runs/films --out films.bundle --precision int8

    A bundle is a folder of ONNX graphs over one memory-mapped file of tables; the bytes of each part are printed. A
    SIZE is a number of bytes, or has a unit in upper or lower case: KiB, MiB and GiB (or K, M, G) are powers of 1024,
    and KB, MB and GB powers of 1000.

    \b
    More examples:
      edgerec export runs/films --out small.bundle --precision auto --max-bytes 60KiB --data ml-100k
      edgerec export runs/tuesday --out tuesday.bundle --like monday.bundle
      edgerec export --items items.npy --users users.npy --ids ids.txt --out mine.bundle
      edgerec export --items vectors.npy --ids ids.txt --titles --item-attributes items.csv --out vectors.bundle
    """
    exporter = require("edgerec_export", "export")
    _check_combination(run, options)
    _check_outputs(run, out, options, overwrite=overwrite)
    trained = None if run is None else Run.load(run)
    source = _own_source(exporter, options) if trained is None else exporter.from_run(trained)
    if options["titles"] and options["item_attributes"] is not None:
        titles = read_item_titles(options["item_attributes"], source.item_ids.tolist(), options["encoding"])
        source = replace(source, titles=titles)
    if attributes := read_item_attributes(options, source.item_ids):
        source = replace(source, attributes=attributes)
    interactions = None if options["data"] is None else load(options["data"], options)
    if trained is not None and interactions is not None:
        check_data(trained.about(), interactions)  # before an existing bundle is replaced
    with progress_bar("starting") if not as_json else nullcontext() as update:
        done = exporter.export(
            source, out, **_keywords(trained, options), overwrite=overwrite, progress=update and partial(_step, update)
        )
    cost = None if trained is None or interactions is None else cost_of(trained, out, interactions)
    built = trained is not None and (options["no_users"] or trained.users is None)
    users = encoder_quality(trained) if trained is not None and built else None
    if trained is not None and not built and (sentence := better_without_users(trained.metrics, what=str(run))):
        tell(sentence)
    show_export(done, None if trained is None else truncation(trained), cost, users, as_json)


def _step(update: Callable[..., None], step: Any) -> None:
    """Show a step of the export in a bar."""
    update(description=step.doing, completed=step.done, total=step.total)


def _check_combination(run: Path | None, options: dict[str, Any]) -> None:
    """Raise RequestError, before anything is read."""
    if (run is None) == (options["items"] is None):
        raise RequestError("expected either a RUN or --items, a table of your own; give one of them")
    of_titles = ("item_attributes", "encoding") if run is None or options["item_attributes"] is not None else ()
    check_data_given(options["data"], {**options, **dict.fromkeys(of_titles)})
    if options["ids"] == NO_IDS and options["id_map"] is None:
        raise RequestError("--ids none needs --id-map FILE, the only record of which item a row is; give it too")
    names = attribute_names(options)
    if options["item_attributes"] is not None and not options["titles"] and not names:
        raise RequestError(
            "--titles includes the titles of --item-attributes FILE; give both, or leave both out (--attributes NAMES "
            "includes other columns)"
        )
    if run is not None:
        own = {"--users": options["users_file"], "--ids": _id_file(options), "--user-ids": options["user_ids"]}
        own["--item-counts"] = options["item_counts"]
        if mixed := [name for name, value in own.items() if value is not None]:
            raise RequestError(
                f"{', '.join(mixed)} can be given with --items only, since a RUN has its own; leave them out"
            )
        return
    if options["users_file"] is None and options["user_ids"] is not None:
        raise RequestError("--user-ids needs --users, whose rows they name; give it too")
    if options["data"] is not None:
        raise RequestError("--data can be given with a RUN only, whose training data they are; leave it out")
    if options["titles"] and options["item_attributes"] is None:
        raise RequestError("with --items, --titles takes the titles of --item-attributes FILE; give it too")


def _check_outputs(run: Path | None, out: Path, options: dict[str, Any], *, overwrite: bool) -> None:
    """Raise OutputError, before anything is read."""
    one_file = out.suffix == SUFFIX and not out.is_dir()
    # `export` checks an existing folder
    outputs = [one_file_output(out) if one_file else Output(out, ours=always, folder=True)]
    if options["id_map"] is not None:
        outputs.append(Output(options["id_map"], "--id-map"))
    files = ("items", "users_file", "user_ids", "item_counts", "like", "calibration", "sign")
    inputs = [run, _id_file(options), *data_inputs(options["data"], options), *(options[name] for name in files)]
    check_outputs(outputs, inputs, overwrite=overwrite)


def _id_file(options: dict[str, Any]) -> Path | None:
    return None if options["ids"] in (None, NO_IDS, HASHES) else Path(options["ids"])


def _own_source(exporter: Any, options: dict[str, Any]) -> Any:
    """Return the source of the user's own tables.

    Raises RequestError, StorageError, TableError, ExportError.
    """
    items, item_ids = read_array(options["items"]), read_ids(_id_file(options))
    others = ("users_file", "item_counts")
    users, counts = (None if options[name] is None else read_array(options[name]) for name in others)
    user_ids = read_ids(options["user_ids"])
    return exporter.from_arrays(items, users, item_ids=item_ids, user_ids=user_ids, item_counts=counts)


def _keywords(trained: Run | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `edgerec_export.export` for these options. Raises RequestError, BudgetError."""
    precision = options["precision"]
    if options["like"] is None:
        trained_for = None if trained is None else trained.config.get("precision")
        precision = precision or trained_for or "fp32"
    elif precision is not None:
        raise RequestError("the older bundle of --like decides the precision; leave out either --like or --precision")
    limits = {name: None if options[name] is None else parse_bytes(options[name]) for name in ("max_bytes", "max_rss")}
    same = (
        "layout",
        "scales",
        "fit",
        "max_ms",
        "similar",
        "lookup",
        "titles",
        "like",
        "id_map",
        "sign",
        "calibration",
        "rollback_index",
    )
    return {
        **{name: options[name] for name in same},
        **limits,
        "precision": precision or "fp32",
        "users": not options["no_users"],
        "ids": options["ids"] if options["ids"] in (NO_IDS, HASHES) else "raw",
        "verify": not options["no_verify"],
    }


def cost_of(run: Run, bundle: Path, interactions: Interactions) -> dict[str, Any]:
    """Return NDCG@20 of a run and its bundle, on the validation part if the run was not trained on it, else on test."""
    part = held_back(run)
    before, after = (
        evaluate(subject, interactions, part=part)[METRIC] for subject in (run, Recommender.load(bundle, verify=False))
    )
    return {"part": part, "metric": METRIC, "run": before, "bundle": after}

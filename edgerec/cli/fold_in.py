"""edgerec fold-in: adds new items to a bundle, from their first interactions."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from edgerec.cli.diff import show_patch
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, data_inputs, load, overwrite_option, reading_options
from edgerec.cli.output import json_option, say
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.files import filling
from edgerec.outputs import Output, check_outputs, folder_of
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec.training.run import FILE_NAME, FORMAT


@click.command(cls=Command)
@argument("bundle", type=FOLDER, help="Folder of the bundle that gets the new items.")
@argument(
    "interactions",
    help="Interactions with the new items: a file or folder, as for 'edgerec train'; those of other items, or of users "
    "that the run does not have, are ignored.",
)
@option("--run", "run_folder", type=FOLDER, required=True, help="Run that BUNDLE was exported from.")
@option("--out", type=FILE, required=True, help="File to write the patch to.")
@option(
    "--save",
    type=FOLDER,
    help="Folder to write the run with the new items to, which the next fold-in needs as its --run.",
)
@option("--sign", type=FILE, help="Private key of 'edgerec keys new' that signs the patched bundle.")
@overwrite_option
@reading_options
@json_option
def command(
    bundle: Path,
    interactions: str,
    run_folder: Path,
    out: Path,
    save: Path | None,
    sign: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the patch that adds new items to a bundle without training again.

    \b
    Example:
      edgerec fold-in films.bundle new.csv --run runs/films --out new.patch --save runs/films-2
      edgerec apply films.bundle new.patch

    For each item that the run does not have, a vector is computed from the vectors of the users who interacted with
    it, as ials computes it while the users stay fixed; the run must be of the backbone ials. The new vector gets as
    many values as those of known items with about as many interactions.
    """
    exporter, folding = require("edgerec_export", "export"), require("edgerec.training.fold_in", "train")
    from edgerec_export.patch import patch_output

    outputs = [patch_output(out)]
    if save is not None:
        outputs.append(Output(save, "--save", ours=folder_of(FILE_NAME, FORMAT), folder=True))
    check_outputs(outputs, [bundle, *data_inputs(interactions, options), run_folder, sign], overwrite=overwrite)
    with nullcontext() if save is None else filling(save):
        folded = folding.fold_in(Run.load(run_folder), load(interactions, options))
        base = Recommender.load(bundle)
        lost = set(base.item_ids(range(base.n_items))) - set(folded.run.item_ids.tolist())
        if lost:
            raise RequestError(
                f"{bundle} holds {len(lost)} items that {run_folder} does not know, such as {min(lost)}: give the run "
                "that the last fold-in wrote with --save"
            )
        with tempfile.TemporaryDirectory(prefix="edgerec-fold-in-") as scratch:
            exporter.export(exporter.from_run(folded.run), Path(scratch) / "bundle", like=bundle, sign=sign)
            patch = exporter.diff(bundle, Path(scratch) / "bundle", out, overwrite=overwrite)
        if save is not None:
            folded.run.write(save)
    show_patch(patch, as_json)
    if not as_json:
        text = f"{folded.items:,} new items, from {folded.interactions:,} interactions"
        say(text + (f"; {folded.unknown:,} more are by users that the run does not have" if folded.unknown else ""))

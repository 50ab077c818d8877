"""edgerec fold-in: new items for a bundle, from their first interactions."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from edgerec.cli.diff import show_patch
from edgerec.cli.options import FOLDER, PathType, data_path, encoding_option, load, overwrite_option
from edgerec.cli.output import json_option, say
from edgerec.errors import RequestError
from edgerec.extras import require
from edgerec.files import filling
from edgerec.outputs import Output, check_outputs, folder_of
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec.training.run import FILE_NAME, FORMAT

FILE = PathType(dir_okay=False)


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("interactions")
@click.option("--run", "run_folder", type=FOLDER, required=True, help="The run of BUNDLE: it has the users' vectors.")
@click.option("--out", type=FILE, required=True, help="File of the patch.")
@click.option("--save", type=FOLDER, help="Write the run with the new items here: the --run of the next fold-in.")
@click.option("--sign", type=FILE, help="Sign the bundle that the patch leads to with this private key.")
@overwrite_option
@encoding_option
@json_option
def command(
    bundle: Path,
    interactions: str,
    run_folder: Path,
    out: Path,
    save: Path | None,
    sign: Path | None,
    overwrite: bool,
    encoding: str | None,
    as_json: bool,
) -> None:
    """Write the patch that brings BUNDLE the new items of INTERACTIONS, without training again.

    A row is solved for each item that the run does not know, from the users who met it: what iALS itself would do,
    with the users as they are. It gets the size of known items with about as many interactions.

    \b
    Example:
      edgerec fold-in films.bundle new.csv --run runs/films --out new.patch --save runs/films-2
      edgerec apply films.bundle new.patch
    """
    exporter, folding = require("edgerec_export", "export"), require("edgerec.training.fold_in", "train")
    from edgerec_export.patch import patch_output

    outputs = [patch_output(out)]
    if save is not None:
        outputs.append(Output(save, "--save", ours=folder_of(FILE_NAME, FORMAT), folder=True))
    check_outputs(outputs, [bundle, data_path(interactions), run_folder, sign], overwrite=overwrite)
    with nullcontext() if save is None else filling(save):
        folded = folding.fold_in(Run.load(run_folder), load(interactions, encoding=encoding))
        base = Recommender.load(bundle)
        lost = set(base.item_ids(range(base.n_items))) - set(folded.run.item_ids.tolist())
        if lost:
            raise RequestError(
                f"{bundle} holds {len(lost)} items that {run_folder} does not know, such as {min(lost)}: give the run "
                "that the last fold-in was told to --save"
            )
        with tempfile.TemporaryDirectory(prefix="edgerec-fold-in-") as scratch:
            exporter.export(exporter.from_run(folded.run), Path(scratch) / "bundle", like=bundle, sign=sign)
            patch = exporter.diff(bundle, Path(scratch) / "bundle", out, overwrite=overwrite)
        if save is not None:
            folded.run.write(save)
    show_patch(patch, as_json)
    if not as_json:
        text = f"{folded.items:,} new items, from {folded.interactions:,} interactions"
        say(text + (f"; {folded.unknown:,} more are by users whom the run does not know" if folded.unknown else ""))

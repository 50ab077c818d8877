"""The next bundle on newer data: the training and the limit of an older bundle, and the patch between the two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgerec.api import train_request
from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BundleError, EdgeRecError
from edgerec.files import filling
from edgerec.fitting.fit import EVERYTHING, check_out, trials_folder
from edgerec.measure import evaluate
from edgerec.request import TrainRequest
from edgerec.runtime import Recommender
from edgerec.training import Progress
from edgerec_export import Patch, diff, export, from_run, patch_output


@dataclass(frozen=True)
class Refitted:
    """The next bundle.

    Attributes:
        out: the bundle, of `nbytes`.
        test: test metrics of its answers; None if it was trained on all interactions.
        patch: the patch from the older bundle; None without a file for it.
    """

    out: Path
    nbytes: int
    test: dict[str, float] | None
    patch: Patch | None


def fit_again(
    interactions: Interactions,
    out: str | Path,
    like: str | Path,
    *,
    patch: str | Path | None = None,
    max_bytes: int | None = None,
    final: bool = False,
    threads: int | None = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Refitted:
    """Train on newer data as an older bundle was trained, and export within its limit.

    Example:
        >>> fit_again(edgerec.load_data("week2.csv"), "week2.bundle", "week1.bundle", patch="week2.patch")

    Args:
        interactions: the newer data.
        out: folder of the new bundle.
        like: the older bundle, which records how it was trained.
        patch: file to write the patch from `like` to `out` to; None for no patch.
        max_bytes: size limit; None for that of the older bundle. New items take room: an older bundle that fills its
            limit may leave too little, and the error then names the size that suffices.
        final: train on all interactions, so that the result is not measured.
        threads, overwrite: as in `edgerec.fit`.
        progress: called after each epoch.
        on_stage: called with the name of each stage after the training, which may take as long.

    Raises:
        BundleError: the older bundle is damaged, or does not record a training.
        BudgetError: the new tables do not fit the limit of the older bundle.
        OutputError, ExportError: `out` or `patch` is an input, or not EdgeRec's.
        InUseError, StorageError: as in `edgerec.fit`.
    """
    place = Path(out)
    check_out(place, [] if patch is None else [patch_output(patch)], [like], overwrite=overwrite)
    with Recommender.load(like) as model:
        about = model.manifest.about
    request = request_of(about, final=final, threads=threads)
    folder = trials_folder(place)
    with filling(folder):
        run = train_request(interactions, request, out=folder / "final", resume=True, progress=progress)
        on_stage("exporting the trained tables in the rows and precisions of the older bundle")
        done = export(from_run(run), place, like=like, max_bytes=max_bytes, overwrite=overwrite)
        shutil.rmtree(folder / "final", ignore_errors=True)
    test = None
    if not final:
        on_stage("measuring on test data")
        with Recommender.load(place) as model:
            test = evaluate(model, interactions)
    found = None
    if patch is not None:
        on_stage("writing the patch")
        found = diff(like, place, patch, overwrite=overwrite)
    return Refitted(place, done.nbytes, test, found)


def request_of(about: dict[str, Any], *, final: bool, threads: int | None) -> TrainRequest:
    """Return the training that a bundle records. Raises BundleError if it records none."""
    try:
        return TrainRequest.make(
            about["backbone"],
            about["method"],
            budget=about["budget"],
            dimensions=about["dimensions"],
            split=EVERYTHING if final else SplitSpec.from_dict(about["split"]),
            precision=about["precision"],
            settings=_given(about.get("chosen_settings") or about["settings"]),
            method_settings=_given(about["method_settings"]),
            seed=about["seed"],
            threads=threads,
            max_epochs=about["max_epochs"],
            patience=about["patience"],
        )
    except (KeyError, TypeError, AttributeError, EdgeRecError) as error:
        raise BundleError(
            f"the older bundle does not record a training that can be repeated ({error}); give a bundle that "
            "'edgerec export' or 'edgerec fit' wrote from a run"
        ) from error


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}

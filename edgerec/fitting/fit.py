"""The best bundle within a size, by one call: search on validation data, then train the best on all training data."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgerec.budget import format_bytes, parse_bytes
from edgerec.data import Interactions, Sample, SplitSpec
from edgerec.data import split as split_interactions
from edgerec.errors import BudgetError, RequestError
from edgerec.files import filling
from edgerec.fitting.recipes import Recipe, Variant
from edgerec.fitting.search import BEST, TRIAL, OnProgress, Search
from edgerec.fitting.smallest import Smallest, smallest_bundle
from edgerec.fitting.splits import LEAVE_ONE_OUT, usual_split, validation_split
from edgerec.fitting.study import FILE_NAME, Choice, Study
from edgerec.fitting.trial import Latency, Limits, Trials
from edgerec.measure import KS, evaluate
from edgerec.outputs import Output, always, check_outputs
from edgerec.runtime import Recommender
from edgerec.runtime.stored import SUFFIX, one_file_output
from edgerec_export import check_place, export, from_run

METRICS = tuple(f"{name}@{k}" for name in ("ndcg", "recall") for k in KS)
MOST_SIZES = 8
"""Number of sizes of a fit without a size, each twice the one before, from the first power of two that suffices."""
FINAL = "final"
_OURS = (FILE_NAME, BEST, TRIAL, FINAL)
"""Names in the folder of a fit."""
EVERYTHING = SplitSpec("all")
"""The split of a training on all interactions."""


@dataclass(frozen=True)
class Fitted:
    """The best bundle, and the search that found it.

    Attributes:
        out: the bundle.
        nbytes: bytes of all its files.
        recipe, variant: the training and the export that were chosen.
        limit: the size that the bundle is fitted to.
        validation: score of the chosen bundle in the search.
        test: test metrics of the bundle's own answers; None if it was trained on the test part too.
        split: the split whose test part measured it.
        interrupted: True if Ctrl-C ended the search.
        study: every trial.
    """

    out: Path
    nbytes: int
    recipe: Recipe
    variant: Variant
    limit: int
    validation: float
    test: dict[str, float] | None
    split: SplitSpec
    interrupted: bool
    study: Study


def fit(
    interactions: Interactions,
    out: str | Path,
    *,
    max_bytes: int | str | None = None,
    max_rss: int | str | None = None,
    max_ms: float | None = None,
    latency: Latency | None = None,
    minutes: float = 10.0,
    trials: int | None = None,
    users: bool | None = None,
    ids: str = "raw",
    titles: bool = False,
    attributes: Mapping[str, Any] | None = None,
    metric: str = "ndcg@20",
    split: SplitSpec | str | None = None,
    final: bool = False,
    seed: int = 0,
    threads: int | None = 1,
    workers: int | str | None = None,
    sample_users: int | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Fitted:
    """Find the best bundle within a size, and write it.

    Recipes (backbone, dimensions, method) are trained on a part of the training data, exported in several ways, and
    compared by the answers of the bundles on the rest, the validation data. Where these have few users, the best are
    trained and compared again on up to three other splits. The best is trained again on all training
    data, fitted to the size, written to `out`, and measured on the test part once. After an interruption the same call
    continues; its trials are in the folder `out` with the suffix '.fit'. Ctrl-C ends the search, and the best so far is
    written.

    Example:
        >>> best = edgerec.fit(edgerec.load_data("ml-100k"), "app.bundle", max_bytes="64KiB", minutes=2)
        >>> print(best.recipe.name, best.nbytes, best.test["ndcg@20"])

    Args:
        interactions: users, items and their interactions.
        out: folder of the bundle, or one file, if the name ends in .edgerec.
        max_bytes: size limit of the whole bundle, such as 65536 or '64KiB'; None to choose a size as well: the
            smallest whose score is within 1 % of the best.
        max_rss: maximum peak memory of a request in bytes, as `edgerec_export.export` measures it.
        max_ms: maximum median latency of a request in milliseconds.
        latency: measures it: called with the path of a bundle, returns milliseconds; None to measure on this machine.
        minutes: time for everything; the first recipe is always finished.
        trials: number of recipes to try, instead of a time; with one thread the result is then reproducible.
        users: True for bundles with a user table, False for bundles without; None to take the better.
        ids: 'raw' or 'hash64', as `edgerec_export.export` takes them.
        titles: include item titles.
        attributes: (n_items,) texts of each further attribute of items, by its name and in the order of
            `interactions.item_ids`.
        metric: metric of `METRICS` that decides.
        split: the split whose test part measures the result; None for random:80/20, or leave-one-out where that would
            not test most users. The rest is split again for validation, by random:90/10 or leave-one-out, or by the
            same rule if it is one of time.
        final: train the chosen recipe on all interactions, the test part included; the result is not measured.
        seed, threads: as in `edgerec.train`.
        workers: number of processes that each try a recipe, or a Ray cluster as 'ray://HOST:PORT' or 'ray' for one on
            this machine; None to try one after another in this process. With equal numbers of workers the result is
            reproducible too; others may try other recipes.
        sample_users: number of users on which trainings and the result are measured, for large data; None for all.
        overwrite: start again if the folder of trials belongs to a fit with other options.
        progress: called at each step.

    Raises:
        BudgetError: no bundle of these data is within `max_bytes`; raised before any training, with a size that is
            sufficient.
        DataError: the split leaves nothing to test, or nothing to decide by.
        RequestError: an unknown metric, or limits that exclude every bundle.
        RunError: the folder of trials belongs to a fit with other options.
        OutputError, ExportError: `out` is something other than a bundle.
        InUseError: another process fits into `out`.
        StorageError: the file system refuses.
        BenchError: what `latency` raises if its device is lost; the same call continues.
    """
    place = Path(out)
    limits = Limits(_bytes(max_bytes), _bytes(max_rss), max_ms, users, ids, titles, attributes or {})
    spec = SplitSpec.parse(split, seed=seed) if isinstance(split, str) else split or usual_split(interactions, seed)
    final = final or spec.kind == EVERYTHING.kind
    _check(metric, ids, minutes, trials)
    if workers is not None and (max_ms is not None or latency is not None):
        raise RequestError("workers disturb each other's latency: leave --workers out with --max-ms or --device")
    check_out(place, overwrite=overwrite)
    folder = trials_folder(place)
    parts = split_interactions(interactions, spec)
    validation = validation_split(spec, parts.train_all)
    command = {
        "data": interactions.name,
        "data_fingerprint": interactions.fingerprint(),
        **_described(limits),
        "split": spec.to_dict(),
        "validation": validation.to_dict(),
        "sample_users": sample_users,
    }
    if not overwrite:
        Study.opened(folder, command, metric)  # other options are refused before long work
    smallest = _smallest(interactions, place, spec, limits)
    if limits.max_bytes is not None and limits.max_bytes < smallest.least:
        raise _too_small(interactions, place, limits, smallest.sufficient)
    with filling(folder):
        if overwrite:
            _remove(folder, _OURS)
        study = Study.opened(folder, command, metric)
        study.save(folder)  # from now on the folder is known to be a fit's
        tried = Trials(
            parts.train_all, validation, limits, threads, sample_users, one_file=place.suffix == SUFFIX, latency=latency
        )
        within = minutes if trials is None else None
        search = Search(tried, folder, study, minutes=within, workers=workers, progress=progress)
        if split is None and LEAVE_ONE_OUT.kind in (spec.kind, validation.kind):
            note = f"most users have few interactions: {spec} measures the result, {validation} of the rest decides"
            search.show("starting", note=note)
        interrupted = search.run(_sizes(limits.max_bytes, smallest), trials=trials)
        while (best := search.best()) is not None:
            if search.study.final is not None and search.study.final["everything"] == final and place.exists():
                break
            if not interrupted and search.has_time():
                search.other_sizes()
            try:
                sample = None if sample_users is None else Sample(sample_users, seed)
                finish(search, best, interactions, EVERYTHING if final else spec, place, sample, overwrite=overwrite)
            except BudgetError as refusal:  # the final tables may take more bytes than those of the search
                search.study.reject(best.trial, str(refusal))
        if best is None:
            if limits.max_bytes is not None and limits.max_bytes < smallest.sufficient:
                raise _too_small(interactions, place, limits, smallest.sufficient)
            reasons = "; ".join(search.study.failures) or "each request takes longer than --max-ms"
            raise RequestError(f"no recipe gave a bundle within the limits ({reasons}); give larger ones")
        return _fitted(search.study, best, place, spec, interrupted)


def outputs(out: Path) -> list[Output]:
    """Return what a fit writes: the bundle, and the folder of its trials."""
    bundle = one_file_output(out) if out.suffix == SUFFIX else Output(out, ours=always, folder=True)
    return [bundle, Output(trials_folder(out), ours=_is_study, folder=True)]


def check_out(
    out: Path, more: Iterable[Output] = (), inputs: Iterable[str | Path | None] = (), *, overwrite: bool
) -> None:
    """Check that a fit, and `more` that is written with it, replace nothing but a bundle, and no input.

    Raises OutputError, ExportError.
    """
    check_outputs([*outputs(out), *more], inputs, overwrite=overwrite)
    if out.suffix != SUFFIX or out.is_dir():
        check_place(out, overwrite=overwrite)


def trials_folder(out: Path) -> Path:
    """Return the folder of the trials: app.fit for app.bundle."""
    return out.with_name(f"{out.name if out.suffix == '.fit' else out.stem}.fit")


def _is_study(folder: Path) -> bool:
    return folder.is_dir() and all(path.name in _OURS or path.name.startswith(".") for path in folder.iterdir())


def _bytes(size: int | str | None) -> int | None:
    return parse_bytes(size) if isinstance(size, str) else size


def _check(metric: str, ids: str, minutes: float, trials: int | None) -> None:
    if metric not in METRICS:
        raise RequestError(f"there is no metric {metric!r} to choose by; there are: {', '.join(METRICS)}")
    if ids not in ("raw", "hash64"):
        raise RequestError(f"a fit measures bundles by their ids, raw or hash64, got {ids!r}")
    if not minutes > 0 or (trials is not None and trials < 1):
        raise RequestError("minutes must be above 0, and trials at least 1")


def _described(limits: Limits) -> dict[str, Any]:
    """Return the limits as JSON: attributes, if there are any, by the sha256 of their texts."""
    found = {name: hashlib.sha256("\0".join(texts).encode()).hexdigest() for name, texts in limits.attributes.items()}
    others = {name: value for name, value in vars(limits).items() if name != "attributes"}
    return {**others, "attributes": found} if found else others


def _smallest(interactions: Interactions, out: Path, spec: SplitSpec, limits: Limits) -> Smallest:
    found = [smallest_bundle(interactions, out, spec, limits, users=users) for users in limits.sides]
    return Smallest(min(one.least for one in found), min(one.sufficient for one in found))


def _sizes(limit: int | None, smallest: Smallest) -> list[int]:
    """Return the sizes to export at."""
    if limit is not None:
        return [limit]
    first = 1 << (smallest.sufficient - 1).bit_length()
    return [first << number for number in range(MOST_SIZES)]


def _too_small(interactions: Interactions, out: Path, limits: Limits, size: int) -> BudgetError:
    """Return the refusal of a size, with one that suffices."""
    cures = [f"--max-bytes {size}"]
    cures += [] if out.suffix == SUFFIX else ["--out NAME.edgerec, which takes less"]
    cures += ["--no-users"] if limits.users else []
    cures += ["no --titles"] if limits.titles else []
    cures += ["no --attributes"] if limits.attributes else []
    return BudgetError(
        f"a bundle of {interactions.n_items:,} items does not fit {limits.max_bytes} bytes, and certainly fits {size} "
        f"({format_bytes(size)}); give {', or '.join(cures)}",
        size,
    )


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders of these names, if there are any."""
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
        else:
            (folder / name).unlink(missing_ok=True)


def finish(
    search: Search,
    best: Choice,
    interactions: Interactions,
    spec: SplitSpec,
    out: Path,
    sample: Sample | None,
    *,
    overwrite: bool,
) -> None:
    """Train the best recipe on all training data, export it, and measure it on the test part."""
    study, limits = search.study, search.trials.limits
    recipe, variant = study.trials[best.trial].recipe, best.bundle.variant
    doing = f"training {recipe.name} on all training data"
    search.show(doing, note=doing)
    shown = replace(search.trials, on_step=search.show)
    run = shown.train(recipe, interactions, spec, search.folder / FINAL)
    search.show("exporting")
    done = export(
        from_run(run, attributes=limits.attributes),
        out,
        precision=variant.precision,
        max_bytes=best.limit,
        fit=True,
        max_rss=limits.max_rss,
        users=variant.users,
        ids=limits.ids,
        titles=limits.titles,
        overwrite=overwrite,
    )
    test = None
    if spec.kind != EVERYTHING.kind:
        search.show("measuring on test data")
        with Recommender.load(out) as model:
            test = evaluate(model, interactions, sample=sample)
    study.final = {
        "trial": best.trial,
        "limit": best.limit,
        "nbytes": done.nbytes,
        "validation": best.score,
        "test": test,
        "everything": test is None,
    }
    study.save(search.folder)
    _remove(search.folder, (FINAL, TRIAL))


def _fitted(study: Study, best: Choice, out: Path, spec: SplitSpec, interrupted: bool) -> Fitted:
    final: dict[str, Any] = study.final or {}
    recipe, variant = study.trials[best.trial].recipe, best.bundle.variant
    figures = final["validation"], final["test"]
    return Fitted(out, final["nbytes"], recipe, variant, best.limit, *figures, spec, interrupted, study)

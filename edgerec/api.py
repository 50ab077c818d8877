"""The documented Python API of training; the command line only calls it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import (
    BITS_PER_VALUE,
    BLOCK_OVERHEAD,
    SPARSE_OVERHEAD,
    Budget,
    bundle_overhead,
    coded_overhead,
)
from edgerec.data import Interactions, Split, SplitSpec
from edgerec.data import split as split_interactions
from edgerec.data.ranked import parts_of_rank
from edgerec.errors import RunError
from edgerec.files import filling
from edgerec.measure import evaluate, measure_fit, measure_vectors
from edgerec.methods import FitWithin, Job, Workers
from edgerec.methods.search import SearchHistory
from edgerec.models import SizePlan, Vectors
from edgerec.ranks import ALONE, Ranks
from edgerec.request import AUTO, TrainRequest, check_ranks, check_workers
from edgerec.tables import CodedTable, DenseTable, PrefixTable, RowCodes, SparseTable, Table
from edgerec.tables.coded import PRECISION_OF_BITS
from edgerec.training import Checkpoint, Fit, FitResult, Progress, Run, shared_start, validate
from edgerec.training.checkpoint import SEARCH, state_of
from edgerec.training.run import FILE_NAME

__all__ = ["TrainRequest", "evaluate", "train", "train_request"]


def train(
    interactions: Interactions,
    *,
    backbone: str | None = None,
    method: str | None = None,
    budget: Budget | str | None = None,
    dimensions: int = 64,
    split: SplitSpec | str = "random:80/20",
    precision: str = "fp32",
    settings: Mapping[str, Any] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    max_epochs: int | None = None,
    patience: int | None = None,
    sample_users: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    workers: Workers = None,
) -> Run:
    """Train tables under a budget.

    Example:
        >>> run = edgerec.train(edgerec.load_data("ml-100k"), backbone="ials", method="popularity", budget="10%")

    Args:
        interactions: users, items and their interactions.
        backbone: the model that scores: one of `edgerec.models.BACKBONES`. None for 'ials', or for 'mf' if the method
            does not work with that.
        method: the rule or search that keeps the tables within the budget: one of `edgerec.methods.METHODS`. None for
            'popularity', or for 'dense', a full table, without a budget.
        budget: '10%' of the dense fp32 tables, '512KiB' of a default bundle, '8B/row' or a parameter count; None only
            for a method that takes none, such as 'dense'.
        dimensions: dimensions of a full row; of neighbours, its values, the item itself and its neighbours.
        split: 'random:80/20', 'random:50/25/25', 'random:50+25/25', 'leave-one-out', 'leave-last-out', 'time:80/20',
            'published', or 'all', which trains on everything, so that no test metrics are measured. Without a
            validation share, settings and epochs are chosen on a held-back part of the training share.
        precision: precision of the bundle to be exported: 'fp32', 'fp16', 'int8', 'int4' or 'int2'. It decides how many
            values a budget in bytes buys, and the codes that lae trains in. 'auto' lets bet and ciess choose the bits
            of each row of an svd, within a budget in bytes.
        settings: settings of the backbone, by name.
        method_settings: settings of the method, by name; 'variant' selects a whole set of them.
        seed: seed of every random choice.
        threads: maximum number of threads; None for the backbone's own choice. One thread makes the result
            reproducible to the bit.
        device: 'cpu', or 'cuda' for a GPU; neighbours, set, rigl, sparserec and pep train on the CPU alone.
        max_epochs: maximum number of training epochs; None for the backbone's own.
        patience: epochs without a better validation NDCG@20 before training stops; None for the backbone's own.
        sample_users: number of users, chosen by the seed, on which validation and test parts are measured; None for
            all. Metrics on a sample have margins, half the widths of 95 % confidence intervals: 'ndcg@20_margin'.
        out: folder for the run; a checkpoint is written there after each epoch.
        resume: continue from the checkpoint in `out`; a finished run is returned as it is.
        overwrite: replace a run that `out` holds.
        progress: called after each epoch, and after each action that a search has evaluated.
        workers: number of processes that run the trainings of a search, or a Ray cluster as 'ray://HOST:PORT', or
            'ray' for one on this machine. They change no result.

    Raises:
        UnsupportedError: no such backbone, method, setting, or pair of them; workers for a method without a search.
        BudgetError: the budget cannot be met; the message names the smallest possible one.
        DataError: the split leaves nothing, or training diverges.
        RunError: `out` holds another run, or a finished one.
        InUseError: another process trains into `out`; raised before anything is trained.
        StorageError: the file system refuses.
        WorkerError: workers are not available, or one was lost.
    """
    request = TrainRequest.make(
        backbone,
        method,
        budget=budget,
        dimensions=dimensions,
        split=split,
        precision=precision,
        settings=settings,
        method_settings=method_settings,
        seed=seed,
        threads=threads,
        device=device,
        max_epochs=max_epochs,
        patience=patience,
        sample_users=sample_users,
    )
    return train_request(
        interactions, request, out=out, resume=resume, overwrite=overwrite, progress=progress, workers=workers
    )


def train_request(
    interactions: Interactions,
    request: TrainRequest,
    *,
    ranks: Ranks = ALONE,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    workers: Workers = None,
) -> Run:
    """Train the tables of a checked request; the other arguments and the errors are those of `train`.

    Args:
        ranks: the processes that train together, which all call this. Each has its users of the interactions, which all
            of them open, and writes its part of a checkpoint to `out`. The run is written and returned by rank 0; those
            of the others have the tables' rows of their users alone.

    Raises UnsupportedError for a backbone or a method that trains in one process only.
    """
    check_workers(request, workers)
    check_ranks(request, ranks)
    command = {"data": interactions.name, **request.to_dict()}
    fingerprint = interactions.fingerprint()
    if out is None:
        return _fit(interactions, request, None, progress, command, fingerprint, workers, ranks)
    folder, key = Path(out), {**command, "data_fingerprint": fingerprint}
    writes = ranks.rank == 0
    with filling(folder) if writes else nullcontext():
        checkpoint = Checkpoint(folder, key, fresh=overwrite and not resume, ranks=ranks)
        finished = None
        if writes:
            finished = _finished(folder, command, fingerprint, checkpoint, resume=resume, overwrite=overwrite)
        if ranks.first(np.array([finished is not None]))[0]:
            return finished or Run.load(folder)
        run = _fit(interactions, request, checkpoint, progress, command, fingerprint, workers, ranks)
        if writes:
            run.write(folder)
            checkpoint.remove()
        return run


def _fit(
    interactions: Interactions,
    request: TrainRequest,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    command: dict[str, Any],
    fingerprint: str,
    workers: Workers,
    ranks: Ranks,
) -> Run:
    whole = split_interactions(interactions, request.split)
    parts = whole if ranks.count == 1 else parts_of_rank(whole, ranks)
    model, config = request.backbone, request.config

    numbers = count()
    shared = shared_start(model, parts, config, request.options)

    def fit(sizes: SizePlan, *, final: bool = True, choose: bool = False, **how: Any) -> FitResult:
        nonlocal config
        own = checkpoint.of_fit(next(numbers)) if checkpoint else None
        result = Fit(
            model,
            parts if final else parts.without_final(),
            sizes if sizes.users is None else replace(sizes, users=sizes.users[parts.train.own_users]),
            request.config if choose else config,
            request.options,
            checkpoint=own,
            progress=progress,
            shared=shared,
            **how,
        ).run()
        config = config if choose else result.config
        return replace(result, sizes=sizes)

    job = job_of(request, whole, fit, progress, checkpoint, workers)
    result = request.method.fit(job, request.method_config)
    vectors, sizes, trained = result.vectors, result.sizes, _trained_on(request, parts)
    threads, sample = request.options.threads, request.options.sample
    metrics, tests = {}, len(parts.test) > 0
    if tests:
        metrics["test"] = measure_fit(parts, vectors, trained, threads, sample)
    if vectors.untruncated is not None and tests:
        metrics["uncut"] = measure_vectors(
            parts, vectors.untruncated.users, vectors.untruncated.items, threads, sample=sample
        )
    encoded = model.encode(vectors, trained, result.config, threads=threads)
    if model.user_table and encoded is not None and tests:
        metrics["encoder"] = measure_vectors(parts, encoded.users, vectors.items, threads, sample=sample)
    if result.validation:
        metrics["validation"] = result.validation
    training = _training_metrics(result)
    if training:
        metrics["training"] = training
    chosen = {"chosen_settings": asdict(result.config), "epochs": result.epochs}
    if result.method_config is not None:
        chosen["chosen_method_settings"] = asdict(result.method_config)
    users = user_counts = None
    if model.user_table:
        rows, user_counts = ranks.collect(vectors.users), ranks.collect(trained.user_counts().astype(np.uint32))
        users = stored_table(rows, sizes.users if ranks.rank == 0 else None, sparse=result.sparse)
    return Run(
        items=vectors.sparse_items
        or stored_table(vectors.items, sizes.items, sparse=result.sparse, codes=vectors.codes),
        users=users,
        encoder=None if encoded is None else encoded.encoder,
        user_ids=interactions.user_ids,
        item_ids=interactions.item_ids,
        titles=interactions.titles,
        config={**command, **chosen},
        metrics=metrics,
        data_fingerprint=fingerprint,
        history=result.history,
        user_counts=user_counts,
        item_counts=trained.item_counts().astype(np.uint32),
        scorer=vectors.scorer,
    )


def _training_metrics(result: FitResult) -> dict[str, float]:
    """Return the figures of the chosen epoch that describe the stored vectors; of the final model if there is one.

    "kept" is the share of the squared norm that remains after rows are truncated to their sizes, "weights" the number
    of trained values outside the tables.
    """
    entries = [entry for entry in result.history if entry.get("epoch") == result.epochs]
    return {name: entry[name] for entry in entries for name in ("kept", "weights") if name in entry}


def job_of(
    request: TrainRequest,
    parts: Split,
    fit: FitWithin,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    workers: Workers = None,
) -> Job:
    """Return the job of the request's method on a split; `fit` trains within sizes."""
    users, row_bits = request.backbone.user_table, _row_bits(request)
    bits = request.backbone.code_bits(request.config)
    if bits is None and row_bits:
        # Codes of the fewest bits take the largest graphs.
        overhead, block_overhead = coded_overhead(parts.train.item_ids, request.dimensions, min(row_bits))
    elif bits is None:
        user_ids = parts.train.user_ids if users else None
        overhead, block_overhead = bundle_overhead(parts.train.item_ids, user_ids, request.precision), BLOCK_OVERHEAD
        overhead += SPARSE_OVERHEAD if request.backbone.sparse_rows else 0
    else:
        overhead, block_overhead = coded_overhead(parts.train.item_ids, request.dimensions, bits)

    def validated(vectors: Vectors) -> dict[str, float]:
        return validate(parts, vectors.with_history(parts.train), request.options)

    return Job(
        backbone=request.backbone,
        train=_trained_on(request, parts) if request.method.budgeted else parts.train,  # full rows count nothing
        d=request.dimensions,
        user_table=users,
        budget=request.budget,
        bytes_per_value=1 if request.precision == AUTO else BITS_PER_VALUE[request.precision] / 8,
        code_bits=bits,
        row_bits=row_bits,
        overhead=overhead + 4 * request.backbone.extra_parameters(request.dimensions, request.config),
        block_overhead=block_overhead,
        seed=request.options.seed,
        fit=fit,
        validate=validated,
        progress=progress or (lambda step: None),
        config=request.config,
        split=parts,
        options=request.options,
        checkpoint=checkpoint,
        workers=workers,
    )


def _row_bits(request: TrainRequest) -> tuple[int, ...]:
    """Return `Job.row_bits`."""
    if not request.method.codes_rows:
        return ()
    if request.precision == AUTO:
        return tuple(sorted(PRECISION_OF_BITS, reverse=True))
    bits = BITS_PER_VALUE[request.precision]
    return (bits,) if bits in PRECISION_OF_BITS else ()


def _trained_on(request: TrainRequest, parts: Split) -> Interactions:
    """Return the interactions that the final model is trained on."""
    return parts.train_all if request.split.fit_all else parts.train


def _finished(
    folder: Path,
    command: dict[str, Any],
    fingerprint: str,
    checkpoint: Checkpoint,
    *,
    resume: bool,
    overwrite: bool,
) -> Run | None:
    """Return the finished run of this command in `folder`; else prepare the folder for it. Raises RunError."""
    done, begun = (folder / FILE_NAME).exists(), checkpoint.path.exists() or (folder / SEARCH).is_dir()
    state = state_of(folder, "run", done=done, begun=begun, resume=resume, overwrite=overwrite)
    if state == "done":
        run = Run.load(folder)
        if any(run.config.get(name) != value for name, value in command.items()):
            raise RunError(f"{folder} holds a finished run of another command; choose another --out, or --overwrite")
        if run.data_fingerprint != fingerprint:
            raise RunError(f"{folder} holds a finished run on other data; choose another --out, or --overwrite")
        return run
    if state == "begun":
        checkpoint.check()
    else:
        SearchHistory.clear(folder)
    return None


def stored_table(
    values: NDArray[np.float32],
    sizes: NDArray[np.int64] | None,
    *,
    sparse: bool = False,
    codes: RowCodes | None = None,
) -> Table:
    """Return rows (n, d) as the smallest table that holds them: sparse, coded, prefix or dense."""
    if sparse:
        return SparseTable.from_dense(values)
    if codes is not None:
        return CodedTable.of_rows(values, np.full(len(values), values.shape[1]) if sizes is None else sizes, codes)
    return DenseTable(values) if sizes is None else PrefixTable.from_dense(values, sizes)

"""The documented Python API of training; the command line only calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import Budget, bundle_overhead
from edgerec.data import Interactions, SplitSpec
from edgerec.data import split as split_interactions
from edgerec.errors import RunError, UnsupportedError
from edgerec.measure import evaluate, measure_vectors
from edgerec.methods import Job, Method
from edgerec.methods import method as find_method
from edgerec.models import Backbone, SizePlan
from edgerec.models import backbone as find_backbone
from edgerec.tables import DenseTable, PrefixTable, Table
from edgerec.training import Checkpoint, Fit, FitOptions, FitResult, Progress, Run
from edgerec.training.run import FILE_NAME

__all__ = ["TrainRequest", "evaluate", "train"]

BYTES_PER_VALUE = {"fp32": 4.0, "int8": 1.0}


@dataclass(frozen=True)
class TrainRequest:
    """What to train, checked.

    Attributes:
        backbone: 'ials', 'mf' or 'svd'.
        method: 'dense', 'uniform' or 'popularity'.
        budget: '10%' of the dense fp32 tables, '512KiB' of a default bundle, '8B/row' or a parameter count;
            None only for a method that takes none.
        dimensions: of a full row.
        split: what trains, chooses settings and tests.
        precision: that the bundle is meant to have; decides how many values a budget in bytes buys.
        config, method_config: of the backbone and the method.
        options: seed, threads, device, epochs.
    """

    backbone: Backbone
    method: Method
    budget: Budget | None
    dimensions: int
    split: SplitSpec
    precision: str
    config: Any
    method_config: Any
    options: FitOptions

    @classmethod
    def make(
        cls,
        backbone: str = "ials",
        method: str = "popularity",
        *,
        budget: Budget | str | None = None,
        dimensions: int = 64,
        split: SplitSpec | str = "random:80/20",
        precision: str = "fp32",
        settings: Mapping[str, Any] | None = None,
        method_settings: Mapping[str, Any] | None = None,
        options: FitOptions | None = None,
    ) -> TrainRequest:
        """Read names, spellings and settings. Raises UnsupportedError, BudgetError, DataError."""
        options = options or FitOptions()
        if precision not in BYTES_PER_VALUE:
            raise UnsupportedError(f"there is no precision {precision!r}; there are: {', '.join(BYTES_PER_VALUE)}")
        if dimensions < 1:
            raise UnsupportedError(f"a table needs at least one dimension, got {dimensions}")
        model, technique = find_backbone(backbone), find_method(method, backbone)
        return cls(
            model,
            technique,
            Budget.parse(budget) if isinstance(budget, str) else budget,
            dimensions,
            SplitSpec.parse(split, seed=options.seed) if isinstance(split, str) else split,
            precision,
            _configured(model.config, settings, f"backbone {backbone}"),
            _configured(technique.config, method_settings, f"method {method}"),
            options,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON."""
        return {
            "backbone": self.backbone.name,
            "method": self.method.name,
            "budget": None if self.budget is None else str(self.budget),
            "dimensions": self.dimensions,
            "split": self.split.to_dict(),
            "precision": self.precision,
            "seed": self.options.seed,
            "max_epochs": self.options.max_epochs,
            "patience": self.options.patience,
            "settings": asdict(self.config),
            "method_settings": asdict(self.method_config),
        }


def train(
    interactions: Interactions,
    request: TrainRequest | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **wanted: Any,
) -> Run:
    """Train tables under a budget.

    Example:
        >>> run = edgerec.train(edgerec.load_data("ml-100k"), backbone="ials", method="popularity", budget="10%")

    Args:
        request: what to train; without one, `wanted` are the arguments of `TrainRequest.make`.
        out: folder for the run; a checkpoint is kept there after each epoch.
        resume: go on from the checkpoint in `out`; a finished run is returned as it is.
        overwrite: start anew where `out` holds a run.
        progress: called once an epoch.

    Raises:
        UnsupportedError: no such backbone, method, setting, or pair of them.
        BudgetError: a budget that cannot be kept; the smallest possible is named.
        DataError: the split leaves nothing, or training diverges.
        RunError: `out` holds another run, or a finished one.
        StorageError: the file system refuses.
    """
    request = request or TrainRequest.make(**wanted)
    command = {"data": interactions.name, **request.to_dict()}
    fingerprint = interactions.fingerprint()
    checkpoint = None
    if out is not None:
        checkpoint = Checkpoint(Path(out), {**command, "data_fingerprint": fingerprint})
        finished = _prepare(Path(out), command, fingerprint, checkpoint, resume=resume, overwrite=overwrite)
        if finished is not None:
            return finished
    run = _fit(interactions, request, checkpoint, progress, command, fingerprint)
    if out is not None and checkpoint is not None:
        run.save(Path(out))
        checkpoint.remove()
    return run


def _fit(
    interactions: Interactions,
    request: TrainRequest,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    command: dict[str, Any],
    fingerprint: str,
) -> Run:
    parts = split_interactions(interactions, request.split)
    model = request.backbone

    def fit(sizes: SizePlan) -> FitResult:
        options = request.options
        return Fit(model, parts, sizes, request.config, options, checkpoint=checkpoint, progress=progress).run()

    job = Job(
        parts.train_all if parts.fit_all else parts.train,
        request.dimensions,
        model.user_table,
        request.budget,
        BYTES_PER_VALUE[request.precision],
        bundle_overhead(interactions.item_ids, interactions.user_ids if model.user_table else None),
        request.options.seed,
        fit,
    )
    result = request.method.fit(job, request.method_config)
    vectors, sizes = result.vectors, result.sizes
    metrics = {"test": measure_vectors(parts, vectors.users, vectors.items, request.options.threads)}
    if result.validation:
        metrics["validation"] = result.validation
    return Run(
        items=_table(vectors.items, sizes.items),
        users=_table(vectors.users, sizes.users) if model.user_table else None,
        history_weights=vectors.history_weights,
        user_ids=interactions.user_ids,
        item_ids=interactions.item_ids,
        titles=interactions.titles,
        config={**command, "chosen_settings": asdict(result.config), "epochs": result.epochs},
        metrics=metrics,
        data_fingerprint=fingerprint,
        history=result.history,
    )


def _prepare(
    folder: Path,
    command: dict[str, Any],
    fingerprint: str,
    checkpoint: Checkpoint,
    *,
    resume: bool,
    overwrite: bool,
) -> Run | None:
    """Make sure that nothing is overwritten unasked; returns the finished run that `resume` finds."""
    done = (folder / FILE_NAME).exists()
    if overwrite:
        (folder / FILE_NAME).unlink(missing_ok=True)
        checkpoint.remove()
    elif done and resume:
        run = Run.load(folder)
        if run.data_fingerprint != fingerprint or any(run.config.get(name) != value for name, value in command.items()):
            raise RunError(f"{folder} holds a finished run of another command; choose another --out, or --overwrite")
        return run
    elif done:
        raise RunError(f"{folder} holds a finished run; choose another --out, or --overwrite it")
    elif checkpoint.path.exists() and not resume:
        raise RunError(f"{folder} holds an unfinished run; go on with --resume, or start anew with --overwrite")
    return None


def _configured(config: type[Any], settings: Mapping[str, Any] | None, whose: str) -> Any:
    known = {field.name for field in fields(config)}
    unknown = sorted(set(settings or {}) - known)
    if unknown:
        raise UnsupportedError(
            f"the {whose} has no setting {', '.join(unknown)}; it has: {', '.join(sorted(known)) or 'none'}"
        )
    try:
        return config(**(settings or {}))
    except TypeError as error:
        raise UnsupportedError(f"a setting of the {whose} has the wrong type: {error}") from error


def _table(values: NDArray[np.float32], sizes: NDArray[np.int64] | None) -> Table:
    return DenseTable(values) if sizes is None else PrefixTable.from_dense(values, sizes)

"""The full-size model of a search: what every judgement is a ratio to, and what fine-tuning starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from edgerec.data import Split
from edgerec.errors import DataError
from edgerec.models import Backbone, SizePlan, State, Vectors
from edgerec.training import Checkpoint, FitOptions, Progress, Step, validate
from edgerec.training.checkpoint import Snapshot
from edgerec.training.fit import SELECTION


@dataclass(frozen=True)
class FullModel:
    """A trained full-size model.

    Attributes:
        state: of its trainer after the epoch that was best on validation.
        vectors: of that epoch.
    """

    state: State
    vectors: Vectors


def train_full(
    backbone: Backbone,
    split: Split,
    d: int,
    config: Any,
    options: FitOptions,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> FullModel:
    """Train full rows on `split.train` until NDCG@20 on validation has not got better for the backbone's patience.

    Stopped at any epoch, it goes on from `checkpoint`, which also keeps the finished model.

    Raises DataError where training diverges, RunError where the checkpoint is another command's, StorageError.
    """
    at = (checkpoint.load(_Loop) if checkpoint else None) or Snapshot({"epoch": 0, "peak": None})
    trainer = backbone.trainer(
        split.train, SizePlan(d), config, seed=options.seed, threads=options.threads, device=options.device
    )
    now, best = (_part(at.trainer, name) for name in ("now", "best"))
    if now:
        trainer.restore(now)
    most, patience = options.max_epochs or backbone.max_epochs, options.patience or backbone.patience
    while not _is_over(at.loop, most, patience):
        values = trainer.epoch()
        vectors = trainer.vectors()
        score = validate(split, vectors.remade(split.train), options.threads)[SELECTION]
        at.loop["epoch"] += 1
        now = trainer.state()
        if at.loop["peak"] is None or score > at.loop["peak"]["score"]:
            at.loop["peak"], best, at.best = {"score": score, "epoch": at.loop["epoch"]}, now, vectors
        at.trainer = {f"{part}.{name}": a for part, s in (("now", now), ("best", best)) for name, a in s.items()}
        if checkpoint is not None:
            checkpoint.save(at)
        if progress is not None:
            progress(Step("full", 1, 1, at.loop["epoch"], most, {**values, SELECTION: score}))
    if at.best is None:
        raise DataError("no epoch of the full-size model gave a score: training diverged; lower the learning rate")
    return FullModel(best, at.best)


class _Peak(TypedDict):
    score: float
    epoch: int


class _Loop(TypedDict):
    """Where the training stands, as its checkpoint has it."""

    epoch: int
    peak: _Peak | None


def _is_over(loop: dict[str, Any], most: int, patience: int) -> bool:
    waited = loop["epoch"] - (loop["peak"]["epoch"] if loop["peak"] else 0)
    return bool(loop["epoch"] >= most or waited >= patience)


def _part(state: State, name: str) -> State:
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}

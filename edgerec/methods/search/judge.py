"""The judge of a search: what sizes are worth, by short trainings on train and eval on the validation part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Split
from edgerec.errors import DataError, TableError
from edgerec.extras import require
from edgerec.files import atomic_write
from edgerec.methods.base import Job
from edgerec.methods.search.fitness import Judged, judged
from edgerec.methods.search.full import FullModel, train_full
from edgerec.methods.search.warm import warm_trainer
from edgerec.methods.search.workers import Pool, pool
from edgerec.models import SizePlan, State
from edgerec.models import backbone as find_backbone
from edgerec.tables import load_arrays
from edgerec.training.checkpoint import Snapshot

__all__ = ["Judge", "Judged", "Kind"]

_OWNER = 2
"""The number of the checkpoint that says whose search it is, behind the full model's and CIESS's own."""

Kind = Literal["fine-tune", "fresh"]
"""Trainings go on from the full-size model (BET, section 4.3), or start from scratch (CIESS, section 3.2)."""


class Judge:
    """Judges sizes on the validation part, in parallel where the job has workers.

    Every answer is kept beside the run, so that a search that was stopped asks nothing twice. It is used as a context:
    at its end the workers are gone. One thread a training, here and in workers, so that they make the same; and all
    have the job's seed, so that what differs is the sizes' doing.
    """

    def __init__(self, job: Job, kind: Kind, *, oracle: str = "backbone", epochs: int = 5) -> None:
        """A judge of the job's sizes.

        Args:
            oracle: what is trained: the job's 'backbone', or 'ials' with its own settings in its place.
            epochs: of each training.

        Raises DataError where the split holds nothing back.
        """
        if not len(job.split.validation):
            raise DataError(f"{job.split.spec} leaves nothing for a search to judge by; use a split with more")
        self._job, self._kind, self._epochs = job, kind, epochs
        self._backbone, self._config, self._options = job.backbone, job.config, job.options
        if oracle == "ials" != job.backbone.name:
            self._backbone = find_backbone("ials")
            self._config = self._backbone.config()
            self._options = replace(job.options, device="cpu", max_epochs=None, patience=None)
        self._folder = job.checkpoint.of_search().folder if job.checkpoint else None
        self._found: FullModel | None = None
        self._full: Judged | None = None
        self._pool: Pool | None = None
        self._kept: dict[str, Judged] = {}

    def full(self) -> Judged:
        """Of the full-size model, which is trained once, until it gets no better. Raises as `train_full` does."""
        if self._full is None:
            self._full = judged(self._job.split, self._full_model().vectors, self._options.threads)
        return self._full

    def judge(self, plans: Sequence[SizePlan]) -> list[Judged]:
        """Each plan's, in order. Raises as `each` does."""
        return list(self.each(plans))

    def each(self, plans: Sequence[SizePlan]) -> Iterator[Judged]:
        """As `judge`, one after the other in order, each as soon as it is there.

        Raises as `train_full` does, and WorkerError where a worker is lost.
        """
        keys = [_key(plan, self._options.seed) for plan in plans]
        tasks = {key: plan for key, plan in zip(keys, plans, strict=True) if not self._has(key)}
        asked = list(tasks)
        answers = self._workers().answers(list(tasks.values())) if tasks else iter(())
        for key in keys:
            while key not in self._kept:
                number, evals = next(answers)
                self._keep(asked[number], evals)
            yield self._kept[key]

    def _full_model(self) -> FullModel:
        if self._found is None:
            self._found = train_full(
                self._backbone,
                self._job.split,
                self._job.d,
                self._config,
                self._options,
                checkpoint=self._job.checkpoint.of_search() if self._job.checkpoint else None,
                progress=self._job.progress,
            )
        return self._found

    def _workers(self) -> Pool:
        if self._pool is None:
            shared = _Shared(
                _bare(self._job.split),
                self._backbone.name,
                self._config,
                self._full_model().state if self._kind == "fine-tune" else self._first(),
                self._kind,
                self._epochs,
                self._options.seed,
                self._options.device,
            )
            self._pool = pool(self._job.workers, _answer, shared).__enter__()
        return self._pool

    def _first(self) -> State | None:
        """Of a full-size model before its first epoch where singular vectors make it: they are the same for all."""
        if getattr(self._config, "start", None) != "svd":
            return None
        how: dict[str, Any] = {"seed": self._options.seed, "threads": 1, "device": self._options.device}
        trainer = self._backbone.trainer(self._job.split.train, SizePlan(self._job.d), self._config, **how)
        return trainer.state()

    def _has(self, key: str) -> bool:
        if key not in self._kept and self._folder is not None and (path := _path(self._folder, key)).exists():
            with suppress(TableError, KeyError):  # what a dying disk has damaged is asked again
                self._kept[key] = Judged(load_arrays(path)["evals"])
        return key in self._kept

    def _keep(self, key: str, evals: NDArray[np.float32]) -> None:
        self._kept[key] = Judged(evals)
        if self._folder is not None:
            with atomic_write(_path(self._folder, key)) as stream:
                np.savez(stream, evals=evals)

    def __enter__(self) -> Self:
        """Choose open settings: those that are best for full rows.

        Raises RunError where another command's search is here, and what a fit raises.
        """
        if self._job.checkpoint is not None:
            whose = self._job.checkpoint.of_search().of_fit(_OWNER)
            if whose.load() is None:
                whose.save(Snapshot({}))
        # Before all other fits, whatever is judged already: fits are numbered, and a run that is resumed counts them as
        # before.
        if len(self._backbone.candidates(self._config)) > 1:
            self._config = self._job.fit(SizePlan(self._job.d), final=False).config
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, at)
            self._pool = None


@dataclass(frozen=True)
class _Shared:
    """What all trainings of a search have in common.

    Attributes:
        full: the state of a full-size model that trainings begin with, cut to their sizes; None for one of their own.
    """

    split: Split
    backbone: str
    config: Any
    full: State | None
    kind: Kind
    epochs: int
    seed: int
    device: str


def _answer(shared: _Shared, plan: SizePlan) -> NDArray[np.float32]:
    """(3, n_users) evals of a plan."""
    backbone, train = find_backbone(shared.backbone), shared.split.train
    options: dict[str, Any] = {"seed": shared.seed, "threads": 1, "device": shared.device}
    with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
        if shared.full is None:
            trainer = backbone.trainer(train, plan, shared.config, **options)
        else:
            anew = shared.kind == "fine-tune"
            trainer = warm_trainer(backbone, train, plan, shared.config, shared.full, anew=anew, **options)
        for _ in range(shared.epochs):
            trainer.epoch()
        return judged(shared.split, trainer.vectors().remade(train), 1).evals


def _bare(split: Split) -> Split:
    """Train and validation, with nothing that a training does not look at."""

    def bare(part: Interactions) -> Interactions:
        return replace(part, ratings=None, timestamps=None, titles=None)

    nothing = split.test.select(np.zeros(len(split.test), np.bool_))
    return replace(split, train=bare(split.train), validation=bare(split.validation), test=bare(nothing))


def _key(plan: SizePlan, seed: int) -> str:
    """The name of a judgement."""
    digest = hashlib.sha256(str((plan.d, seed)).encode())
    for sizes in (plan.users, plan.items):
        digest.update(b"full" if sizes is None else np.ascontiguousarray(sizes, np.int64).tobytes())
    return digest.hexdigest()[:24]


def _path(folder: Path, key: str) -> Path:
    return folder / f"judged-{key}.npz"

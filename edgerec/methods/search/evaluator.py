"""The evaluator of size searches: short trainings on train, measured by their eval on the validation part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.data import KS, Interactions, Split, metrics_per_user, top_k_of_vectors
from edgerec.errors import DataError, TableError
from edgerec.extras import require
from edgerec.files import atomic_write
from edgerec.methods.base import Job
from edgerec.methods.search.workers import Pool, pool
from edgerec.models import Backbone, SizePlan, State, Trainer, Vectors, cut, join_states, state_of_part
from edgerec.models import backbone as find_backbone
from edgerec.tables import load_arrays
from edgerec.training import SELECTION, Checkpoint, FitOptions, Progress, Snapshot, Step, validate

_OWNER = 2
"""Number of the checkpoint that records the search's command; 0 is the full model's, 1 that of CIESS's search."""

Kind = Literal["fine-tune", "fresh"]
"""'fine-tune': trainings continue from the full-size model (BET, section 4.3); 'fresh': they start from scratch (CIESS,
section 3.2)."""


class SizeEvaluator:
    """Evaluates sizes on the validation part, in parallel if the job has workers.

    Every evaluation is stored in the run's folder, so that a resumed search evaluates nothing twice. Use it as a
    context manager, which ends the workers. Every training has one thread, here and in workers, so that results agree,
    and the job's seed, so that differences come from the sizes.
    """

    def __init__(self, job: Job, kind: Kind, *, proxy: str = "backbone", epochs: int = 5) -> None:
        """Initialise an evaluator of the job's sizes.

        Args:
            proxy: the trained model: the job's 'backbone', or 'ials' with typical settings.
            epochs: epochs of each training.

        Raises DataError if the split holds nothing back.
        """
        check_validation(job)
        self._job, self._kind, self._epochs = job, kind, epochs
        self._backbone, self._config, self._options = job.backbone, job.config, job.options
        if proxy == "ials" != job.backbone.name:
            self._backbone = find_backbone("ials")
            self._config = self._backbone.closed(self._backbone.config())
            self._options = replace(job.options, max_epochs=None, patience=None)
        self._folder = job.checkpoint.of_search().folder if job.checkpoint else None
        self._found: FullModel | None = None
        self._full: Evaluation | None = None
        self._pool: Pool | None = None
        self._evaluations: dict[str, Evaluation] = {}

    def full(self) -> Evaluation:
        """Return the evaluation of the full-size model, which is trained once. Raises as `train_full` does."""
        if self._full is None:
            self._full = evaluation_of(self._job.split, self._full_model().vectors, self._options.threads)
        return self._full

    def evaluate(self, plans: Sequence[SizePlan]) -> list[Evaluation]:
        """Return the evaluation of each plan, in order. Raises as `each` does."""
        return list(self.each(plans))

    def each(self, plans: Sequence[SizePlan]) -> Iterator[Evaluation]:
        """Yield the evaluation of each plan, in order, as soon as it is available.

        Raises as `train_full` does, and WorkerError if a worker is lost.
        """
        keys = [_key(plan, self._options.seed) for plan in plans]
        tasks = {key: plan for key, plan in zip(keys, plans, strict=True) if not self._is_stored(key)}
        pending = list(tasks)
        answers = self._workers().answers(list(tasks.values())) if tasks else iter(())
        for key in keys:
            while key not in self._evaluations:
                number, evals = next(answers)
                self._store(pending[number], evals)
            yield self._evaluations[key]

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
                self._full_model().state if self._kind == "fine-tune" else self._initial_state(),
                self._kind,
                self._epochs,
                self._options.seed,
                self._options.device,
            )
            self._pool = pool(self._job.workers, _answer, shared)
        return self._pool

    def _initial_state(self) -> State | None:
        """Return the initial state of a full-size model from singular vectors, which all trainings share; else None."""
        if getattr(self._config, "start", None) != "svd":
            return None
        how: dict[str, Any] = {"seed": self._options.seed, "threads": 1, "device": self._options.device}
        trainer = self._backbone.trainer(self._job.split.train, SizePlan(self._job.d), self._config, **how)
        return trainer.state()

    def _is_stored(self, key: str) -> bool:
        if key not in self._evaluations and self._folder is not None and (path := _path(self._folder, key)).exists():
            with suppress(TableError, KeyError):  # a damaged file is evaluated again
                self._evaluations[key] = Evaluation(load_arrays(path)["evals"])
        return key in self._evaluations

    def _store(self, key: str, evals: NDArray[np.float32]) -> None:
        self._evaluations[key] = Evaluation(evals)
        if self._folder is not None:
            with atomic_write(_path(self._folder, key)) as stream:
                np.savez(stream, evals=evals)

    def __enter__(self) -> Self:
        """Choose the backbone's unset settings with full rows.

        Raises RunError if the folder holds another command's search, and the errors of a fit.
        """
        claim_folder(self._job)
        # Before all other fits, whatever is evaluated already: fits are numbered, and a resumed run must count them in
        # the same order.
        if self._backbone.open_axes(self._config):
            self._config = self._job.fit(SizePlan(self._job.d), final=False).config
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def check_validation(job: Job) -> None:
    """Raise DataError if the split holds nothing back."""
    if not len(job.split.validation):
        raise DataError(f"{job.split.spec} leaves no validation part to search on; try --split random:60/20/20")


def claim_folder(job: Job) -> None:
    """Record the command whose search the run's folder holds. Raises RunError if it is another one's, StorageError."""
    if job.checkpoint is not None:
        whose = job.checkpoint.of_search().of_fit(_OWNER)
        if whose.load() is None:
            whose.save(Snapshot({}))


@dataclass(frozen=True)
class _Shared:
    """The shared part of a search's trainings.

    Attributes:
        full: the state of a full-size model from which trainings start, truncated to their sizes; None to start from
            scratch.
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
    """Return the (3, n_users) evals of a plan."""
    backbone, train = find_backbone(shared.backbone), shared.split.train
    options: dict[str, Any] = {"seed": shared.seed, "threads": 1, "device": shared.device}
    with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
        if shared.full is None:
            trainer = backbone.trainer(train, plan, shared.config, **options)
        else:
            restart = shared.kind == "fine-tune"
            trainer = warm_trainer(backbone, train, plan, shared.config, shared.full, restart=restart, **options)
        for _ in range(shared.epochs):
            trainer.epoch()
        return evaluation_of(shared.split, trainer.vectors().with_history(train), 1).evals


def _bare(split: Split) -> Split:
    """Return train and validation without the data that trainings do not use."""

    def bare(part: Interactions) -> Interactions:
        return replace(part, ratings=None, timestamps=None, titles=None)

    nothing = split.test.select(np.zeros(len(split.test), np.bool_))
    return replace(split, train=bare(split.train), validation=bare(split.validation), test=bare(nothing))


def _key(plan: SizePlan, seed: int) -> str:
    """Return the name of an evaluation."""
    digest = hashlib.sha256(str((plan.d, seed)).encode())
    for sizes in (plan.users, plan.items):
        digest.update(b"full" if sizes is None else np.ascontiguousarray(sizes, np.int64).tobytes())
    return digest.hexdigest()[:24]


def _path(folder: Path, key: str) -> Path:
    return folder / f"judged-{key}.npz"


@dataclass(frozen=True)
class Evaluation:
    """The quality of tables of some sizes on the validation part.

    Attributes:
        evals: (3, n_users) float32, eval(e_u): the mean over k of 5, 10 and 20 of (Recall@k + NDCG@k) / 2, on the whole
            validation part and on each half of it; NaN for users without interactions there. Items have no eval of
            their own: CIESS takes the mean over their users.
    """

    evals: NDArray[np.float32]

    @property
    def users(self) -> NDArray[np.float32]:
        """(n_users,) evals on the whole validation part."""
        whole: NDArray[np.float32] = self.evals[0]
        return whole

    @property
    def mean(self) -> float:
        """The mean over the users with an eval."""
        return float(np.nanmean(self.users, dtype=np.float64))


def evaluation_of(split: Split, vectors: Vectors, threads: int | None) -> Evaluation:
    """Evaluate vectors that were trained on `split.train` on `split.validation`; train is masked.

    Vectors that are not finite have an eval of 0, so that a search continues after a diverged training.
    """
    parts = (split.validation, *halves(split.validation))
    evals = np.full((len(parts), split.validation.n_users), np.nan, np.float32)
    known = [part.user_counts() > 0 for part in parts]
    for of_part, has in zip(evals, known, strict=True):
        of_part[has] = 0
    if not (np.isfinite(vectors.users).all() and np.isfinite(vectors.items).all()):
        return Evaluation(evals)
    rows = np.flatnonzero(known[0])
    scores = None if vectors.scorer is None else vectors.scorer.scores
    rankings = top_k_of_vectors(
        vectors.users, vectors.items, rows, max(KS), seen=(split.train,), threads=threads, scores=scores
    )
    for part, of_part, has in zip(parts, evals, known, strict=True):
        of_part[has] = eval_of(metrics_per_user(rankings[has[rows]], part, rows=np.flatnonzero(has)))
    return Evaluation(evals)


def halves(validation: Interactions) -> tuple[Interactions, Interactions]:
    """Split the validation part by alternate items of each user into two halves."""
    second = np.arange(len(validation)) % 2 == 1
    return validation.select(~second), validation.select(second)


def eval_of(metrics: dict[str, NDArray[np.float64]] | dict[str, float]) -> NDArray[np.float64]:
    """Return the eval of metrics by name, numbers or arrays (CIESS, section 3.2; BET, section 4.3)."""
    each = [np.add(metrics[f"recall@{k}"], metrics[f"ndcg@{k}"]) / 2 for k in KS]
    return np.asarray(np.mean(each, axis=0), np.float64)


@dataclass(frozen=True)
class FullModel:
    """A trained full-size model.

    Attributes:
        state: state of its trainer after the best epoch on validation.
        vectors: vectors of that epoch.
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
    """Train full rows on `split.train` until NDCG@20 on validation has not improved for the backbone's patience.

    It resumes from `checkpoint` at any epoch; the checkpoint also stores the finished model.

    Raises DataError if training diverges, RunError if the checkpoint is another command's, StorageError.
    """
    at = (checkpoint.load(_Loop) if checkpoint else None) or Snapshot({"epoch": 0, "peak": None})
    trainer = backbone.trainer(
        split.train, SizePlan(d), config, seed=options.seed, threads=options.threads, device=options.device
    )
    now, best = (state_of_part(at.trainer, name) for name in ("now", "best"))
    if now:
        trainer.restore(now)
    most, patience = options.max_epochs or backbone.max_epochs, options.patience or backbone.patience
    while not _is_over(at.loop, most, patience):
        values = trainer.epoch()
        vectors = trainer.vectors()
        score = validate(split, vectors.with_history(split.train), options)[SELECTION]
        at.loop["epoch"] += 1
        now = trainer.state()
        if at.loop["peak"] is None or score > at.loop["peak"]["score"]:
            at.loop["peak"], best, at.best = {"score": score, "epoch": at.loop["epoch"]}, now, vectors
        at.trainer = join_states({"now": now, "best": best})
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
    """State of the training loop, as its checkpoint stores it."""

    epoch: int
    peak: _Peak | None


def _is_over(loop: dict[str, Any], most: int, patience: int) -> bool:
    waited = loop["epoch"] - (loop["peak"]["epoch"] if loop["peak"] else 0)
    return bool(loop["epoch"] >= most or waited >= patience)


_SCHEDULE = ("generator", "epochs")
"""Parts of the trainer state that are not copied from the full model: draws follow the seed, and the step size schedule
restarts, as in the authors' code."""


def warm_trainer(
    backbone: Backbone, train: Interactions, plan: SizePlan, config: Any, full: State, *, restart: bool, **options: Any
) -> Trainer:
    """Return a trainer within `plan` with the tables of `full`, truncated to their sizes.

    Args:
        full: the state of the backbone's trainer of full rows, with the same `config`.
        restart: True to restart draws, step sizes and moments; else they continue from `full`.
        options: further arguments of `Backbone.trainer`.
    """
    names = {field.name for field in fields(config)}
    # The tables are replaced, so that starting from singular vectors would waste time.
    quick = replace(config, start="normal") if "start" in names else config
    trainer = backbone.trainer(train, plan, quick, **options)
    trainer.restore(warm_state(trainer.state() if restart else full, full, plan, train, config))
    return trainer


def warm_state(fresh: State, full: State, plan: SizePlan, train: Interactions, config: Any) -> State:
    """Return an initial trainer state with the tables and weights of the full-size model, without Adam's moments.

    Args:
        fresh: state of a trainer within `plan` that has not trained.
    """
    state = {name: fresh[name] if name in _SCHEDULE else full[name].copy() for name in fresh}
    if "gmf" in fresh:
        state |= _neumf(fresh, full, plan.d)
    for name, sizes in _masked(plan, train, config).items():
        if name in state:
            state[name] = cut(state[name], sizes)
    return state


def _masked(plan: SizePlan, train: Interactions, config: Any) -> dict[str, NDArray[np.int64] | None]:
    """Return, by the name of a state array, the sizes past which its rows must be zero."""
    masks: dict[str, NDArray[np.int64] | None] = {"users": plan.users, "items": plan.items}
    if getattr(config, "mask_at", "output") == "ego":
        # A row of NGCF is shared by the ego row and its layers; LightGCN's is the ego row.
        parts = config.layers + 1 if config.backbone == "ngcf" else 1
        pairs = ((plan.users, train.n_users), (plan.items, train.n_items))
        full = [np.full(n, plan.d) if sizes is None else sizes for sizes, n in pairs]
        masks["ego"] = -(-np.concatenate(full) // parts)
    return masks


def _neumf(fresh: State, full: State, d: int) -> State:
    """Return NeuMF's tables and weights for fewer product dimensions than in full rows.

    The first product dimensions of the full model stay, as in the authors' code, followed by the dimensions of its
    perceptron. Remaining dimensions start at zero: they change no score until they are trained.
    """
    old, new = len(full["gmf"]), len(fresh["gmf"])
    products, rest = min(old, new), min(d - old, d - new)
    state = {name: full[name].copy() for name in ("biases0", "weights1")}
    state["gmf"] = fresh["gmf"].copy()
    state["gmf"][:products] = full["gmf"][:products]
    for name in ("users", "items"):
        state[name] = np.zeros_like(fresh[name])
        state[name][:, :products] = full[name][:, :products]
        state[name][:, new : new + rest] = full[name][:, old : old + rest]
    state["weights0"] = fresh["weights0"].copy()
    for side in range(2):
        state["weights0"][side * (d - new) :][:rest] = full["weights0"][side * (d - old) :][:rest]
    return state

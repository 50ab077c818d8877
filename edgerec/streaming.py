"""Training on a stream: new sizes, a training, a measurement and a run at each segment."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from edgerec.api import stored_table
from edgerec.budget import BITS_PER_VALUE, Budget, SizeBudget
from edgerec.data import Interactions, Segment, Split, SplitSpec, Stream, StreamSpec, stream
from edgerec.errors import BudgetError, RunError
from edgerec.files import filling, remove
from edgerec.methods.search import SearchHistory, size_deciles
from edgerec.methods.stream import DecisionContext, SizePolicy, StreamMethod, stream_method
from edgerec.methods.stream.policy import SegmentContext, UserMetric, size_budget, values_of
from edgerec.methods.stream.result import FILE_NAME, SegmentResult, StreamResult
from edgerec.methods.stream.warm_start import Carry, PastSegment, StreamTraining
from edgerec.models import SizePlan, State, Trainer
from edgerec.models import backbone as find_backbone
from edgerec.request import check_numbers, configured
from edgerec.training import Checkpoint, Fit, FitOptions, Run, Step
from edgerec.training.checkpoint import Snapshot, state_of

StreamProgress = Callable[[int, int, Step], None]
"""Called after each epoch and trial with the segment's number from 0, the number of segments, and the step."""


@dataclass(frozen=True)
class StreamRequest:
    """A checked request of a training on a stream.

    Attributes:
        method, budget, dimensions, precision: those that `train_stream` takes, parsed.
        method_config: config of the method.
        spec: the rule that divides the stream.
        training: settings of each segment's training.
    """

    method: StreamMethod
    method_config: Any
    budget: Budget
    dimensions: int
    spec: StreamSpec
    precision: str
    training: StreamTraining

    @classmethod
    def make(
        cls,
        backbone: str = "ials",
        method: str = "scall",
        *,
        budget: Budget | str,
        dimensions: int = 64,
        segments: StreamSpec | str = "8",
        precision: str = "fp32",
        settings: Mapping[str, Any] | None = None,
        method_settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int | None = None,
        first_epochs: int | None = None,
        epochs: int | None = None,
        refit: str = "full",
    ) -> StreamRequest:
        """Parse and check names, spellings and settings.

        Raises UnsupportedError, BudgetError, SettingError, DataError.
        """
        check_numbers(precision, dimensions, seed)
        model, technique = find_backbone(backbone), stream_method(method)
        config = configured(model.config, settings, f"backbone {backbone}")
        return cls(
            technique,
            configured(technique.config, method_settings, f"method {method}", technique.variants),
            Budget.parse(budget) if isinstance(budget, str) else budget,
            dimensions,
            StreamSpec.parse(segments, seed=seed) if isinstance(segments, str) else segments,
            precision,
            StreamTraining(model, config, seed, threads, first_epochs, epochs, refit),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the result, as JSON."""
        training = self.training
        return {
            "backbone": training.backbone.name,
            "method": self.method.name,
            "budget": str(self.budget),
            "dimensions": self.dimensions,
            "stream": self.spec.to_dict(),
            "precision": self.precision,
            "seed": training.seed,
            "first_epochs": training.first,
            "epochs": training.following,
            "refit": training.refit,
            "settings": asdict(training.config),
            "method_settings": asdict(self.method_config),
        }

    def size_budget(self, known: Interactions) -> SizeBudget:
        """Return the budget of tables of the users and items of `known`. Raises BudgetError."""
        bytes_per_value = BITS_PER_VALUE[self.precision] / 8
        return size_budget(self.budget, known, self.dimensions, bytes_per_value=bytes_per_value)


def train_stream(
    interactions: Interactions,
    *,
    out: str | Path,
    budget: Budget | str,
    backbone: str = "ials",
    method: str = "scall",
    dimensions: int = 64,
    segments: StreamSpec | str = "8",
    precision: str = "fp32",
    settings: Mapping[str, Any] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int | None = None,
    first_epochs: int | None = None,
    epochs: int | None = None,
    refit: str = "full",
    resume: bool = False,
    overwrite: bool = False,
    progress: StreamProgress | None = None,
) -> StreamResult:
    """Train on a stream under a budget: sizes, a training and a run for each segment.

    Example:
        >>> films = edgerec.load_data("ml-100k")
        >>> result = edgerec.train_stream(films, method="scall", budget="10%", out="streams/films")

    Args:
        interactions: interactions with timestamps.
        out: folder for the run of segment n, `segment-NN`, and the results of all, `stream.json`. A killed training
            resumes to the same bits if trainings have one thread.
        budget: budget of every segment's tables: '10%' and '8B/row' fix the mean size, so that tables grow with the
            rows; '512KiB' of a default bundle and a parameter count fix the total.
        backbone: the model that scores: 'ials' or 'lightgcn'.
        method: the rule that sizes rows: one of `edgerec.methods.stream.STREAM_METHODS`.
        dimensions: dimensions of a full row.
        segments: '8' for that number of segments with about as many new users and items each, 'new:1000' for segments
            of that many new users and items, 'days:30' for segments of that length.
        precision: precision of the bundles to be exported; decides how many values a budget in bytes buys.
        settings, method_settings: settings of the backbone and of the method, by name; the method's 'variant' selects a
            whole set of them.
        seed: seed of every random choice.
        threads: maximum number of threads; one makes the result reproducible to the bit.
        first_epochs, epochs: epochs of the first segment, and of each later one; None for the backbone's own.
        refit: training of a later segment by iALS: 'full' from the start; 'all', 'active' or 'touched' rows from the
            previous tables.
        resume: continue from what `out` holds; a finished stream is returned as it is.
        overwrite: replace a stream that `out` holds.
        progress: called after each epoch and each trial with the segment's number from 0, their count and the step.

    Raises:
        UnsupportedError, SettingError: no such method, backbone or setting.
        BudgetError: the rows of the last segment cannot meet the budget; the message names the smallest possible one.
        DataError: the interactions form no stream.
        RunError: `out` holds another stream, or a finished one.
        InUseError: another process trains into `out`; raised before anything is trained.
        StorageError: the file system refuses.
    """
    request = StreamRequest.make(
        backbone,
        method,
        budget=budget,
        dimensions=dimensions,
        segments=segments,
        precision=precision,
        settings=settings,
        method_settings=method_settings,
        seed=seed,
        threads=threads,
        first_epochs=first_epochs,
        epochs=epochs,
        refit=refit,
    )
    return train_stream_request(interactions, request, out=out, resume=resume, overwrite=overwrite, progress=progress)


def train_stream_request(
    interactions: Interactions,
    request: StreamRequest,
    *,
    out: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    progress: StreamProgress | None = None,
) -> StreamResult:
    """Train on the stream of a checked request; the other arguments and the errors are those of `train_stream`."""
    folder = Path(out)
    segments = stream(interactions, request.spec)
    command = {"data": interactions.name, **request.to_dict()}
    fingerprint = interactions.fingerprint()
    checkpoint = Checkpoint(folder, {**command, "data_fingerprint": fingerprint}, fresh=overwrite and not resume)
    begun = StreamResult(command, fingerprint, len(segments))
    with filling(folder):
        finished = _finished(folder, begun, checkpoint, resume=resume, overwrite=overwrite)
        if finished is not None:
            return finished
        _check_budget(request, segments)
        show = progress or (lambda number, of, step: None)
        return _StreamLoop(request, segments, begun, folder, checkpoint, show).run()


def _finished(
    folder: Path, expected: StreamResult, checkpoint: Checkpoint, *, resume: bool, overwrite: bool
) -> StreamResult | None:
    """Return the finished stream of this command in `folder`; else prepare the folder for it. Raises RunError."""
    begun = checkpoint.path.exists()
    done = (folder / FILE_NAME).exists() and not begun
    state = state_of(folder, "stream", done=done, begun=begun, resume=resume, overwrite=overwrite)
    if state == "done":
        found = StreamResult.load(folder)
        if (found.command, found.data_fingerprint) != (expected.command, expected.data_fingerprint):
            raise RunError(f"{folder} holds a stream of another command; choose another --out, or --overwrite")
        return found
    if state == "new":
        remove(folder / FILE_NAME)
        for old in folder.glob("segment-*"):
            if re.fullmatch(r"segment-\d{2,}", old.name):
                shutil.rmtree(old, ignore_errors=True)
    return None


def _check_budget(request: StreamRequest, segments: Stream) -> None:
    """Raise BudgetError if the last segment, which has the most rows, cannot meet the budget."""
    last = segments.segment(len(segments) - 1).known
    try:
        request.size_budget(last)
    except BudgetError as error:
        raise BudgetError(f"the last segment of the stream has {sum(last.shape):,} rows: {error}") from error


class _Loop(TypedDict):
    """The state of a stream's training, as its checkpoint stores it."""

    segments: list[dict[str, Any]]


class _StreamLoop:
    """The loop over a stream's segments; everything that the next one needs is on disk after each."""

    def __init__(
        self,
        request: StreamRequest,
        segments: Stream,
        begun: StreamResult,
        folder: Path,
        checkpoint: Checkpoint,
        progress: StreamProgress,
    ) -> None:
        self._request, self._stream, self._folder, self._checkpoint = request, segments, folder, checkpoint
        self._progress, self._result = progress, begun
        self._policy: SizePolicy = request.method.policy(
            request.method_config, request.dimensions, request.training.seed
        )
        # Tables of the last segment, and of the one before it.
        self._carry: Carry | None = None
        self._earlier: Carry | None = None

    def run(self) -> StreamResult:
        """Train the segments from the checkpoint to the end."""
        found = self._checkpoint.load(_Loop)
        if found is None:
            self._save()
        else:
            self._restore(found)
        for done in self._result.segments:  # a kill may have left those of the last one
            Checkpoint(self._folder / done.run, {}).remove()
        before = None
        for number in range(len(self._result.segments), len(self._stream)):
            before = before or self._context_before(number)
            before = self._train_segment(self._stream.segment(number), before)
        self._result.save(self._folder)
        self._checkpoint.remove()
        return self._result

    def _context_before(self, number: int) -> SegmentContext | None:
        if number == 0:
            return None
        segment = self._stream.segment(number - 1)
        return SegmentContext(segment, self._request.size_budget(segment.known), self._earlier)

    def _train_segment(self, segment: Segment, before: SegmentContext | None) -> SegmentContext:
        folder = self._folder / f"segment-{segment.number:02}"
        now = SegmentContext(segment, self._request.size_budget(segment.known), self._carry)
        history = SearchHistory(folder)
        show = partial(self._progress, segment.number, len(self._stream))
        evaluate = partial(self._evaluate_on_previous, before)
        plan = self._policy.plan(DecisionContext(now, before, evaluate, history, show))
        trainer, run = self._trained(now, plan, folder, show)
        run.save(folder)
        self._earlier, self._carry = self._carry, self._request.training.carry_of(trainer, segment, plan)
        self._result.segments.append(self._segment_result(now, plan, run, folder, len(history.evaluated)))
        self._save()
        self._result.save(self._folder)
        Checkpoint(folder, {}).remove()
        return now

    def _evaluate_on_previous(self, before: SegmentContext | None, plan: SizePlan) -> UserMetric:
        if before is None:
            raise RunError("the first segment has no previous one to evaluate sizes on; use uniform sizes there")
        return PastSegment(self._request.training, before.segment, before.carry).evaluate(plan)

    def _trained(
        self, now: SegmentContext, plan: SizePlan, folder: Path, show: Callable[[Step], None]
    ) -> tuple[Trainer, Run]:
        training, segment = self._request.training, now.segment
        started: list[Trainer] = []

        def start(*given: Any, **options: Any) -> Trainer:
            started.append(training.start(segment, now.carry)(*given, **options))
            return started[-1]

        command = {**self._result.command, "segment": segment.number}
        result = Fit(
            training.backbone,
            _all_trains(segment.known),
            plan,
            training.config,
            FitOptions(training.seed, training.threads, max_epochs=training.epochs(segment.number)),
            checkpoint=Checkpoint(folder, {**command, "data_fingerprint": self._result.data_fingerprint}),
            progress=show,
            start=start,
        ).run()
        users, items, known = result.vectors.users, result.vectors.items, segment.known
        metrics = {"test": segment.measure(users, items, threads=training.threads)}
        encoded = training.backbone.encode(result.vectors, known, result.config, threads=training.threads)
        if encoded is not None:
            metrics["encoder"] = segment.measure(encoded.users, items, threads=training.threads)
        run = Run(
            items=stored_table(items, plan.items),
            users=stored_table(users, plan.users),
            encoder=None if encoded is None else encoded.encoder,
            user_ids=known.user_ids,
            item_ids=known.item_ids,
            titles=known.titles,
            config={
                **command,
                "split": {**self._request.spec.to_dict(), "segment": segment.number},
                "epochs": result.epochs,
                "chosen_settings": asdict(result.config),
            },
            metrics=metrics,
            data_fingerprint=self._result.data_fingerprint,
            history=result.history,
            user_counts=known.user_counts().astype(np.uint32),
            item_counts=known.item_counts().astype(np.uint32),
        )
        return started[-1], run

    def _segment_result(
        self, now: SegmentContext, plan: SizePlan, run: Run, folder: Path, n_trials: int
    ) -> SegmentResult:
        segment = now.segment
        return SegmentResult(
            segment.number,
            folder.name,
            segment.begins,
            segment.ends,
            {
                "users": segment.known.n_users,
                "items": segment.known.n_items,
                "new_users": segment.new_users.size,
                "new_items": segment.new_items.size,
            },
            {"train": len(segment.train), "replay": len(segment.replay), "test": len(segment.test)},
            now.budget.total,
            values_of(plan),
            run.nbytes,
            size_deciles(plan, *now.counts("all")),
            run.metrics["test"],
            self._policy.report(),
            n_trials,
        )

    def _save(self) -> None:
        state: State = {f"chooser.{name}": array for name, array in self._policy.state().items()}
        for name, carry in (("carry", self._carry), ("earlier", self._earlier)):
            if carry is not None:
                state |= {f"{name}.{part}": array for part, array in carry.state().items()}
        segments = [segment.to_json() for segment in self._result.segments]
        self._checkpoint.save(Snapshot({"segments": segments}, state))

    def _restore(self, found: Snapshot) -> None:
        try:
            self._result.segments.extend(map(SegmentResult.from_json, found.loop["segments"]))
        except ValueError as error:
            raise RunError(f"{self._checkpoint.path} is damaged ({error}); train again with --overwrite") from error
        parts: dict[str, State] = {"chooser": {}, "carry": {}, "earlier": {}}
        for name, array in found.trainer.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        if self._result.segments:
            self._policy.restore(parts["chooser"])
        self._carry = Carry.from_state(parts["carry"]) if parts["carry"] else None
        self._earlier = Carry.from_state(parts["earlier"]) if parts["earlier"] else None


def _all_trains(known: Interactions) -> Split:
    """Return a split that trains on everything and holds nothing back."""
    nothing = known.select(np.zeros(len(known), np.bool_))
    return Split(known, nothing, nothing, SplitSpec("random", (0.5, 0.5)))

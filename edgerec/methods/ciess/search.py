"""CIESS's search: agents change all sizes, a new model is trained within them, and the agents learn."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import project_sizes
from edgerec.errors import RunError
from edgerec.files import check_folder
from edgerec.methods.base import Job
from edgerec.methods.ciess.agent import Agent, AgentAction, Exploring
from edgerec.methods.ciess.config import UNIFORM, CIESSConfig, epochs_of, key_of, search_path, shares_of
from edgerec.methods.ciess.environment import Environment, Rules
from edgerec.methods.ciess.visits import SIDES, Candidate, UserItemArrays, VisitParts, Visits, candidates
from edgerec.methods.search import Evaluation, SearchHistory, SizeEvaluator, retrained, searched_budget, size_deciles
from edgerec.models import SizePlan, join_states, state_of_part
from edgerec.training import Checkpoint, FitResult, Snapshot, Step

_LOWEST_COST, _HIGHEST_COST = 0.01, 100.0
"""Limits of a cost that adapts to the proposals (see `Explorer._set_costs`)."""
_TILT_STD, _BALANCE_STD = 2.0, 0.25
"""Standard deviations of shared noise: of the log ratio of the most to the least popular row's size, and of the log
ratio of the mean user size to the mean item size."""
QUANTILES = (0, 0.25, 0.5, 0.75, 1)

_NETWORKS_EVERY = 20
"""Number of visits after which the agents' networks are stored again; a resumed search learns from the later ones."""

OnEntry = Callable[[dict[str, Any]], None]
"""Called with an entry of the history."""


class Explorer:
    """A search in progress; `run` may be killed at any point, and continued by a new one with the same checkpoint."""

    def __init__(self, job: Job, evaluator: SizeEvaluator, config: CIESSConfig, checkpoint: Checkpoint | None) -> None:
        self._job, self._evaluator, self._config, self._checkpoint = job, evaluator, config, checkpoint
        self._shares = shares_of(job, config)
        full = evaluator.full()
        self.visits = Visits(job.d, full.users)
        rules = Rules(
            1.0 if config.cost is None else config.cost, ratio=config.ratio, zero_based_cost=config.zero_based_cost
        )
        self._parts = [0, 1, 2] if config.holdout_reward else [0, 0, 0]
        self._whole, self._shown, self._paid = (
            Environment(job.split.train, evals, job.d, (rules, rules), log=config.log_sizes)
            for evals in full.evals[self._parts]
        )
        exploring = Exploring(config.noise, config.walk, config.noise_after_critic)
        begin = self._shares[0] * job.d if self._strict else (job.d + 1) / 2
        self._agents = [
            Agent(
                self._paid,
                side,
                job.d,
                exploring,
                log=config.log_sizes,
                begin=begin,
                gamma=config.gamma,
                memory=config.memory,
                lanes=config.parallel_episodes,
                seed=int(np.random.default_rng([job.seed, side]).integers(1 << 62)),
            )
            for side in range(len(SIDES))
        ]
        self._parts_of_visits = VisitParts(checkpoint.folder) if checkpoint else None
        self._stored = 0
        if checkpoint is not None:
            self._resume(checkpoint)

    @property
    def _strict(self) -> bool:
        """True if sizes are projected onto a share before evaluation, and costs follow the agents' proposals."""
        return self._config.cost is None

    def _share(self, visit: int) -> float:
        """Return the target share of a visit; each share has an equal part of the search."""
        return self._shares[visit * len(self._shares) // self._config.visits]

    def run(self, on_entry: OnEntry) -> Visits:
        """Run the search to its end; `on_entry` gets the history entry of each visit, earlier ones included."""
        for entry in self.visits.entries:
            on_entry(entry)
        while len(self.visits) < self._config.visits:
            self._step()
            self._save()
            for entry in self.visits.entries[-self._config.parallel_episodes :]:
                on_entry(entry)
        return self.visits

    def _step(self) -> None:
        """Make one iteration of all parallel episodes."""
        begun, first, lanes = time.monotonic(), len(self.visits), range(self._config.parallel_episodes)
        group, iteration = divmod(first // self._config.parallel_episodes, self._config.iterations)
        episodes = [group * self._config.parallel_episodes + lane for lane in lanes]
        noise = [self._shared_noise(first + lane) for lane in lanes]
        totals = [self._totals(first + lane, noise[lane][0]) if self._strict else None for lane in lanes]
        chosen = [
            [
                agent.choose(
                    *(agent.replay.last(lane) if iteration else agent.full()),
                    episodes[lane],
                    iteration,
                    mean=None if (of_lane := totals[lane]) is None else of_lane[side] / agent.replay.known.size,
                    tilt=noise[lane][1 + side],
                )
                for side, agent in enumerate(self._agents)
            ]
            for lane in lanes
        ]
        for sides, of_lane in zip(chosen, totals, strict=True):
            if of_lane is not None:
                self._set_costs(sides, of_lane)
        plans = [self._plan(sides, of_lane) for sides, of_lane in zip(chosen, totals, strict=True)]
        answers = self._evaluator.evaluate(plans)
        seconds = (time.monotonic() - begun) / len(plans)
        for lane, (plan, sides, evaluation) in enumerate(zip(plans, chosen, answers, strict=True)):
            whole = self._whole.quality(evaluation.evals[self._parts[0]])
            mean = self._whole.mean_quality(whole)
            entry = entry_of(self._job, plan, evaluation, self.visits.full, mean)
            entry |= {"iteration": first + lane, "episode": episodes[lane], "seconds": round(seconds, 3)}
            entry |= {"strategy": "walk" if self._config.walk else "noise"}
            entry["action"]["cost"] = [rule.cost for rule in self._paid.rules]
            sizes = _pair([own for own in (plan.users, plan.items) if own is not None])
            self.visits.add(sizes, _pair([choice.proposed for choice in sides]), mean, entry)
            self._remember(sizes, evaluation, begins=iteration == 0)
        self._learn(first)

    def _remember(self, sizes: UserItemArrays, evaluation: Evaluation, *, begins: bool) -> None:
        """Push a visit into the replay memories."""
        shown, paid = (
            environment.quality(evals)
            for environment, evals in zip((self._shown, self._paid), evaluation.evals[self._parts[1:]], strict=True)
        )
        for agent, *visit in zip(self._agents, sizes, shown, paid, strict=True):
            agent.replay.push(*visit, begins=begins)

    def _learn(self, first: int) -> None:
        """Make the steps after the visits of all lanes, of which `first` is the first."""
        for agent in self._agents:
            agent.learn(self._config.updates * self._config.parallel_episodes, self._config.batch, first)

    def _shared_noise(self, visit: int) -> tuple[float, float, float]:
        """Draw the shared noise: the log ratio of user to item sizes, and both tilts; zeros if there is none."""
        if not self._config.shared_noise:
            return 0.0, 0.0, 0.0
        drawn = np.random.default_rng([self._job.seed, visit]).normal(0, (_BALANCE_STD, _TILT_STD, _TILT_STD))
        return float(drawn[0]), float(drawn[1]), float(drawn[2])

    def _totals(self, visit: int, noise: float) -> tuple[int, int]:
        """Return the numbers of values of users and of items, which sum to the visit's target share.

        They are proportional to the numbers of rows; with shared noise the ratio of the mean sizes is that of the
        fittest visit so far at this share, times the drawn noise.
        """
        d, share = self._job.d, self._share(visit)
        users, items = (agent.replay.known.size for agent in self._agents)
        # Rounded as `Budget.values` rounds: with one value more, visited sizes would exceed the budget.
        total = max(int(share * d * (users + items) + 1e-6), users + items)
        factor = np.exp(noise + (self._best_balance(share) if self._config.shared_noise else 0.0))
        part = total * users * factor / (users * factor + items)
        for_users = int(np.clip(round(part), max(users, total - items * d), min(users * d, total - items)))
        return for_users, total - for_users

    def _best_balance(self, share: float) -> float:
        """Return the log ratio of the mean user size to the mean item size at the fittest visit of a share, or 0."""
        visits = [number for number in range(len(self.visits)) if self._share(number) == share]
        if not visits:
            return 0.0
        best = max(visits, key=lambda number: float(self.visits.entries[number]["fitness"]))
        users, items = (float(side.mean()) for side in self.visits.sizes[best])
        return float(np.log(users / items))

    def _plan(self, sides: list[AgentAction], totals: tuple[int, int] | None) -> SizePlan:
        """Return the chosen sizes as a plan; in a strict search projected onto the totals of users and items."""
        sizes = [choice.sizes for choice in sides]
        if totals is not None:
            sizes = [project_sizes(own, total, 1, self._job.d) for own, total in zip(sizes, totals, strict=True)]
        return SizePlan(self._job.d, *sizes)

    def _set_costs(self, sides: list[AgentAction], totals: tuple[int, int]) -> None:
        """Set the cost of memory: higher if a side's actor proposes more than its total, lower if it proposes less.

        This prevents the actor from drifting to an end of its range.
        """
        ratios = [choice.proposed_mean * choice.sizes.size / total for choice, total in zip(sides, totals, strict=True)]
        self._charge([float(np.clip(ratio**2, _LOWEST_COST, _HIGHEST_COST)) for ratio in ratios])

    def _charge(self, costs: Sequence[float]) -> None:
        """Set the cost of memory of users and items."""
        self._paid.rules = tuple(replace(rule, cost=cost) for rule, cost in zip(self._paid.rules, costs, strict=True))

    def _save(self) -> None:
        """Append the last visits; store the networks, whose size is that of many visits, now and then."""
        if self._checkpoint is None or self._parts_of_visits is None:
            return
        self._parts_of_visits.append(self.visits, len(self.visits) - self._config.parallel_episodes)
        if len(self.visits) - self._stored >= _NETWORKS_EVERY:
            self._stored = len(self.visits)
            networks = {side: agent.state() for side, agent in zip(SIDES, self._agents, strict=True)}
            self._checkpoint.save(Snapshot({"visits": self._stored}, join_states(networks)))

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Read the visits and the networks, and learn again from visits after the networks were stored.

        Raises RunError if a file is damaged, of another command or of an older version; StorageError.
        """
        found = checkpoint.load()
        if found is not None and "visits" not in found.loop:
            raise RunError(f"{checkpoint.path} was written by an older EdgeRec; train again with --overwrite")
        VisitParts(checkpoint.folder).load(self.visits)
        lanes, memory = self._config.parallel_episodes, self._config.memory
        if found is not None:
            self._stored = int(found.loop["visits"])
            for side, agent in zip(SIDES, self._agents, strict=True):
                agent.restore(state_of_part(found.trainer, side))
        if self._stored > len(self.visits):
            raise RunError(f"{checkpoint.folder} misses visits of the search; train again with --overwrite")
        first = max(self._stored - memory - lanes, 0)
        for agent in self._agents:
            agent.replay.pushed = first
        known = self.visits.sizes[first:]
        plans = [SizePlan(self._job.d, *(side.astype(np.int64) for side in pair)) for pair in known]
        # They are stored, so that nothing is trained.
        answers = self._evaluator.evaluate(plans)
        for number, (pair, evaluation) in enumerate(zip(known, answers, strict=True), first):
            group = number // lanes
            self._remember(pair, evaluation, begins=group % self._config.iterations == 0)
            if number >= self._stored and number % lanes == lanes - 1:
                self._charge(self.visits.entries[number]["action"]["cost"])
                self._learn(number - lanes + 1)


def entry_of(
    job: Job, plan: SizePlan, evaluation: Evaluation, full: NDArray[np.float32], quality: float
) -> dict[str, Any]:
    """Return the history entry of evaluated sizes; the caller adds its number and strategy.

    fitness: mean eval of users over the full model's; quality: the mean over users and items of their own ratios, at
    most 1, by which CIESS ranks.
    """
    sides = _pair(
        [
            np.full(n, plan.d) if own is None else own
            for n, own in zip(job.train.shape, (plan.users, plan.items), strict=True)
        ]
    )
    mean = sum(int(side.sum()) for side in sides) / job.n_rows
    counts = job.split.train.user_counts(), job.split.train.item_counts()
    return {
        "action": {
            "mean_size": round(mean, 4),
            "quantiles": {
                side: np.quantile(own, QUANTILES).round(2).tolist() for side, own in zip(SIDES, sides, strict=True)
            },
        },
        "predicted": None,
        "fitness": evaluation.mean / max(float(np.nanmean(full, dtype=np.float64)), 1e-9),
        "quality": quality,
        "density": mean / plan.d,
        "sizes": size_deciles(plan, *counts),
    }


def _pair(sides: Sequence[Any]) -> UserItemArrays:
    users, items = sides
    return users, items


_CHECKPOINT = 1
"""The number of the search's checkpoint; the full model has number 0."""

Ranked = tuple[float, dict[str, Any], Candidate]
"""A score, its history entry, and the sizes."""


def searched(job: Job, config: CIESSConfig) -> tuple[str, FitResult]:
    """Return the source of the best sizes on validation, and the fit within them. Raises as `CIESS.fit` does."""
    logger = _SearchLogger(job, config)
    sources = config.sources()
    origins = tuple(name for name in sources if name != UNIFORM)
    if not origins:
        return UNIFORM, retrained(job, [], logger.file, include_uniform_baseline=True)
    with SizeEvaluator(job, "fresh", proxy=config.proxy, epochs=epochs_of(job, config)) as evaluator:
        visits = _visits(job, config, evaluator, logger)
        scores = np.array([entry[config.ranked_by] for entry in visits.entries])
        finalists = candidates(job, visits, scores, origins, config.n_finalists)
        ranked = _ranked(job, config, visits, finalists, evaluator, logger)
    best = ranked[: config.retrain]
    plans = [(entry, candidate.plan) for _, entry, candidate in best]
    result = retrained(job, plans, logger.file, include_uniform_baseline=UNIFORM in sources)
    return next((candidate.origin for _, _, candidate in best if candidate.plan is result.sizes), UNIFORM), result


class _SearchLogger:
    """Passes each entry once to the history file and the job's progress, also after a resumed search."""

    def __init__(self, job: Job, config: CIESSConfig) -> None:
        self.file = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        self._job, self._total, self._ranked_by, self._best = job, config.visits, config.ranked_by, 0.0
        self._within = searched_budget(job).total / (job.n_rows * job.d)

    def more(self, count: int) -> None:
        """Announce `count` more entries."""
        self._total += count

    def add(self, entry: dict[str, Any]) -> None:
        """Log an entry, and store it unless the history has it. Raises StorageError."""
        number, value = int(entry["iteration"]), float(entry[self._ranked_by])
        within = entry["density"] <= self._within + 1e-12
        if within:
            self._best = max(self._best, value)
        if number >= len(self.file.evaluated):
            self.file.add({**entry, "within": within})
        values = {self._ranked_by: value, "best": self._best, "density": entry["density"]}
        self._job.progress(Step("search", 1, 1, number + 1, self._total, values))


def _visits(job: Job, config: CIESSConfig, evaluator: SizeEvaluator, history: _SearchLogger) -> Visits:
    """Return the visits of the search: read from its file, or run now."""
    key = key_of(job, config)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = search_path(job, config, name)
    if config.search is not None and path is not None and path.exists():
        visits = Visits.load(path, key)
        for entry in visits.entries:
            history.add(entry)
        return visits
    if config.search is not None:
        check_folder(Path(config.search))
    checkpoint = job.checkpoint.of_search().of_fit(_CHECKPOINT) if job.checkpoint else None
    visits = Explorer(job, evaluator, config, checkpoint).run(history.add)
    if path is not None:
        visits.save(path, key)
    return visits


def _ranked(
    job: Job,
    config: CIESSConfig,
    visits: Visits,
    finalists: list[Candidate],
    evaluator: SizeEvaluator,
    history: _SearchLogger,
) -> list[Ranked]:
    """Return the candidates by score, the best of each origin before all others; evaluate those without a score.

    Each origin has a finalist (ours), since short trainings, perhaps of another model, may rank noisy and smooth sizes
    differently from full trainings.
    """
    rules = Rules(0.0, ratio=config.ratio, zero_based_cost=config.zero_based_cost)
    environment = Environment(job.split.train, visits.full, job.d, (rules, rules))
    found: list[Ranked] = [
        (known.score, visits.entries[known.visit], known) for known in finalists if known.score is not None
    ]
    changed = [candidate for candidate in finalists if candidate.score is None]
    history.more(len(changed))
    answers = evaluator.each([candidate.plan for candidate in changed])
    for number, (candidate, evaluation) in enumerate(zip(changed, answers, strict=True), len(visits)):
        quality = environment.mean_quality(environment.quality(evaluation.users))
        entry = entry_of(job, candidate.plan, evaluation, visits.full, quality)
        entry |= {"iteration": number, "strategy": candidate.origin, "visit": candidate.visit, "seconds": 0.0}
        history.add(entry)
        found.append((entry[config.ranked_by], entry, replace(candidate, score=entry[config.ranked_by])))
    ordered = _distinct(sorted(found, key=lambda one: -one[0]))
    first = {candidate.origin: place for place, (_, _, candidate) in reversed(list(enumerate(ordered)))}
    leading = sorted(first.values())
    return [ordered[place] for place in leading] + [one for place, one in enumerate(ordered) if place not in leading]


def _distinct(found: list[Ranked]) -> list[Ranked]:
    """Return the first entry of each distinct plan."""
    seen: set[bytes] = set()
    distinct = []
    for one in found:
        plan = one[2].plan
        sizes = np.concatenate([np.asarray(side) for side in (plan.users, plan.items)]).tobytes()
        if sizes not in seen:
            seen.add(sizes)
            distinct.append(one)
    return distinct

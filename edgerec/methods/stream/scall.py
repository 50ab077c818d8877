"""SCALL: an agent that sets the sizes of whole tables by three numbers, and learns when a segment begins.

Scalable dynamic embedding size search for streaming recommendation (Qu, Qu, Chen, Zhao, Nguyen and Yin 2024, arXiv
2407.15411; details are from the authors' code). When a segment begins, the agent evaluates actions on the previous one
by short trainings; the reward compares their metric with that of the deployed sizes. Then it sizes the rows of the new
segment, known or new, by their frequencies in it.

Differences: sizes are projected onto the budget exactly, in exploration too (edgerec/budget/sizes.py), from quantiles
instead of samples; a trial is trained as the segment was (in the authors' code from scratch); rewards are scaled by the
observed range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.rules import COUNTS, plan_by_weight
from edgerec.methods.stream.policy import (
    DecisionContext,
    SegmentContext,
    SizePolicy,
    StreamMethod,
    evaluate_on_previous,
)
from edgerec.models import SizePlan, State, check_choice, check_range, check_ranges, join_states, state_of_part

if TYPE_CHECKING:
    from edgerec.methods.search.actor_critic import SAC, Batch


Floats = NDArray[np.float32]

SHAPES = (0.1, 30.0)
"""Smallest and largest shape of the power law (SCALL's code)."""
_TINY = 1e-300
"""The smallest weight: a power law of a small shape underflows to zero, and weights must be positive."""


@dataclass(frozen=True)
class SizeAction:
    """Sizes of whole tables by three numbers.

    Attributes:
        share: share of the budget for users, in 0..1.
        users, items: shapes of the power laws of sizes: 0.1 gives nearly all values to few rows, 30 nearly the same
            number to each.
    """

    share: float
    users: float
    items: float

    @classmethod
    def of(cls, action: NDArray[Any], *, log: bool = True) -> SizeAction:
        """Return the action of (3,) numbers in 0..1.

        With `log` (ours) shapes have a logarithmic scale: on the authors' linear one, 24 of 25 actions are nearly
        uniform, with a shape above 1.3.
        """
        low, high = SHAPES
        unit = np.clip(np.asarray(action, np.float64), 0, 1)
        shapes = low * (high / low) ** unit if log else low + (high - low) * unit
        return cls(float(unit[0]), float(shapes[1]), float(shapes[2]))

    def to_json(self) -> dict[str, float]:
        return {"share": self.share, "users": self.users, "items": self.items}

    def plan(self, segment_context: SegmentContext, counts: str = "segment") -> SizePlan:
        """Return sizes within the segment's budget, the n-th largest for the n-th most frequent row, new or known."""
        sides = []
        for order, shape in zip(segment_context.ranked(counts), (self.users, self.items), strict=True):
            weights = np.empty(order.size)
            weights[order] = power_law(order.size, shape)
            sides.append(weights)
        return plan_by_weight(segment_context.budget, sides[0], sides[1], self.share)


def power_law(n: int, shape: float) -> NDArray[np.float64]:
    """Return (n,) descending quantiles of the power law with density a x^(a - 1) on 0..1, a = `shape`.

    The authors' code averages a hundred sorted samples, whose mean converges to these quantiles.
    """
    return np.maximum(((n - np.arange(n) - 0.5) / n) ** (1 / shape), _TINY)


def length(d: int, groups: int) -> int:
    """Return the length of an observation."""
    return 2 * groups + 2 + 2 * d + 2


def observed(segment_context: SegmentContext, ratio: float, plan: SizePlan, *, groups: int, counts: str) -> Floats:
    """Return the (length,) float32 observation of the agent (SCALL's code).

    It concatenates the pooled frequencies of users and items, the ratio of the last trial, the users' share of the
    rows, the mean user and item vectors of the previous segment, and the ranges (largest minus smallest, over d - 1) of
    the sizes of users and items in `plan`.
    """
    budget = segment_context.budget
    frequencies = [pooled(side, groups) for side in segment_context.counts(counts)]
    means = np.zeros(2 * budget.d) if segment_context.carry is None else segment_context.carry.means()
    spreads = [np.ptp(sizes) / max(budget.d - 1, 1) for sizes in (plan.users, plan.items) if sizes is not None]
    share = budget.n_users / budget.n_rows
    return np.concatenate([*frequencies, [ratio, share], means, spreads]).astype(np.float32)


def pooled(counts: NDArray[np.int64], groups: int) -> Floats:
    """Return (groups,) float32 means of equal parts of the descending frequencies, scaled to 0..1.

    A part may include fractions of rows, so that any number of rows can be divided.
    """
    ordered = np.sort(counts)[::-1].astype(np.float64)
    scaled = (ordered - ordered[-1]) / max(float(np.ptp(ordered)), 1e-9)
    summed = np.concatenate([[0], np.cumsum(scaled)])
    ends = np.interp(np.linspace(0, scaled.size, groups + 1), np.arange(scaled.size + 1), summed)
    parts: Floats = (np.diff(ends) * (groups / scaled.size)).astype(np.float32)
    return parts


NOTHING = np.zeros(0, np.float32)
"""The action of no decision, which stands for uniform sizes."""
_MAX_TRANSITIONS = 10_000
"""Maximum number of stored transitions (SCALL's code)."""
_SETTLED_ACTIONS = 5
"""Number of consecutive similar mean actions of the policy that end exploration."""
_MIN_RATIO_RANGE = 0.02
"""Minimum range of ratios by which rewards are scaled: a smaller one would amplify noise."""
_DRAW, _REPLAY, _WEIGHTS = range(3)
"""First part of the seed of each random generator, so that draws for one purpose do not shift those for another."""


@dataclass(frozen=True)
class SCALLConfig:
    """Settings of SCALL.

    Attributes:
        steps: maximum number of trials before each segment.
        least: number of trials after which exploration may stop: it does when the actor's last five actions differ by
            less than `settled`.
        settled: see `least`; the authors compare the users' share alone.
        low, high: ratios (metric over that of uniform sizes) with rewards of 0 and 10; None for the tenth and the
            ninetieth percentile of all ratios of the stream, at least 0.02 apart. The authors' code has .7 and 1.2 for
            Yelp, .9 and 1.1 for Amazon-Book.
        groups: number of groups of pooled frequencies.
        counts: interactions to count frequencies in: those of the 'segment', or 'all' known ones.
        deploy: deployed action: 'actor' for the actor's, as in the authors' code; 'best' for the one with the largest
            gain over uniform sizes on the previous segment, among the actor's, all trials, the deployed sizes and
            uniform sizes; 'sure' for the one with the largest lower bound of that gain (see `doubt`): the best of many
            trials owes part of its gain to chance, and small segments have few users to measure on.
        doubt: number of standard errors over users that the lower bound of 'sure' is below the gain.
        log_shapes: True for a logarithmic scale of shapes.
        first_segment: number, from 0, of the first segment before which the agent searches; at least 1, since trials
            need a previous segment.
        random_steps: trials of the first search that are drawn uniformly, before the agent explores.
        updates, batch: steps of the agent after each trial, and transitions in each.
        single_until: number of transitions up to which a step uses a single one.
        recent: True to draw transitions with a chance proportional to their position in time, the latest most often;
            else uniformly.
        gamma, actor_lr, critic_lr, hidden, spread: settings of the agent, as in `SACConfig`.
    """

    steps: int = 30
    least: int = 10
    settled: float = 0.01
    low: float | None = None
    high: float | None = None
    groups: int = 256
    counts: str = "segment"
    deploy: str = "sure"
    doubt: float = 2.0
    log_shapes: bool = True
    first_segment: int = 2
    random_steps: int = 10
    updates: int = 10
    batch: int = 32
    single_until: int = 0
    recent: bool = False
    gamma: float = 0.0
    actor_lr: float = 1e-3
    critic_lr: float = 1e-3
    hidden: int = 64
    spread: float | None = 0.6

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, 1, 1e6, "steps", "least", "groups", "first_segment", "batch", "hidden")
        check_ranges(self, 0, 1, "settled", "gamma")
        check_ranges(self, 0, 1e3, "low", "actor_lr", "critic_lr")
        check_range("high", self.high, self.low or 0, 1e3)
        check_ranges(self, 0, 1e6, "doubt", "random_steps", "updates", "single_until")
        check_choice("counts", self.counts, COUNTS)
        check_choice("deploy", self.deploy, ("actor", "best", "sure"))
        check_range("spread", self.spread, 1e-6, 7)


VARIANTS: Mapping[str, SCALLConfig] = {
    "default": SCALLConfig(),
    "authors_code": SCALLConfig(
        log_shapes=False,
        first_segment=1,
        random_steps=0,
        updates=3,
        batch=8,
        single_until=12,
        recent=True,
        gamma=0.99,
        actor_lr=2e-4,
        critic_lr=3e-4,
        hidden=512,
        spread=None,
    ),
}
"""Configs by name: this project's, and the authors' code where it differs. Of the paper only the abstract was
available."""


class SCALL(StreamMethod):
    """A size search for streams by reinforcement learning."""

    name: ClassVar[str] = "scall"
    config: ClassVar[type[SCALLConfig]] = SCALLConfig
    variants: ClassVar[Mapping[str, SCALLConfig]] = VARIANTS

    def policy(self, config: SCALLConfig, d: int, seed: int) -> SizePolicy:
        return SCALLPolicy(config, d, seed)


class SCALLPolicy:
    """The policy of SCALL on one stream; the agent and all transitions persist across segments."""

    def __init__(self, config: SCALLConfig, d: int, seed: int) -> None:
        self._config, self._d, self._seed = config, d, seed
        self._sac: SAC | None = None
        self._memory = Memory(length(d, config.groups))
        self._ratio, self._action = 1.0, NOTHING

    def plan(self, context: DecisionContext) -> SizePlan:
        """Return uniform sizes at the first segment, then the action of a search on the previous segment."""
        if context.before is None or context.now.segment.number < self._config.first_segment:
            return context.now.uniform_sizes()
        self._action = self._search(context, context.before)
        return self._sized(self._action, context.now)

    def report(self) -> dict[str, Any]:
        return {} if self._action is NOTHING else {"action": self._read(self._action).to_json()}

    def _search(self, context: DecisionContext, before: SegmentContext) -> Floats:
        """Evaluate actions on the previous segment and learn; return the action to deploy."""
        config, number = self._config, before.segment.number
        uniform = before.uniform_sizes()
        # Computed after a resume too: each new trial is compared with uniform sizes, user by user.
        reference = context.evaluate(uniform)
        tried = [
            (evaluate_on_previous(context, before, uniform, 0, config.steps, "equal", None, metric=reference), NOTHING)
        ]

        def evaluate(why: str, action: Floats) -> SizePlan:
            plan = self._sized(action, before)
            fields = None if action is NOTHING else self._read(action).to_json()
            found = evaluate_on_previous(context, before, plan, len(tried), config.steps, why, fields, reference)
            tried.append((found, action))
            self._ratio = found.ratio
            return plan

        plan = uniform if self._action is NOTHING else evaluate("deployed", self._action)
        state, mean_actions = self._observed(before, plan), [] if self._action is NOTHING else [self._action]
        for step in range(1, config.steps + 1):
            action, why = self._choose(state, number, step)
            plan = evaluate(why, action)
            following = self._observed(before, plan)
            self._memory.add(state, action, self._ratio, following)
            self._learn(number, step)
            state = following
            mean_actions.append(self._agent().act(state[None])[0])
            if step >= config.least and self._is_settled(mean_actions[-_SETTLED_ACTIONS:]):
                break
        final: Floats = self._agent().act(self._observed(context.now, plan)[None])[0]
        if config.deploy == "actor":
            return final
        evaluate("actor", final)
        doubt = config.doubt if config.deploy == "sure" else 0.0
        return max(tried, key=lambda pair: pair[0].lower_bound(doubt))[1]

    def _choose(self, state: Floats, segment: int, step: int) -> tuple[Floats, str]:
        """Return an action to evaluate, and its strategy."""
        rng = self._rng(_DRAW, segment, step)
        if segment == self._config.first_segment - 1 and step <= self._config.random_steps:
            return rng.random(3, np.float32), "random"
        return self._agent().explore(state[None], rng)[0], "agent"

    def _learn(self, segment: int, step: int) -> None:
        config, rng = self._config, self._rng(_REPLAY, segment, step)
        size = config.batch if len(self._memory) > config.single_until else 1
        rewards = self._rewards()
        for _ in range(config.updates):
            self._agent().update(self._memory.draw(size, rewards, rng, recent=config.recent))

    def _rewards(self) -> Floats:
        """Return the rewards of all transitions: 0 and 10 at the ends of the observed range of ratios."""
        ratios = self._memory.ratios()
        low, high = np.quantile(ratios, (0.1, 0.9))
        middle, half = (low + high) / 2, max(high - low, _MIN_RATIO_RANGE) / 2
        low = middle - half if self._config.low is None else self._config.low
        high = middle + half if self._config.high is None else self._config.high
        return (10 * (ratios - low) / max(high - low, 1e-9)).astype(np.float32)

    def _is_settled(self, mean_actions: list[Floats]) -> bool:
        """Return True if the policy's last mean actions are nearly the same, so that exploration can stop."""
        return len(mean_actions) == _SETTLED_ACTIONS and bool(
            np.ptp(np.stack(mean_actions), axis=0).max() < self._config.settled
        )

    def _sized(self, action: Floats, segment_context: SegmentContext) -> SizePlan:
        return (
            segment_context.uniform_sizes()
            if action is NOTHING
            else self._read(action).plan(segment_context, self._config.counts)
        )

    def _read(self, action: Floats) -> SizeAction:
        return SizeAction.of(action, log=self._config.log_shapes)

    def _observed(self, segment_context: SegmentContext, plan: SizePlan) -> Floats:
        return observed(segment_context, self._ratio, plan, groups=self._config.groups, counts=self._config.counts)

    def _agent(self) -> SAC:
        if self._sac is None:
            # torch comes with the first search; methods are listed without it.
            from edgerec.methods.search.actor_critic import SAC, SACConfig

            settings = SACConfig(
                **{name: getattr(self._config, name) for name in ("gamma", "actor_lr", "critic_lr", "hidden", "spread")}
            )
            self._sac = SAC(self._memory.n_state, 3, settings, int(self._rng(_WEIGHTS).integers(1 << 62)))
        return self._sac

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *what])

    def state(self) -> State:
        """Return the agent, the transitions, the last ratio and the deployed action."""
        agent = {} if self._sac is None else self._sac.state()
        parts = join_states({"memory": self._memory.state(), "agent": agent})
        return {"ratio": np.array(self._ratio), "action": self._action, **parts}

    def restore(self, state: State) -> None:
        self._ratio = float(state["ratio"])
        self._action = state["action"] if state["action"].size else NOTHING
        self._memory.restore(state_of_part(state, "memory"))
        if agent := state_of_part(state, "agent"):
            self._agent().restore(agent)


class Memory:
    """Transitions of the whole stream; rewards are computed from ratios when they are drawn."""

    def __init__(self, n_state: int) -> None:
        self.n_state = n_state
        self._states = np.zeros((0, n_state), np.float32)
        self._following = np.zeros((0, n_state), np.float32)
        self._actions = np.zeros((0, 3), np.float32)
        self._ratios = np.zeros(0, np.float64)

    def __len__(self) -> int:
        return self._ratios.size

    def ratios(self) -> NDArray[np.float64]:
        """Return the (n,) ratios in the order of the trials."""
        return self._ratios

    def add(self, state: Floats, action: Floats, ratio: float, following: Floats) -> None:
        """Store a transition; drop the oldest above the limit."""
        self._states = np.concatenate([self._states, state[None]])[-_MAX_TRANSITIONS:]
        self._actions = np.concatenate([self._actions, action[None]])[-_MAX_TRANSITIONS:]
        self._ratios = np.append(self._ratios, ratio)[-_MAX_TRANSITIONS:]
        self._following = np.concatenate([self._following, following[None]])[-_MAX_TRANSITIONS:]

    def draw(self, count: int, rewards: Floats, rng: np.random.Generator, *, recent: bool) -> Batch:
        """Draw `count` transitions with replacement, with `rewards` of all; with `recent` the last ones more often."""
        from edgerec.methods.search.actor_critic import Batch

        weights = np.arange(1.0, len(self) + 1) if recent else np.ones(len(self))
        chosen = rng.choice(len(self), count, p=weights / weights.sum())
        return Batch(self._states[chosen], self._actions[chosen], rewards[chosen], self._following[chosen])

    def state(self) -> State:
        return {
            "states": self._states,
            "actions": self._actions,
            "ratios": self._ratios,
            "following": self._following,
        }

    def restore(self, state: State) -> None:
        self._states, self._actions = state["states"], state["actions"]
        self._ratios, self._following = state["ratios"], state["following"]

"""SCALL: an agent that sets the sizes of whole tables in three numbers, and learns between segments what they bring.

Scalable dynamic embedding size search for streaming recommendation (Qu, Qu, Chen, Zhao, Nguyen and Yin 2024, arXiv
2407.15411; what is said here of its details is from the authors' code). When a segment begins, the agent tries actions
on the one before: each is a short training there, paid by what it gets over what the deployed sizes get. Then it sizes
the new segment's rows, known or not, by their frequencies in it.

Ours: sizes are projected onto the budget exactly, while exploring too (edgerec/budget/split.py), from quantiles
in place of samples; a try is trained as the segment is (its code: from scratch); rewards are scaled by what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.rules import check_counts, plan_by_weight
from edgerec.methods.stream.policy import (
    DecisionContext,
    SegmentContext,
    SizePolicy,
    Trial,
    UserMetric,
    evaluate_on_previous,
)
from edgerec.models import SizePlan, State, check_choice, check_range

if TYPE_CHECKING:
    from edgerec.methods.search.actor_critic import SAC, Batch


Floats = NDArray[np.float32]

SHAPES = (0.1, 30.0)
"""Smallest and largest shape of the power law (SCALL's code)."""
_TINY = 1e-300
"""The smallest weight: a power law of a small shape underflows to zero, and a weight is positive."""


@dataclass(frozen=True)
class SizeAction:
    """Sizes of whole tables in three numbers.

    Attributes:
        share: of the budget that goes to users, in 0..1.
        users, items: shapes of the power laws that sizes follow: 0.1 gives nearly all to few rows, 30 nearly the same
            to each.
    """

    share: float
    users: float
    items: float

    @classmethod
    def of(cls, action: NDArray[Any], *, log: bool = True) -> SizeAction:
        """Of (3,) numbers in 0..1. With `log` (ours) shapes are read on a logarithmic scale: on the authors' linear
        one, 24 actions of 25 are nearly uniform, with a shape above 1.3."""
        low, high = SHAPES
        unit = np.clip(np.asarray(action, np.float64), 0, 1)
        shapes = low * (high / low) ** unit if log else low + (high - low) * unit
        return cls(float(unit[0]), float(shapes[1]), float(shapes[2]))

    def to_json(self) -> dict[str, float]:
        return {"share": self.share, "users": self.users, "items": self.items}

    def plan(self, segment_context: SegmentContext, counts: str = "segment") -> SizePlan:
        """Sizes within the segment's budget, the n-th largest for the n-th most frequent row: a row that was never seen
        before is sized as any other."""
        sides = []
        for order, shape in zip(segment_context.ranked(counts), (self.users, self.items), strict=True):
            weights = np.empty(order.size)
            weights[order] = power_law(order.size, shape)
            sides.append(weights)
        return plan_by_weight(segment_context.budget, sides[0], sides[1], self.share)


def power_law(n: int, shape: float) -> NDArray[np.float64]:
    """(n,) quantiles of the power law with density a x^(a - 1) on 0..1, descending: what the mean of many sorted
    samples comes to, which the authors' code draws a hundred times."""
    return np.maximum(((n - np.arange(n) - 0.5) / n) ** (1 / shape), _TINY)


def length(d: int, groups: int) -> int:
    """Of an observation."""
    return 2 * groups + 2 + 2 * d + 2


def observed(segment_context: SegmentContext, ratio: float, plan: SizePlan, *, groups: int, counts: str) -> Floats:
    """(length,) float32: pooled frequencies of users and items, the last reward's ratio, the users' share of the rows,
    the mean user and item as they were kept, and the spread of the last sizes of each side (SCALL's code)."""
    budget = segment_context.budget
    frequencies = [pooled(side, groups) for side in segment_context.counts(counts)]
    means = np.zeros(2 * budget.d) if segment_context.carry is None else segment_context.carry.means()
    spreads = [np.ptp(sizes) / max(budget.d - 1, 1) for sizes in (plan.users, plan.items) if sizes is not None]
    share = budget.n_users / budget.n_rows
    return np.concatenate([*frequencies, [ratio, share], means, spreads]).astype(np.float32)


def pooled(counts: NDArray[np.int64], groups: int) -> Floats:
    """(groups,) float32: frequencies in descending order, scaled to 0..1, the means of so many parts of equal length. A
    part may have a fraction of a row: there is no least number of rows."""
    ordered = np.sort(counts)[::-1].astype(np.float64)
    scaled = (ordered - ordered[-1]) / max(float(np.ptp(ordered)), 1e-9)
    summed = np.concatenate([[0], np.cumsum(scaled)])
    ends = np.interp(np.linspace(0, scaled.size, groups + 1), np.arange(scaled.size + 1), summed)
    parts: Floats = (np.diff(ends) * (groups / scaled.size)).astype(np.float32)
    return parts


NOTHING = np.zeros(0, np.float32)
"""The action of the first segment, before the agent has said anything: equal sizes."""
_MOST = 10_000
"""Transitions that are kept (SCALL's code)."""
_SETTLED = 5
"""Tries whose actor has to agree before exploring stops."""
_LEAST_RANGE = 0.02
"""Of the ratios that rewards are scaled by: below, it would be noise that is scaled up."""
_DRAW, _REPLAY, _WEIGHTS = range(3)
"""What randomness is for."""


@dataclass(frozen=True)
class SCALLConfig:
    """How sizes are searched.

    Attributes:
        steps: trials before each segment, at most.
        least: trials after which exploring may stop: it does when the actor's last five actions differ by less than
            `settled`.
        settled: see `least`; the authors look at the users' share alone.
        low, high: ratios that rewards are 0 and 10 at; None for the tenth and the ninetieth percentile of all that the
            stream has seen, at least 0.02 apart. The authors' code has .7 and 1.2 for Yelp, .9 and 1.1 for Amazon-Book.
        groups: parts that frequencies are pooled in.
        counts: frequencies are of the 'segment', or of 'all' that is known.
        deploy: 'actor', what the agent says, as in the authors' code; 'best', what was best on the segment before, of
            this, of all trials, of what is deployed and of uniform sizes; 'sure', the same with `doubt`: the best of
            many trials is partly so by chance, and small segments have few users to tell by.
        doubt: standard errors, over the users, that are taken off what a trial gained over uniform sizes.
        log_shapes: shapes are read on a logarithmic scale.
        first_segment: number of the first segment, from 1, before which the agent searches.
        random_steps: trials of the first search that are drawn uniformly, before the agent explores.
        updates, batch: steps of the agent after each trial, each on so many transitions.
        single_until: transitions up to which a step is on one alone.
        recent: transitions are drawn in proportion to their number, the last ones most; else by equal chances.
        gamma, actor_lr, critic_lr, hidden, spread: of the agent, as `SACConfig` has them.
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
        """Raises SettingError for values out of range."""
        check_range("steps", self.steps, 1, 1e6)
        check_range("least", self.least, 1, 1e6)
        check_range("settled", self.settled, 0, 1)
        check_range("low", self.low, 0, 1e3)
        check_range("high", self.high, self.low or 0, 1e3)
        check_range("doubt", self.doubt, 0, 1e6)
        check_range("groups", self.groups, 1, 1e6)
        check_counts(self.counts)
        check_choice("deploy", self.deploy, ("actor", "best", "sure"))
        check_range("first_segment", self.first_segment, 1, 1e6)
        check_range("random_steps", self.random_steps, 0, 1e6)
        check_range("updates", self.updates, 0, 1e6)
        check_range("batch", self.batch, 1, 1e6)
        check_range("single_until", self.single_until, 0, 1e6)
        check_range("gamma", self.gamma, 0, 1)
        check_range("actor_lr", self.actor_lr, 0, 1e3)
        check_range("critic_lr", self.critic_lr, 0, 1e3)
        check_range("hidden", self.hidden, 1, 1e6)
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
"""By name: this project's, and the authors' code where it differs; of the paper the abstract alone was readable."""


class SCALL:
    """A search that follows a stream."""

    name: ClassVar[str] = "scall"
    config: ClassVar[type[SCALLConfig]] = SCALLConfig
    variants: ClassVar[Mapping[str, SCALLConfig]] = VARIANTS

    def policy(self, config: SCALLConfig, d: int, seed: int) -> SizePolicy:
        return SCALLPolicy(config, d, seed)


class SCALLPolicy:
    """Follows one stream; the agent and all transitions stay from segment to segment."""

    def __init__(self, config: SCALLConfig, d: int, seed: int) -> None:
        self._config, self._d, self._seed = config, d, seed
        self._made: SAC | None = None
        self._memory = Memory(length(d, config.groups))
        self._ratio, self._action = 1.0, NOTHING

    def plan(self, context: DecisionContext) -> SizePlan:
        """Equal sizes at the first segment; then what the agent says after a search on the segment before."""
        if context.before is None or context.now.segment.number < self._config.first_segment:
            return context.now.uniform_sizes()
        self._action = self._search(context, context.before)
        return self._sized(self._action, context.now)

    def report(self) -> dict[str, Any]:
        return {} if self._action is NOTHING else {"action": self._read(self._action).to_json()}

    def _search(self, context: DecisionContext, before: SegmentContext) -> Floats:
        """Try actions on the segment before, and learn; the action to deploy."""
        config, number = self._config, before.segment.number
        equal = before.uniform_sizes()
        # Also where a kill has left tries: each is compared with equal sizes user by user.
        reference = context.evaluate(equal)
        tried = [
            (evaluate_on_previous(context, before, equal, 0, config.steps, "equal", None, worth=reference), NOTHING)
        ]

        def rehearse(why: str, action: Floats) -> SizePlan:
            plan = self._sized(action, before)
            found = self._try(context, before, len(tried), why, action, plan, reference)
            tried.append((found, action))
            self._ratio = found.ratio
            return plan

        plan = equal if self._action is NOTHING else rehearse("deployed", self._action)
        state, middles = self._observed(before, plan), [] if self._action is NOTHING else [self._action]
        for step in range(1, config.steps + 1):
            action, why = self._choose(state, number, step)
            plan = rehearse(why, action)
            following = self._observed(before, plan)
            self._memory.add(state, action, self._ratio, following)
            self._learn(number, step)
            state = following
            middles.append(self._agent().act(state[None])[0])
            if step >= config.least and self._is_settled(middles[-_SETTLED:]):
                break
        final: Floats = self._agent().act(self._observed(context.now, plan)[None])[0]
        if config.deploy == "actor":
            return final
        rehearse("actor", final)
        doubt = config.doubt if config.deploy == "sure" else 0.0
        return max(tried, key=lambda pair: pair[0].surely(doubt))[1]

    def _choose(self, state: Floats, segment: int, step: int) -> tuple[Floats, str]:
        """An action to try, and why."""
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
        """Of all transitions: 0 and 10 at the ends of the range that ratios are seen in."""
        ratios = self._memory.ratios()
        low, high = np.quantile(ratios, (0.1, 0.9))
        middle, half = (low + high) / 2, max(high - low, _LEAST_RANGE) / 2
        low = middle - half if self._config.low is None else self._config.low
        high = middle + half if self._config.high is None else self._config.high
        return (10 * (ratios - low) / max(high - low, 1e-9)).astype(np.float32)

    def _is_settled(self, middles: list[Floats]) -> bool:
        """Whether the actor has said nearly the same for long enough."""
        return len(middles) == _SETTLED and bool(np.ptp(np.stack(middles), axis=0).max() < self._config.settled)

    def _try(
        self,
        context: DecisionContext,
        before: SegmentContext,
        step: int,
        why: str,
        action: Floats,
        plan: SizePlan,
        reference: UserMetric,
    ) -> Trial:
        told = None if action is NOTHING else self._read(action).to_json()
        return evaluate_on_previous(context, before, plan, step, self._config.steps, why, told, reference)

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
        if self._made is None:
            # torch comes with the first search; methods are listed without it.
            from edgerec.methods.search.actor_critic import SAC, SACConfig

            settings = SACConfig(
                **{name: getattr(self._config, name) for name in ("gamma", "actor_lr", "critic_lr", "hidden", "spread")}
            )
            self._made = SAC(self._memory.n_state, 3, settings, int(self._rng(_WEIGHTS).integers(1 << 62)))
        return self._made

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *what])

    def state(self) -> State:
        """The agent, the transitions, the last ratio and the deployed action."""
        state: State = {"ratio": np.array(self._ratio), "action": self._action}
        state |= {f"memory.{name}": array for name, array in self._memory.state().items()}
        if self._made is not None:
            state |= {f"agent.{name}": array for name, array in self._made.state().items()}
        return state

    def restore(self, state: State) -> None:
        self._ratio = float(state["ratio"])
        self._action = state["action"] if state["action"].size else NOTHING
        parts = {
            part: {name.removeprefix(f"{part}."): state[name] for name in state if name.startswith(f"{part}.")}
            for part in ("memory", "agent")
        }
        self._memory.restore(parts["memory"])
        if parts["agent"]:
            self._agent().restore(parts["agent"])


class Memory:
    """Transitions of the whole stream; the reward is made of the ratio when they are drawn."""

    def __init__(self, n_state: int) -> None:
        self.n_state = n_state
        self._states = np.zeros((0, n_state), np.float32)
        self._following = np.zeros((0, n_state), np.float32)
        self._actions = np.zeros((0, 3), np.float32)
        self._ratios = np.zeros(0, np.float64)

    def __len__(self) -> int:
        return self._ratios.size

    def ratios(self) -> NDArray[np.float64]:
        """(n,) in the order of the tries."""
        return self._ratios

    def add(self, state: Floats, action: Floats, ratio: float, following: Floats) -> None:
        """Keep one; the oldest goes when there are too many."""
        self._states = np.concatenate([self._states, state[None]])[-_MOST:]
        self._actions = np.concatenate([self._actions, action[None]])[-_MOST:]
        self._ratios = np.append(self._ratios, ratio)[-_MOST:]
        self._following = np.concatenate([self._following, following[None]])[-_MOST:]

    def draw(self, count: int, rewards: Floats, rng: np.random.Generator, *, recent: bool) -> Batch:
        """`count` transitions with replacement, with `rewards` of all; `recent` ones more often."""
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

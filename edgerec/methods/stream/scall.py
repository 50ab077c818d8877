"""SCALL: an agent that sets the sizes of whole tables in three numbers, and learns between segments what they bring.

Scalable dynamic embedding size search for streaming recommendation (Qu, Qu, Chen, Zhao, Nguyen and Yin 2024, arXiv
2407.15411; what is said here of its details is from the authors' code). When a segment begins, the agent tries actions
on the one before: each is a short training there, paid by what it gets over what the deployed sizes get. Then it sizes
the new segment's rows, known or not, by their frequencies in it.

Ours: sizes are projected onto the budget exactly, while exploring too (edgerec/methods/stream/room.py), from quantiles
in place of samples; a try is trained as the segment is (its code: from scratch); rewards are scaled by what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.search.replay import Batch
from edgerec.methods.stream.base import Chooser, Moment, Scene, Try, Worth, check_counts, rehearsed
from edgerec.methods.stream.observation import SizeAction, length, observed
from edgerec.models import SizePlan, State
from edgerec.models.settings import check_choice, check_range

if TYPE_CHECKING:
    from edgerec.methods.search.sac import SAC

Floats = NDArray[np.float32]

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
class Protocol:
    """What differs between the authors' code and this.

    Attributes:
        log: shapes are read on a logarithmic scale.
        random: tries of the first search that are drawn uniformly, before the agent explores.
        updates, batch: steps of the agent after each try, each on so many transitions; one alone until there are
            `alone`.
        alone: see `batch`.
        recent: transitions are drawn in proportion to their number, the last ones most; else by equal chances.
        agent: settings of SAC.
    """

    log: bool
    first: int
    random: int
    updates: int
    batch: int
    alone: int
    recent: bool
    agent: dict[str, Any]


PROTOCOLS = {
    "own": Protocol(
        True, 2, 10, 10, 32, 0, False, {"gamma": 0.0, "actor_lr": 1e-3, "critic_lr": 1e-3, "hidden": 64, "spread": 0.6}
    ),
    "code": Protocol(False, 1, 0, 3, 8, 12, True, {}),
}
"""By name."""


@dataclass(frozen=True)
class SCALLConfig:
    """How sizes are searched.

    Attributes:
        steps: tries before each segment, at most.
        least: tries after which exploring may stop: it does when the actor's last five actions differ by less than
            `settled`.
        settled: see `least`; the authors look at the users' share alone.
        low, high: ratios that rewards are 0 and 10 at; None for the tenth and the ninetieth percentile of all that the
            stream has seen, at least 0.02 apart. The authors' code has .7 and 1.2 for Yelp, .9 and 1.1 for Amazon-Book.
        groups: parts that frequencies are pooled in.
        counts: frequencies are of the 'segment', or of 'all' that is known.
        deploy: 'actor', what the agent says, as in the authors' code; 'best', what was best on the segment before, of
            this, of all tries, of what is deployed and of equal sizes; 'sure', the same with `doubt`: the best of many
            tries is partly so by chance, and small segments have few users to tell by.
        doubt: standard errors, over the users, that are taken off what a try gained over equal sizes.
        protocol: 'own', or 'code'.
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
    protocol: str = "own"

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
        check_choice("protocol", self.protocol, tuple(PROTOCOLS))


class SCALL:
    """A search that follows a stream."""

    name: ClassVar[str] = "scall"
    config: ClassVar[type[SCALLConfig]] = SCALLConfig

    def follow(self, config: SCALLConfig, d: int, seed: int) -> Chooser:
        return SCALLChooser(config, d, seed)


class SCALLChooser:
    """Follows one stream; the agent and all transitions stay from segment to segment."""

    def __init__(self, config: SCALLConfig, d: int, seed: int) -> None:
        self._config, self._protocol, self._d, self._seed = config, PROTOCOLS[config.protocol], d, seed
        self._made: SAC | None = None
        self._memory = Memory(length(d, config.groups))
        self._ratio, self._action = 1.0, NOTHING

    def plan(self, moment: Moment) -> SizePlan:
        """Equal sizes at the first segment; then what the agent says after a search on the segment before."""
        if moment.before is None or moment.now.segment.number < self._protocol.first:
            return moment.now.equal_sizes()
        self._action = self._search(moment, moment.before)
        return self._sized(self._action, moment.now)

    def told(self) -> dict[str, Any]:
        return {} if self._action is NOTHING else {"action": self._read(self._action).to_json()}

    def _search(self, moment: Moment, before: Scene) -> Floats:
        """Try actions on the segment before, and learn; the action to deploy."""
        config, number = self._config, before.segment.number
        equal = before.equal_sizes()
        # Also where a kill has left tries: each is compared with equal sizes user by user.
        reference = moment.rehearse(equal)
        tried = [(rehearsed(moment, before, equal, 0, config.steps, "equal", None, worth=reference), NOTHING)]

        def rehearse(why: str, action: Floats) -> SizePlan:
            plan = self._sized(action, before)
            found = self._try(moment, before, len(tried), why, action, plan, reference)
            tried.append((found, action))
            self._ratio = found.ratio
            return plan

        plan = equal if self._action is NOTHING else rehearse("deployed", self._action)
        state, middles = self._observed(before, plan), [self._action]
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
        final: Floats = self._agent().act(self._observed(moment.now, plan)[None])[0]
        if config.deploy == "actor":
            return final
        rehearse("actor", final)
        doubt = config.doubt if config.deploy == "sure" else 0.0
        return max(tried, key=lambda pair: pair[0].surely(doubt))[1]

    def _choose(self, state: Floats, segment: int, step: int) -> tuple[Floats, str]:
        """An action to try, and why."""
        rng = self._rng(_DRAW, segment, step)
        if segment == self._protocol.first - 1 and step <= self._protocol.random:
            return rng.random(3, np.float32), "random"
        return self._agent().explore(state[None], rng)[0], "agent"

    def _learn(self, segment: int, step: int) -> None:
        protocol, rng = self._protocol, self._rng(_REPLAY, segment, step)
        size = protocol.batch if len(self._memory) > protocol.alone else 1
        rewards = self._rewards()
        for _ in range(protocol.updates):
            self._agent().update(self._memory.draw(size, rewards, rng, recent=protocol.recent))

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
        self, moment: Moment, before: Scene, step: int, why: str, action: Floats, plan: SizePlan, reference: Worth
    ) -> Try:
        told = None if action is NOTHING else self._read(action).to_json()
        return rehearsed(moment, before, plan, step, self._config.steps, why, told, reference)

    def _sized(self, action: Floats, scene: Scene) -> SizePlan:
        return scene.equal_sizes() if action is NOTHING else self._read(action).plan(scene, self._config.counts)

    def _read(self, action: Floats) -> SizeAction:
        return SizeAction.of(action, log=self._protocol.log)

    def _observed(self, scene: Scene, plan: SizePlan) -> Floats:
        return observed(scene, self._ratio, plan, groups=self._config.groups, counts=self._config.counts)

    def _agent(self) -> SAC:
        if self._made is None:
            # torch comes with the first search; methods are listed without it.
            from edgerec.methods.search.sac import SAC, SACConfig

            settings = SACConfig(**self._protocol.agent)
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

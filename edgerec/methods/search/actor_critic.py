"""Actor-critic learners on one thread: TD3 for one continuous action, SAC for several; both with twin critics.

TD3, twin delayed deterministic policy gradient (Fujimoto, van Hoof and Meger 2018, arXiv 1802.09477, algorithm 1): the
target is the smaller value of two target critics, noise smooths the target action, and the actor and the targets are
updated at every other step of the critics. Sizes of networks, step sizes and clipping are those of CIESS (Qu et al.
2023, authors' code).

SAC, soft actor-critic (Haarnoja, Zhou, Abbeel and Levine 2018, arXiv 1801.01290; the form without a value network and
with twin critics, arXiv 1812.05905, algorithm 1): the policy is a normal distribution squashed by tanh; the target is
the smaller value of two target critics less the policy's log density; the actor maximises the critics' value and its
own entropy. Sizes of networks, step sizes, clipping and the fixed weight of the entropy are those of SCALL (Qu et al.
2024, authors' code).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.models import State, check_range, check_ranges, torch_threads
from edgerec.models.adam import Adam

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = require("torch", "train")
    nn = torch.nn

Floats = NDArray[np.float32]

_LOG_STD = (-20.0, 2.0)
"""Limits of the logarithm of SAC's standard deviation."""
_EDGE = 0.95
"""Largest absolute value of an actor's initial scaled action: nearer to -1 or 1 tanh saturates, and it hardly
learns."""


@dataclass(frozen=True)
class Batch:
    """A batch of transitions.

    Attributes:
        states: (b, n_state) float32 states before the action.
        actions: (b,) float32, or (b, n_action) for actions of several numbers.
        rewards: (b,) float32.
        following: (b, n_state) float32 states after the action.
    """

    states: Floats
    actions: Floats
    rewards: Floats
    following: Floats


class _Learner:
    """Base class of learners: networks by name, an Adam of each trained one, and a random generator."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._networks: dict[str, nn.Module] = {}
        self._adams: dict[str, Adam] = {}

    def state(self) -> State:
        """Return the networks, targets, Adam's moments and the generator."""
        state: State = {"generator": self._generator.get_state().numpy().copy()}
        for name, network in self._networks.items():
            if name in self._adams:
                state |= self._adams[name].state()
            else:
                state |= {key: tensor.detach().numpy().copy() for key, tensor in _named(name, network).items()}
        return state

    def restore(self, state: State) -> None:
        """Continue from `state()` of a learner with the same arguments, to the same result to the bit."""
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        for name, network in self._networks.items():
            if name in self._adams:
                self._adams[name].restore(state)
            else:
                for key, tensor in _named(name, network).items():
                    tensor.data.copy_(torch.from_numpy(state[key]))


@dataclass(frozen=True)
class TD3Config:
    """Settings of TD3.

    Attributes:
        low, high: range of an action; networks see it scaled to -1..1.
        gamma: discount of the next state's value.
        tau: share by which the targets move towards the networks at an update (soft update).
        delay: steps of the critics for each one of the actor and of the targets.
        smoothing, clip: standard deviation and limit of the noise on target actions, in units of the action.
        actor_lr, critic_lr: step sizes of Adam.
        norm: maximum norm to which gradients are clipped.
        hidden: units of each of the two hidden layers.
        twins: number of critics: with 2 the smaller value is the target; a single critic overestimates values.
    """

    low: float
    high: float
    gamma: float = 0.99
    tau: float = 0.005
    delay: int = 2
    smoothing: float = 2.0
    clip: float = 5.0
    actor_lr: float = 1e-3
    critic_lr: float = 3e-3
    norm: float = 0.01
    hidden: int = 256
    twins: int = 2

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("high", self.high, self.low, 1e9)
        check_range("gamma", self.gamma, 0, 1)
        check_range("tau", self.tau, 1e-9, 1)
        check_ranges(self, 1, 1e6, "delay", "hidden")
        check_ranges(self, 0, 1e9, "smoothing", "clip")
        check_ranges(self, 0, 1e3, "actor_lr", "critic_lr")
        check_range("norm", self.norm, 1e-12, 1e12)
        check_range("twins", self.twins, 1, 2)


class TD3(_Learner):
    """Learns one action for states of `n_state` numbers, on one thread: bit-reproducible for a seed."""

    def __init__(self, n_state: int, config: TD3Config, seed: int, *, begin: float | None = None) -> None:
        """Initialise the networks; `begin` is the approximate initial action, None for the middle of the range."""
        super().__init__(seed)
        self.config, generator = config, self._generator
        self._actor = _network(n_state, config.hidden, 1, generator)
        with torch.no_grad():
            for parameter in self._actor[-1].parameters():
                parameter.uniform_(-3e-3, 3e-3, generator=generator)
            if begin is not None:
                scaled = self._scaled(torch.tensor(float(begin))).clamp(-_EDGE, _EDGE)
                list(self._actor.parameters())[-1].add_(torch.atanh(scaled))
        self._critics = nn.ModuleList(_network(n_state + 1, config.hidden, 1, generator) for _ in range(config.twins))
        self._actor_target, self._critics_target = deepcopy(self._actor), deepcopy(self._critics)
        self._networks = {
            "actor": self._actor,
            "critics": self._critics,
            "actor_target": self._actor_target,
            "critics_target": self._critics_target,
        }
        self._actor_adam = Adam(_named("actor", self._actor), fused=False)
        self._critics_adam = Adam(_named("critics", self._critics), fused=False)
        self._adams = {"actor": self._actor_adam, "critics": self._critics_adam}
        self.steps = 0

    def act(self, states: Floats) -> Floats:
        """Return (n,) actions in low..high, without noise, for states (n, n_state)."""
        with torch_threads(1), torch.no_grad():
            return self._unscaled(_actions_of(self._actor, torch.from_numpy(states))).numpy()

    def value(self, states: Floats, actions: Floats) -> Floats:
        """Return the first critic's (n, k) values of actions (n, k) in states (n, n_state)."""
        k = actions.shape[1]
        with torch_threads(1), torch.no_grad():
            scaled = self._scaled(torch.from_numpy(np.ascontiguousarray(actions, np.float32)).reshape(-1))
            repeated = torch.from_numpy(states).repeat_interleave(k, dim=0)
            return _values_of(self._critics[0], repeated, scaled).reshape(-1, k).numpy()

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one step of the critics, and at every `delay`-th one of the actor and the targets.

        `critic`: the sum of the critics' mean squared errors; `value`: the mean target.
        """
        self.steps += 1
        states, rewards, following = (
            torch.from_numpy(np.ascontiguousarray(part, np.float32))
            for part in (batch.states, batch.rewards, batch.following)
        )
        with torch_threads(1):
            actions = self._scaled(torch.from_numpy(np.ascontiguousarray(batch.actions, np.float32)))
            target = self._target(rewards, following)
            losses = [nn.functional.mse_loss(_values_of(critic, states, actions), target) for critic in self._critics]
            loss = torch.stack(losses).sum()
            _adam_step(loss, self._critics_adam, self.config.critic_lr, self.config.norm)
            if self.steps % self.config.delay == 0:
                gain = _values_of(self._critics[0], states, _actions_of(self._actor, states)).mean()
                _adam_step(-gain, self._actor_adam, self.config.actor_lr, self.config.norm)
                _soft_update(self._actor, self._actor_target, self.config.tau)
                _soft_update(self._critics, self._critics_target, self.config.tau)
        return {"critic": float(loss.detach()), "value": float(target.mean())}

    def _target(self, rewards: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Return (n,) r + gamma min over the target critics of the smoothed target action's value."""
        config = self.config
        with torch.no_grad():
            action = self._unscaled(_actions_of(self._actor_target, following))
            noise = torch.randn(action.shape, generator=self._generator) * config.smoothing
            action = (action + noise.clamp(-config.clip, config.clip)).clamp(config.low, config.high)
            scaled = self._scaled(action)
            values = torch.stack([_values_of(critic, following, scaled) for critic in self._critics_target])
            return rewards + config.gamma * values.amin(0)

    def _scaled(self, actions: torch.Tensor) -> torch.Tensor:
        """Scale actions from low..high to -1..1."""
        low, high = self.config.low, self.config.high
        return (actions - low) / max((high - low) / 2, 1e-9) - 1

    def _unscaled(self, scaled: torch.Tensor) -> torch.Tensor:
        low, high = self.config.low, self.config.high
        return low + (scaled + 1) * (high - low) / 2

    def state(self) -> State:
        """Return the networks, targets, Adam's moments, the generator and the step count."""
        return {**super().state(), "steps": np.array(self.steps)}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.steps = int(state["steps"])


@dataclass(frozen=True)
class SACConfig:
    """Settings of SAC.

    Attributes:
        gamma: discount of the next state's value.
        tau: share by which the targets move towards the critics at an update (soft update).
        entropy: weight of the policy's entropy relative to the reward.
        actor_lr, critic_lr: step sizes of Adam.
        decay: weight decay of both.
        norm: maximum norm to which the actor's gradient is clipped.
        hidden: units of each of the two hidden layers.
        spread: initial standard deviation of the policy, before tanh; None for that which random weights give.
    """

    gamma: float = 0.99
    tau: float = 0.005
    entropy: float = 0.2
    actor_lr: float = 2e-4
    critic_lr: float = 3e-4
    decay: float = 1e-4
    norm: float = 1.0
    hidden: int = 512
    spread: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("gamma", self.gamma, 0, 1)
        check_range("tau", self.tau, 1e-9, 1)
        check_range("entropy", self.entropy, 0, 1e6)
        check_ranges(self, 0, 1e3, "actor_lr", "critic_lr", "decay")
        check_range("norm", self.norm, 1e-12, 1e12)
        check_range("hidden", self.hidden, 1, 1e6)
        check_range("spread", self.spread, 1e-6, 7)


class SAC(_Learner):
    """Learns actions of `n_action` numbers in 0..1 for states of `n_state` numbers, on one thread.

    It is bit-reproducible for a seed.
    """

    def __init__(
        self, n_state: int, n_action: int, config: SACConfig, seed: int, *, begin: Floats | None = None
    ) -> None:
        """Initialise the networks; `begin` (n_action,) is the approximate initial mean action, None for 0.5."""
        super().__init__(seed)
        self.config, self._n_action, generator = config, n_action, self._generator
        self._actor = _network(n_state, config.hidden, 2 * n_action, generator)
        self._begin_at(begin)
        self._critics = nn.ModuleList(_network(n_state + n_action, config.hidden, 1, generator) for _ in range(2))
        self._targets = deepcopy(self._critics)
        self._actor_adam = Adam(_named("actor", self._actor), decay=config.decay)
        self._critics_adam = Adam(_named("critics", self._critics), decay=config.decay)
        self._networks = {"actor": self._actor, "critics": self._critics, "targets": self._targets}
        self._adams = {"actor": self._actor_adam, "critics": self._critics_adam}

    def _begin_at(self, begin: Floats | None) -> None:
        """Set the last layer of the actor to small weights, and to the biases of the mean action `begin`."""
        weight, bias = list(self._actor.parameters())[-2:]
        with torch.no_grad():
            if begin is not None:
                weight.mul_(0.1)
                scaled = torch.from_numpy(2 * np.asarray(begin, np.float32) - 1).clamp(-_EDGE, _EDGE)
                bias[: self._n_action] = torch.atanh(scaled)
            if self.config.spread is not None:
                weight[self._n_action :].mul_(0.1)
                bias[self._n_action :] = math.log(self.config.spread)

    def act(self, states: Floats) -> Floats:
        """Return (n, n_action) deterministic actions, tanh of the policy's mean, for states (n, n_state)."""
        with torch_threads(1), torch.no_grad():
            mean, _ = self._policy(torch.from_numpy(states))
            return _unit(torch.tanh(mean)).numpy()

    def explore(self, states: Floats, rng: np.random.Generator) -> Floats:
        """Return (n, n_action) actions drawn from the policy, with noise of `rng`."""
        noise = torch.from_numpy(rng.standard_normal((len(states), self._n_action)).astype(np.float32))
        with torch_threads(1), torch.no_grad():
            mean, log_std = self._policy(torch.from_numpy(states))
            return _unit(torch.tanh(mean + log_std.exp() * noise)).numpy()

    def value(self, states: Floats, actions: Floats) -> Floats:
        """Return the (n,) smaller values of the critics for actions (n, n_action) in states (n, n_state)."""
        with torch_threads(1), torch.no_grad():
            scaled = 2 * torch.from_numpy(np.ascontiguousarray(actions, np.float32)) - 1
            return self._smaller_value(self._critics, torch.from_numpy(states), scaled).numpy()

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one step of the critics, the actor and the targets; `batch.actions` are (n, n_action) in 0..1.

        `critic`: the sum of the critics' mean squared errors; `entropy`: the policy's, per state.
        """
        states, rewards, following, actions = (
            torch.from_numpy(np.ascontiguousarray(part, np.float32))
            for part in (batch.states, batch.rewards, batch.following, batch.actions)
        )
        config = self.config
        with torch_threads(1):
            with torch.no_grad():
                then, density = self._draw(following)
                soft = self._smaller_value(self._targets, following, then) - config.entropy * density
                target = rewards + config.gamma * soft
            inputs = torch.cat([states, 2 * actions - 1], 1)
            errors = [nn.functional.mse_loss(critic(inputs).squeeze(1), target) for critic in self._critics]
            loss = torch.stack(errors).sum()
            _adam_step(loss, self._critics_adam, config.critic_lr)
            drawn, density = self._draw(states)
            gain = (self._smaller_value(self._critics, states, drawn) - config.entropy * density).mean()
            _adam_step(-gain, self._actor_adam, config.actor_lr, config.norm)
            _soft_update(self._critics, self._targets, config.tau)
        return {"critic": float(loss.detach()), "entropy": -float(density.detach().mean())}

    def _policy(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n, n_action) means and logarithms of standard deviations, before tanh."""
        mean, log_std = self._actor(states).chunk(2, 1)
        return mean, log_std.clamp(*_LOG_STD)

    def _draw(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n, n_action) scaled actions drawn with a gradient, and (n,) logarithms of their densities."""
        mean, log_std = self._policy(states)
        noise = torch.randn(mean.shape, generator=self._generator)
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2), without the cancellation (arXiv 1812.05905, appendix C).
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return torch.tanh(raw), (normal - squash).sum(1)

    def _smaller_value(self, critics: nn.Module, states: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
        """Return the (n,) smaller values of two critics."""
        inputs = torch.cat([states, scaled], 1)
        first, second = (critic(inputs).squeeze(1) for critic in critics.children())
        return torch.minimum(first, second)


def _named(what: str, network: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{what}.{number}": tensor for number, tensor in enumerate(network.parameters())}


def _adam_step(loss: torch.Tensor, adam: Adam, lr: float, norm: float | None = None) -> None:
    """Make one step of Adam on its tensors alone, although the loss may depend on others."""
    gradients = torch.autograd.grad(loss, adam.tensors)
    if norm is not None:
        for tensor, gradient in zip(adam.tensors, gradients, strict=True):
            tensor.grad = gradient
        nn.utils.clip_grad_norm_(adam.tensors, norm)  # multiplies the gradients in place
    adam.step(gradients, lr)


def _soft_update(network: nn.Module, target: nn.Module, tau: float) -> None:
    """Move the target's parameters by the share `tau` towards the network's."""
    with torch.no_grad():
        for new, old in zip(network.parameters(), target.parameters(), strict=True):
            old.lerp_(new, tau)


def _network(n: int, hidden: int, out: int, generator: torch.Generator) -> nn.Sequential:
    """Return a network from (b, n) to (b, out), with torch's usual initial values drawn from `generator`."""
    layers = [nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return nn.Sequential(*layers)


def _actions_of(actor: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Return (b,) scaled actions."""
    acted: torch.Tensor = torch.tanh(actor(states)).squeeze(1)
    return acted


def _values_of(critic: nn.Module, states: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
    """Return (b,) values."""
    valued: torch.Tensor = critic(torch.cat([states, scaled[:, None]], 1)).squeeze(1)
    return valued


def _unit(scaled: torch.Tensor) -> torch.Tensor:
    """Scale actions from -1..1 to 0..1."""
    return (scaled + 1) / 2

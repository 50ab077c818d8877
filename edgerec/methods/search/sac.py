"""Soft actor-critic: an actor and twin critics for a few continuous actions, in one file.

Soft actor-critic (Haarnoja, Zhou, Abbeel and Levine 2018, arXiv 1801.01290; the form without a value network and with
twin critics, arXiv 1812.05905, algorithm 1): the policy is a normal distribution squashed by tanh; the smaller of two
target critics less the policy's log density is what is learnt from; the actor climbs the critics and its own entropy.
Sizes of networks, step sizes, clipping and the fixed weight of the entropy are those of SCALL (Qu et al. 2024, authors'
code).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.methods.search.replay import Batch
from edgerec.models import State
from edgerec.models.adam import adam_state, restore_adam
from edgerec.models.settings import check_range
from edgerec.models.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = require("torch", "train")
    nn = torch.nn

Floats = NDArray[np.float32]

_LOG_STD = (-20.0, 2.0)
"""Where the logarithm of the policy's standard deviation is cut."""
_EDGE = 0.95
"""As near to an end of the scaled actions as an actor begins: nearer, it hardly moves."""


@dataclass(frozen=True)
class SACConfig:
    """How it learns.

    Attributes:
        gamma: discount of the next state's value.
        tau: share of the critics that enters their targets at an update.
        entropy: weight of the policy's entropy beside the reward.
        actor_lr, critic_lr: of Adam.
        decay: weight decay of both.
        norm: that the actor's gradient is clipped to.
        hidden: units of each of the two hidden layers.
        spread: standard deviation of the policy at first, before tanh; None for what random weights make of it.
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
        """Raises SettingError for values out of range."""
        check_range("gamma", self.gamma, 0, 1)
        check_range("tau", self.tau, 1e-9, 1)
        check_range("entropy", self.entropy, 0, 1e6)
        check_range("actor_lr", self.actor_lr, 0, 1e3)
        check_range("critic_lr", self.critic_lr, 0, 1e3)
        check_range("decay", self.decay, 0, 1e3)
        check_range("norm", self.norm, 1e-12, 1e12)
        check_range("hidden", self.hidden, 1, 1e6)
        check_range("spread", self.spread, 1e-6, 7)


class SAC:
    """Learns actions of `n_action` numbers in 0..1 for states of `n_state` numbers, on one thread: bit-reproducible for
    a seed."""

    def __init__(
        self, n_state: int, n_action: int, config: SACConfig, seed: int, *, begin: Floats | None = None
    ) -> None:
        """`begin`: (n_action,) what every state's policy has its middle at, nearly, at first; None for 0.5."""
        self.config, self._n_action = config, n_action
        generator = torch.Generator().manual_seed(seed)
        self._actor = _network(n_state, config.hidden, 2 * n_action, generator)
        self._begin_at(begin)
        self._critics = nn.ModuleList(_network(n_state + n_action, config.hidden, 1, generator) for _ in range(2))
        self._targets = deepcopy(self._critics)
        adam = torch.optim.Adam
        self._actor_adam = adam(self._actor.parameters(), lr=config.actor_lr, weight_decay=config.decay, fused=True)
        self._critics_adam = adam(
            self._critics.parameters(), lr=config.critic_lr, weight_decay=config.decay, fused=True
        )
        self._generator = generator

    def _begin_at(self, begin: Floats | None) -> None:
        """Small weights and the wanted biases in the actor's last layer."""
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
        """(n, n_action) the policy's middle for states (n, n_state): its deterministic action."""
        with torch_threads(1), torch.no_grad():
            mean, _ = self._policy(torch.from_numpy(states))
            return _unscaled(torch.tanh(mean)).numpy()

    def explore(self, states: Floats, rng: np.random.Generator) -> Floats:
        """(n, n_action) drawn from the policy, with noise of `rng`."""
        noise = torch.from_numpy(rng.standard_normal((len(states), self._n_action)).astype(np.float32))
        with torch_threads(1), torch.no_grad():
            mean, log_std = self._policy(torch.from_numpy(states))
            return _unscaled(torch.tanh(mean + log_std.exp() * noise)).numpy()

    def value(self, states: Floats, actions: Floats) -> Floats:
        """(n,) the smaller of the critics' values of actions (n, n_action) in states (n, n_state)."""
        with torch_threads(1), torch.no_grad():
            scaled = 2 * torch.from_numpy(np.ascontiguousarray(actions, np.float32)) - 1
            return self._least(self._critics, torch.from_numpy(states), scaled).numpy()

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of the critics, of the actor and of the targets; `batch.actions` are (n, n_action) in 0..1.

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
                soft = self._least(self._targets, following, then) - config.entropy * density
                target = rewards + config.gamma * soft
            inputs = torch.cat([states, 2 * actions - 1], 1)
            errors = [nn.functional.mse_loss(critic(inputs).squeeze(1), target) for critic in self._critics]
            loss = torch.stack(errors).sum()
            _descend(loss, self._critics, self._critics_adam)
            drawn, density = self._draw(states)
            gain = (self._least(self._critics, states, drawn) - config.entropy * density).mean()
            _descend(-gain, self._actor, self._actor_adam, config.norm)
            with torch.no_grad():
                for new, old in zip(self._critics.parameters(), self._targets.parameters(), strict=True):
                    old.lerp_(new, config.tau)
        return {"critic": float(loss.detach()), "entropy": -float(density.detach().mean())}

    def _policy(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, n_action) means and logarithms of standard deviations, before tanh."""
        mean, log_std = self._actor(states).chunk(2, 1)
        return mean, log_std.clamp(*_LOG_STD)

    def _draw(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, n_action) scaled actions drawn with a gradient, and (n,) the logarithms of their densities."""
        mean, log_std = self._policy(states)
        noise = torch.randn(mean.shape, generator=self._generator)
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2), without the cancellation (arXiv 1812.05905, appendix C).
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return torch.tanh(raw), (normal - squash).sum(1)

    def _least(self, critics: nn.Module, states: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
        """(n,) the smaller value of two critics."""
        inputs = torch.cat([states, scaled], 1)
        first, second = (critic(inputs).squeeze(1) for critic in critics.children())
        return torch.minimum(first, second)

    def state(self) -> State:
        """Networks, targets, Adam's moments, the generator."""
        state: State = {"generator": self._generator.get_state().numpy().copy()}
        for network, adam in self._trained():
            state |= adam_state(adam, network)
        return state | {name: tensor.detach().numpy().copy() for name, tensor in _named("targets", self._targets)}

    def restore(self, state: State) -> None:
        """Continue from `state()` of one that was made with the same arguments, to the same result to the bit."""
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        for network, adam in self._trained():
            restore_adam(adam, network, state)
        for name, tensor in _named("targets", self._targets):
            tensor.data.copy_(torch.from_numpy(state[name]))

    def _trained(self) -> list[tuple[list[tuple[str, torch.Tensor]], torch.optim.Adam]]:
        return [
            (_named("actor", self._actor), self._actor_adam),
            (_named("critics", self._critics), self._critics_adam),
        ]


def _named(what: str, network: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(f"{what}-{number}", tensor) for number, tensor in enumerate(network.parameters())]


def _descend(loss: torch.Tensor, network: nn.Module, adam: torch.optim.Adam, norm: float | None = None) -> None:
    """One step of Adam on the network's own parameters, whatever else the loss depends on."""
    parameters = list(network.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    if norm is not None:
        nn.utils.clip_grad_norm_(parameters, norm)
    adam.step()


def _network(n: int, hidden: int, out: int, generator: torch.Generator) -> nn.Sequential:
    """(b, n) to (b, out); torch's usual initial values, drawn from `generator`."""
    layers = [nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return nn.Sequential(*layers)


def _unscaled(scaled: torch.Tensor) -> torch.Tensor:
    """-1..1 to 0..1."""
    return (scaled + 1) / 2

"""TD3: an actor and twin critics for one continuous action, in one file.

Twin delayed deep deterministic policy gradient (Fujimoto, van Hoof and Meger 2018, arXiv 1802.09477, algorithm 1): the
smaller of two target critics is what is learnt from, the target action is smoothed by noise, and the actor and the
targets follow every other step of the critics. Sizes of networks, step sizes and clipping are those of CIESS (Qu et al.
2023, authors' code).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.methods.search.replay import Batch
from edgerec.models import State
from edgerec.models.settings import check_range
from edgerec.models.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = require("torch", "train")
    nn = torch.nn

Floats = NDArray[np.float32]

_EDGE = 0.95
"""As near to an end of the scaled actions as an actor begins: nearer, it hardly moves."""


@dataclass(frozen=True)
class TD3Config:
    """How it learns.

    Attributes:
        low, high: of an action; networks see it scaled to -1..1.
        gamma: discount of the next state's value.
        tau: share of the networks that enters their targets at an update of these.
        delay: steps of the critics for one of the actor and of all targets.
        smoothing, clip: standard deviation of the noise on target actions and where it is cut, in units of the action.
        actor_lr, critic_lr: of Adam.
        norm: that gradients are clipped to.
        hidden: units of each of the two hidden layers.
        twins: critics, 2, whose smaller value is learnt from; 1 leaves this out, and overestimates.
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
        """Raises SettingError for values out of range."""
        check_range("high", self.high, self.low, 1e9)
        check_range("gamma", self.gamma, 0, 1)
        check_range("tau", self.tau, 1e-9, 1)
        check_range("delay", self.delay, 1, 1e6)
        check_range("smoothing", self.smoothing, 0, 1e9)
        check_range("clip", self.clip, 0, 1e9)
        check_range("actor_lr", self.actor_lr, 0, 1e3)
        check_range("critic_lr", self.critic_lr, 0, 1e3)
        check_range("norm", self.norm, 1e-12, 1e12)
        check_range("hidden", self.hidden, 1, 1e6)
        check_range("twins", self.twins, 1, 2)


class TD3:
    """Learns actions for states of `n_state` numbers, on one thread: bit-reproducible for a seed."""

    def __init__(self, n_state: int, config: TD3Config, seed: int, *, begin: float | None = None) -> None:
        """`begin`: the action that every state has at first, nearly; None for the middle one."""
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        self._actor = _network(n_state, config.hidden, generator)
        with torch.no_grad():
            for parameter in self._actor[-1].parameters():
                parameter.uniform_(-3e-3, 3e-3, generator=generator)
            if begin is not None:
                scaled = self._scaled(torch.tensor(float(begin))).clamp(-_EDGE, _EDGE)
                list(self._actor.parameters())[-1].add_(torch.atanh(scaled))
        self._critics = nn.ModuleList(_network(n_state + 1, config.hidden, generator) for _ in range(config.twins))
        self._actor_target, self._critics_target = deepcopy(self._actor), deepcopy(self._critics)
        self._actor_adam = torch.optim.Adam(self._actor.parameters(), lr=config.actor_lr)
        self._critics_adam = torch.optim.Adam(self._critics.parameters(), lr=config.critic_lr)
        self._generator, self.steps = generator, 0

    def act(self, states: Floats) -> Floats:
        """(n,) actions in low..high, without noise, of states (n, n_state)."""
        with torch_threads(1), torch.no_grad():
            return self._unscaled(_acted(self._actor, torch.from_numpy(states))).numpy()

    def value(self, states: Floats, actions: Floats) -> Floats:
        """(n, k) the first critic's values of actions (n, k) in states (n, n_state)."""
        k = actions.shape[1]
        with torch_threads(1), torch.no_grad():
            scaled = self._scaled(torch.from_numpy(np.ascontiguousarray(actions, np.float32)).reshape(-1))
            repeated = torch.from_numpy(states).repeat_interleave(k, dim=0)
            return _valued(self._critics[0], repeated, scaled).reshape(-1, k).numpy()

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of the critics, and with every `delay`-th one of the actor and the targets.

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
            losses = [nn.functional.mse_loss(_valued(critic, states, actions), target) for critic in self._critics]
            loss = torch.stack(losses).sum()
            self._descend(loss, self._critics, self._critics_adam)
            if self.steps % self.config.delay == 0:
                gain = _valued(self._critics[0], states, _acted(self._actor, states)).mean()
                self._descend(-gain, self._actor, self._actor_adam)
                self._follow()
        return {"critic": float(loss.detach()), "value": float(target.mean())}

    def _target(self, rewards: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """(n,) r + gamma min over the target critics of the smoothed target action's value."""
        config = self.config
        with torch.no_grad():
            action = self._unscaled(_acted(self._actor_target, following))
            noise = torch.randn(action.shape, generator=self._generator) * config.smoothing
            action = (action + noise.clamp(-config.clip, config.clip)).clamp(config.low, config.high)
            scaled = self._scaled(action)
            values = torch.stack([_valued(critic, following, scaled) for critic in self._critics_target])
            return rewards + config.gamma * values.amin(0)

    def _descend(self, loss: torch.Tensor, network: nn.Module, adam: torch.optim.Adam) -> None:
        parameters = list(network.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, self.config.norm)
        adam.step()

    def _follow(self) -> None:
        pairs = ((self._actor, self._actor_target), (self._critics, self._critics_target))
        with torch.no_grad():
            for network, target in pairs:
                for new, old in zip(network.parameters(), target.parameters(), strict=True):
                    old.lerp_(new, self.config.tau)

    def _scaled(self, actions: torch.Tensor) -> torch.Tensor:
        """low..high to -1..1."""
        low, high = self.config.low, self.config.high
        return (actions - low) / max((high - low) / 2, 1e-9) - 1

    def _unscaled(self, scaled: torch.Tensor) -> torch.Tensor:
        low, high = self.config.low, self.config.high
        return low + (scaled + 1) * (high - low) / 2

    def state(self) -> State:
        """Networks, targets, Adam's moments, the generator, the step count."""
        state: State = {"generator": self._generator.get_state().numpy().copy(), "steps": np.array(self.steps)}
        for name, network in self._networks().items():
            for number, parameter in enumerate(network.parameters()):
                state[f"{name}.{number}"] = parameter.detach().numpy().copy()
        for name, adam in self._adams().items():
            for number, moments in adam.state_dict()["state"].items():
                state |= {f"{name}.{number}.{key}": value.numpy().copy() for key, value in moments.items()}
        return state

    def restore(self, state: State) -> None:
        """Continue from `state()` of one that was made with the same arguments, to the same result to the bit."""
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        self.steps = int(state["steps"])
        for name, network in self._networks().items():
            for number, parameter in enumerate(network.parameters()):
                parameter.data.copy_(torch.from_numpy(state[f"{name}.{number}"]))
        for name, adam in self._adams().items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in state.items():
                of, _, rest = key.partition(".")
                if of == name:
                    place, _, moment = rest.partition(".")
                    moments.setdefault(int(place), {})[moment] = torch.from_numpy(value.copy())
            adam.load_state_dict({**adam.state_dict(), "state": moments})

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "actor": self._actor,
            "critics": self._critics,
            "actor_target": self._actor_target,
            "critics_target": self._critics_target,
        }

    def _adams(self) -> dict[str, torch.optim.Adam]:
        return {"actor_adam": self._actor_adam, "critics_adam": self._critics_adam}


def _network(n: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """(b, n) to (b, 1); torch's usual initial values, drawn from `generator`."""
    network = nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return network


def _acted(actor: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """(b,) scaled actions."""
    acted: torch.Tensor = torch.tanh(actor(states)).squeeze(1)
    return acted


def _valued(critic: nn.Module, states: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
    """(b,) values."""
    valued: torch.Tensor = critic(torch.cat([states, scaled[:, None]], 1)).squeeze(1)
    return valued

"""Adam on named tensors with gradients that the caller computes, and its state as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgerec.extras import require

if TYPE_CHECKING:
    import torch
    from torch.optim.adam import adam

    from edgerec.models.base import State
else:
    torch = require("torch", "train")
    from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), computed by torch.

    The class `torch.optim.Adam` loads torch's compiler when it is constructed: 1.2 s and 70 MB of every process that
    trains (torch 2.13). Its function does not, and gives the same values to the bit.

    Attributes:
        named: the trained tensors by name.
    """

    def __init__(
        self,
        named: Mapping[str, torch.Tensor],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        decay: float = 0.0,
        fused: bool = True,
    ) -> None:
        """Start with moments of zero.

        Args:
            named: the tensors to train, in the order of their gradients; names are those of the state.
            betas: decay of the first and of the second moment.
            decay: factor of the tensors that is added to their gradients.
            fused: True for torch's faster kernel, which rounds differently.
        """
        self.named = dict(named)
        self._betas, self._decay, self._fused = betas, decay, fused
        self._moments: dict[str, dict[str, torch.Tensor]] = {}

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The trained tensors, in order."""
        return list(self.named.values())

    @property
    def count(self) -> int:
        """Number of values of all tensors."""
        return sum(tensor.numel() for tensor in self.named.values())

    def step(self, gradients: Sequence[torch.Tensor], lr: float | Sequence[float]) -> None:
        """Make one step with a gradient and a learning rate of each tensor, or one rate of all."""
        if not isinstance(lr, Sequence):
            self._step(list(self.named), gradients, lr)
            return
        for name, gradient, rate in zip(self.named, gradients, lr, strict=True):
            self._step([name], [gradient], rate)

    def _step(self, names: Sequence[str], gradients: Sequence[torch.Tensor], lr: float) -> None:
        of = [self._moments_of(name) for name in names]
        with torch.no_grad():
            adam(
                [self.named[name] for name in names],
                list(gradients),
                [moments["exp_avg"] for moments in of],
                [moments["exp_avg_sq"] for moments in of],
                [],
                [moments["step"] for moments in of],
                fused=self._fused,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=lr,
                weight_decay=self._decay,
                eps=1e-8,
                maximize=False,
            )

    def _moments_of(self, name: str) -> dict[str, torch.Tensor]:
        if name not in self._moments:
            tensor = self.named[name].detach()
            self._moments[name] = {
                "step": torch.zeros((), device=tensor.device if self._fused else "cpu"),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }
        return self._moments[name]

    def state(self) -> State:
        """Return copies of the tensors and, of those that had a step, of their moments and step counts, by name."""
        state: State = {}
        for name, tensor in self.named.items():
            state[name] = tensor.detach().cpu().numpy().copy()
            moments = self._moments.get(name, {})
            state |= {f"{name}.{key}": value.cpu().numpy().copy() for key, value in moments.items()}
        return state

    def restore(self, state: State) -> None:
        """Restore tensors and moments from `state()`; `state` may hold more arrays."""
        self._moments = {}
        for name, tensor in self.named.items():
            tensor.data.copy_(torch.from_numpy(state[name]))
            if f"{name}.step" in state:
                for key, value in self._moments_of(name).items():
                    value.copy_(torch.from_numpy(state[f"{name}.{key}"]))

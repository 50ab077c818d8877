"""Weights that an objective trains in full, in addition to its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgerec.extras import require
from edgerec.models import State
from edgerec.models.adam import adam_state, restore_adam

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


class DenseWeights:
    """Named arrays with an Adam of their own; there may be none."""

    def __init__(self, named: dict[str, torch.Tensor]) -> None:
        """`named`: leaves that need a gradient."""
        self._named = named
        # Adam takes no empty list.
        self._optimizer = torch.optim.Adam(self.tensors, fused=True) if named else None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All arrays, in order."""
        return list(self._named.values())

    @property
    def count(self) -> int:
        """Values of all."""
        return sum(tensor.numel() for tensor in self.tensors)

    def set_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        """Keep the gradients by `tensors` for the next step."""
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient

    def step(self, lr: float) -> None:
        """Make one step of Adam with the gradients that were set last."""
        if self._optimizer is not None:
            self._optimizer.param_groups[0]["lr"] = lr
            self._optimizer.step()

    def state(self) -> State:
        """Copies of values, moments and counts of steps."""
        return {} if self._optimizer is None else adam_state(self._optimizer, self._named.items())

    def restore(self, state: State) -> None:
        """Become what `state()` was of; `state` may hold more."""
        if self._optimizer is not None:
            restore_adam(self._optimizer, self._named.items(), state)

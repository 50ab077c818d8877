"""Dense weights that an objective trains in addition to its sparse table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgerec.extras import require
from edgerec.models import State, adam_state, restore_adam

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


class DenseWeights:
    """Named tensors, possibly none, with their own Adam optimizer."""

    def __init__(self, named: dict[str, torch.Tensor]) -> None:
        """Create the optimizer of `named` leaf tensors that require a gradient."""
        self._named = named
        # Adam takes no empty list.
        self._optimizer = torch.optim.Adam(self.tensors, fused=True) if named else None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors, in order."""
        return list(self._named.values())

    @property
    def count(self) -> int:
        """Number of values of all tensors."""
        return sum(tensor.numel() for tensor in self.tensors)

    def set_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        """Set the gradients of `tensors` for the next step."""
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient

    def step(self, lr: float) -> None:
        """Make one step of Adam with the last gradients."""
        if self._optimizer is not None:
            self._optimizer.param_groups[0]["lr"] = lr
            self._optimizer.step()

    def state(self) -> State:
        """Return copies of values, moments and step counts."""
        return {} if self._optimizer is None else adam_state(self._optimizer, self._named.items())

    def restore(self, state: State) -> None:
        """Restore from `state()`; `state` may hold more arrays."""
        if self._optimizer is not None:
            restore_adam(self._optimizer, self._named.items(), state)

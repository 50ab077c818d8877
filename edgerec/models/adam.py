"""State of torch's Adam as arrays: values, moments and step counts by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgerec.extras import require
from edgerec.models.base import State

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")

Named = Iterable[tuple[str, "torch.Tensor"]]
"""Trained tensors by name."""


def adam_state(optimizer: torch.optim.Adam, trained: Named) -> State:
    """Return copies of the trained tensors and of their state in `optimizer`."""
    state: State = {}
    for name, tensor in trained:
        state[name] = tensor.detach().cpu().numpy().copy()
        state |= {f"{name}.{key}": value.cpu().numpy().copy() for key, value in optimizer.state[tensor].items()}
    return state


def restore_adam(optimizer: torch.optim.Adam, trained: Named, state: State) -> None:
    """Restore tensors and optimizer from `adam_state`; `state` may hold more arrays."""
    for name, tensor in trained:
        tensor.data.copy_(torch.from_numpy(state[name]))
        optimizer.state[tensor] = {
            key.removeprefix(f"{name}."): torch.from_numpy(value.copy()).to(tensor.device)
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }

"""What Adam trains, as arrays: values, moments and counts of steps by name."""

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
"""What is trained, by name."""


def adam_state(optimizer: torch.optim.Adam, trained: Named) -> State:
    """Copies of all that is trained, and of what `optimizer` holds of it."""
    state: State = {}
    for name, tensor in trained:
        state[name] = tensor.detach().cpu().numpy().copy()
        state |= {f"{name}.{key}": value.cpu().numpy().copy() for key, value in optimizer.state[tensor].items()}
    return state


def restore_adam(optimizer: torch.optim.Adam, trained: Named, state: State) -> None:
    """Become what `adam_state` was of; `state` may hold more."""
    for name, tensor in trained:
        tensor.data.copy_(torch.from_numpy(state[name]))
        optimizer.state[tensor] = {
            key.removeprefix(f"{name}."): torch.from_numpy(value.copy()).to(tensor.device)
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }

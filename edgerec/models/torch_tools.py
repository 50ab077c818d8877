"""Tools of trainers on torch: their device, the number of threads while they work, and the state of Adam as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgerec.errors import UnsupportedError
from edgerec.extras import require

if TYPE_CHECKING:
    import torch

    from edgerec.models.base import State

Named = Iterable[tuple[str, "torch.Tensor"]]
"""Trained tensors by name."""


def device_of(name: str) -> torch.device:
    """Return 'cpu', 'cuda' or, one of several GPUs, 'cuda:1' as torch's. Raises UnsupportedError for one it misses."""
    library = require("torch", "train")
    gpus = [f"cuda:{number}" for number in range(library.cuda.device_count())]
    if name == "cpu" or name in gpus or (gpus and name == "cuda"):
        found: torch.device = library.device(name)
        return found
    of_gpu = "leave it out to train on the CPU; a GPU needs its driver, and a torch that is built for it"
    fix = f"choose cpu, cuda or {', '.join(gpus)}" if gpus else of_gpu
    raise UnsupportedError(f"torch finds no device {name!r} here: {fix}")


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Run the block with torch on `n` threads; None for one.

    torch's waiting threads spin: next to another busy process two threads took 2 to 36 s an epoch of MovieLens-100K and
    one took 0.2 s (torch 2.13); on an idle machine two reduced an epoch of MovieLens-1M from 1.4 to 0.9 s.
    """
    torch = require("torch", "train")
    before = torch.get_num_threads()
    torch.set_num_threads(n or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def adam_state(optimizer: torch.optim.Adam, trained: Named) -> State:
    """Return copies of the trained tensors and of their state in `optimizer`: moments and step counts, by name."""
    state: State = {}
    for name, tensor in trained:
        state[name] = tensor.detach().cpu().numpy().copy()
        state |= {f"{name}.{key}": value.cpu().numpy().copy() for key, value in optimizer.state[tensor].items()}
    return state


def restore_adam(optimizer: torch.optim.Adam, trained: Named, state: State) -> None:
    """Restore tensors and optimizer from `adam_state`; `state` may hold more arrays."""
    torch = require("torch", "train")
    for name, tensor in trained:
        tensor.data.copy_(torch.from_numpy(state[name]))
        optimizer.state[tensor] = {
            key.removeprefix(f"{name}."): torch.from_numpy(value.copy()).to(tensor.device)
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }

"""Tools of trainers on torch: their device, and the number of threads while they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgerec.errors import UnsupportedError
from edgerec.extras import require

if TYPE_CHECKING:
    import torch


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

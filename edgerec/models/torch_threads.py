"""How many threads torch may use while a trainer works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgerec.extras import require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """torch on `n` threads inside; None is one.

    torch's waiting threads spin: beside another busy process two threads took 2 to 36 s an epoch of MovieLens-100K
    where one took 0.2 s (torch 2.13), and won 1.4 to 0.9 s on MovieLens-1M with the machine to themselves.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

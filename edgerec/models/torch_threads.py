"""The number of threads that torch may use while a trainer works."""

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
    """Run the block with torch on `n` threads; None for one.

    torch's waiting threads spin: next to another busy process two threads took 2 to 36 s an epoch of MovieLens-100K and
    one took 0.2 s (torch 2.13); on an idle machine two reduced an epoch of MovieLens-1M from 1.4 to 0.9 s.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

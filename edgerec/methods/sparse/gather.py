"""Rows looked up for a loss, of which only some have a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.extras import require
from edgerec.methods.sparse.objective import Source
from edgerec.methods.sparse.table import Rows

if TYPE_CHECKING:
    import torch
    from torch.autograd import Function
else:
    torch = require("torch", "train")
    Function = torch.autograd.Function


def gather(table: Source, wanted: Rows, *rows: Rows) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """What a loss by the rows `wanted` (n,), ascending, is differentiated by, (n, d); and each of `rows` (m,) looked
    up, (m, d).

    No gradient is formed for rows that are not wanted.
    """
    own, index = np.unique(np.concatenate(rows), return_inverse=True)
    place = np.searchsorted(wanted, own)
    place[(place == wanted.size) | (wanted[np.minimum(place, wanted.size - 1)] != own)] = -1
    values = torch.from_numpy(table.rows(own))
    # Expanded, it takes no memory: it is only what the gradient is asked by.
    leaf = torch.zeros(1, 1).expand(wanted.size, values.shape[1]).requires_grad_()
    looked_up: torch.Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        leaf, values, torch.from_numpy(index), torch.from_numpy(place)
    )
    return leaf, torch.split(looked_up, [part.size for part in rows])


class _Gather(Function):
    @staticmethod
    def forward(
        ctx: Any, leaf: torch.Tensor, values: torch.Tensor, index: torch.Tensor, place: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(index, place)
        ctx.shape = leaf.shape
        return values[index]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        index, place = ctx.saved_tensors
        at = place[index]
        given = at >= 0
        some = gradients[0].new_zeros(ctx.shape)
        every = bool(given.all())
        some.index_add_(0, at if every else at[given], gradients[0] if every else gradients[0][given])
        return some, None, None, None

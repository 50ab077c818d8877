"""The sparse products of training and of the SVD on a device of torch, and the row solves of implicit ALS.

A part of the data is on the device at a time: users of at most `SHARD` interactions, or a block of rows to solve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import user_ranges
from edgerec.extras import require
from edgerec.models.row_solver import Block, store, whitener

if TYPE_CHECKING:
    import scipy.sparse
    import torch
else:
    torch = require("torch", "train")

Floats = NDArray[np.float32]


def sparse_tensor(matrix: scipy.sparse.csr_array[Any, Any], device: torch.device) -> torch.Tensor:
    """Return a sparse matrix on the device."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    places = torch.from_numpy(np.stack([rows, matrix.indices])).to(device)
    values = torch.from_numpy(matrix.data).to(device)
    return torch.sparse_coo_tensor(places, values, matrix.shape, is_coalesced=True, check_invariants=False)


def product(matrix: scipy.sparse.csr_array[Any, Any], columns: Floats, device: torch.device) -> Floats:
    """Return `matrix` (n, m) times `columns` (m, k)."""
    right = torch.from_numpy(columns).to(device)
    return np.concatenate([(rows @ right).cpu().numpy() for rows in _parts(matrix, device)])


def image_of_items(matrix: scipy.sparse.csr_array[Any, Any], block: Floats, device: torch.device) -> Floats:
    """Return M' M `block` (m, b), for the matrix M (n, m)."""
    columns = torch.from_numpy(np.ascontiguousarray(block)).to(device)
    total = torch.zeros_like(columns)
    for rows in _parts(matrix, device):
        total += rows.T @ (rows @ columns)
    return total.cpu().numpy()


def _parts(matrix: scipy.sparse.csr_array[Any, Any], device: torch.device) -> Iterator[torch.Tensor]:
    for first, end in user_ranges(matrix.indptr):
        yield sparse_tensor(matrix[first:end], device)


def solve_rows(
    groups: Sequence[tuple[float, Sequence[Block]]],
    other: Floats,
    alpha: float,
    reg: float,
    targets: Floats | None,
    rows: Floats,
    device: torch.device,
) -> float:
    """Solve blocks of rows as `RowSolver.solve` does, into `rows` (n_rows, d); return the sum of t' Z z.

    Args:
        groups: blocks by the factor of their penalty.
        targets: (n_columns + 1,) targets t of the columns; None for ones.
    """
    table = torch.from_numpy(other).to(device)
    gram, fits = (table.T @ table).double().cpu().numpy(), 0.0
    aims = table.new_ones(len(table) + 1) if targets is None else torch.from_numpy(targets).to(device)
    for factor, blocks in groups:
        back = torch.from_numpy(whitener(gram, reg * factor)).to(device)
        whitened = torch.cat([table @ back, table.new_zeros(1, len(back))])
        for block in blocks:
            z, fit = _solve_block(block, whitened, alpha, aims)
            solved = (1 + alpha) * (z @ back[: block.width, : block.width].T)
            store(solved.cpu().numpy(), block, rows)
            fits += float(fit)
    return fits


def _solve_block(
    block: Block, table: torch.Tensor, alpha: float, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `row_solver` does for a block, by Cholesky: I + alpha Z'Z has a condition of at most 1 + alpha."""
    columns = torch.from_numpy(block.columns).to(table.device)
    gathered = table[:, : block.width][columns]
    if block.mask is not None:
        gathered *= torch.from_numpy(block.mask).to(table.device)[:, None]
    aims = targets[columns][..., None]
    transposed = gathered.mT
    total = transposed @ aims
    few = columns.shape[1] < block.width
    gram = (gathered @ transposed if few else transposed @ gathered).mul_(alpha)
    gram.diagonal(dim1=1, dim2=2).add_(1)
    z = torch.cholesky_solve(aims if few else total, torch.linalg.cholesky_ex(gram)[0])
    z = transposed @ z if few else z
    return z[..., 0], (total * z).double().sum()

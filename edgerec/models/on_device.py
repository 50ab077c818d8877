"""The sparse products of training on a device of torch, the iterations of the SVD, and the row solves of implicit ALS.

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

_DOUBLE_ROWS = 1 << 18
"""Rows in float64 at once."""


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


def iterated(
    matrix: scipy.sparse.csr_array[Any, Any], basis: Floats, iterations: int, device: torch.device
) -> tuple[Floats, NDArray[np.float64]]:
    """Return M' M Q (m, k) and the Gram matrix of M Q, Q the orthonormal basis (m, k) after the power iterations."""
    columns = torch.from_numpy(basis).to(device)
    for _ in range(iterations):
        columns = torch.linalg.qr(_passed(matrix, columns)[0])[0]
    image, gram = _passed(matrix, columns)
    return image.cpu().numpy(), gram.cpu().numpy()


def _passed(matrix: scipy.sparse.csr_array[Any, Any], columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return M' M `columns` (m, k), and the Gram matrix of M `columns` in float64."""
    k = columns.shape[1]
    total, gram = torch.zeros_like(columns), torch.zeros(k, k, dtype=torch.float64, device=columns.device)
    for rows in _parts(matrix, columns.device):
        image = rows @ columns
        total += rows.T @ image
        for part in torch.split(image, _DOUBLE_ROWS):
            gram += part.double().T @ part.double()
    return total, gram


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

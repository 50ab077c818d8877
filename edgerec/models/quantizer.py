"""The rounding of trained item rows to the integer codes that bundles store, with a straight-through gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.ranks import ALONE, Ranks
from edgerec.tables import RowCodes
from edgerec.tables.coded import PRECISION_OF_BITS
from edgerec.tables.codes import (
    TINY,
    byte_top,
    codes_with_feedback,
    damped,
    from_bytes,
    in_bytes,
    nearest_codes,
    to_bytes,
)

if TYPE_CHECKING:
    import torch

STEPS = {2: 0.498, 4: 0.352, 8: 0.0313}
"""Scale of a row over the root mean square of its values: the best for normally distributed values with 4 and 15
levels (Max, IRE Transactions on Information Theory 6, 1960), which values are after a rotation, and 4 deviations for
8 bits."""

_DAMPING = 0.1
"""Share of the mean of the Gram matrix's diagonal that is added to the diagonal: .01 was worse on ML-1M at 4 and 8
bytes a row, 1 worse at 4."""

_STEP = np.ones(1, np.float32)
"""The scale of values in steps: a row's error has one scale in all dimensions, so that it may be fed back in steps."""

Floats = NDArray[np.float32]


def rotated(rows: NDArray[Any], sizes: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return rows (n, d) turned by a random rotation from each of their `sizes` (n,) to the next.

    It changes no inner product of rows that are zero past their sizes, which they stay, and makes values near normal,
    as the scales expect them; wider rows extend narrower ones.
    """
    rows = np.array(rows)
    for start, stop in zip(widths := [0, *np.unique(sizes).tolist()], widths[1:], strict=False):
        rows[:, start:stop] @= np.linalg.qr(rng.standard_normal((stop - start, stop - start)))[0]
    return rows.astype(np.float32)


class Quantizer:
    """Rounds rows of prefix sizes to codes and a scale a row in a byte."""

    def __init__(self, sizes: NDArray[np.int64], d: int, bits: int | NDArray[np.uint8], ranks: Ranks = ALONE) -> None:
        """Prepare for rows of `sizes` (n,) values in tables of `d` dimensions, of `bits` bits or (n,) each its own.

        Each of several ranks rounds rows of its own of one table, whose scales have one unit: all call `codes` at once.
        """
        self._ranks = ranks
        self._bits = np.full(len(sizes), bits, np.uint8) if isinstance(bits, int) else bits
        kinds = np.unique(self._bits).tolist()
        self._rows: dict[int, Any] = {one: np.flatnonzero(self._bits == one) for one in kinds}
        if len(kinds) == 1:
            self._rows = {kinds[0]: slice(None)}
        self._steps = np.array([STEPS.get(one, 0) for one in range(max(STEPS) + 1)], np.float32)[self._bits]
        self._sizes = sizes.astype(np.float32)
        self._inside = (np.arange(d) < sizes[:, None]).astype(np.float32)

    def codes(self, rows: Floats, gram: NDArray[np.floating[Any]] | None = None) -> tuple[Floats, RowCodes]:
        """Return the (n, d) rounded rows, zero past their sizes, and their codes' bits and scales.

        Args:
            gram: (d, d) mean of u u' over users. Codes of 4 and 2 bits are then rounded with error feedback, so that
                scores change least, as in GPTQ (Frantar et al. 2022, arXiv 2210.17323); None to round to nearest.
        """
        means = np.einsum("nd,nd->n", rows, rows) / self._sizes
        scales = np.maximum(np.sqrt(means) * self._steps, TINY)
        top = byte_top(self._ranks.gather(scales.max(keepdims=True, initial=TINY)).max())
        steps = to_bytes(scales, top)
        stored = from_bytes(steps, top)[:, None]
        found = rows / stored
        for bits, mine in self._rows.items():
            precision = PRECISION_OF_BITS[bits]
            if gram is None or bits == 8:
                found[mine] = nearest_codes(found[mine], precision)
                continue
            for width in np.unique(self._sizes[mine]).astype(int).tolist():
                part = np.flatnonzero((self._bits == bits) & (self._sizes == width))
                hessian = damped(gram[:width, :width], _DAMPING)
                found[part, :width] = codes_with_feedback(found[part, :width].T, _STEP, hessian, precision).T
        found *= stored
        found *= self._inside
        return found, RowCodes(self._bits, steps, top)

    def joined(self, rows: Floats, codes: RowCodes) -> tuple[Floats, RowCodes]:
        """Return the rounded rows and codes of all ranks, given those of each, as `codes` returns them."""
        gather = self._ranks.gather
        return gather(rows), RowCodes(gather(codes.bits), gather(codes.steps), codes.top)

    def rounded(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows (n, d) as they are stored, with the gradient of rows that are not rounded."""
        values = rows.detach().cpu().numpy()
        return rows + _tensor(self.codes(values)[0] - values).to(rows.device)

    @staticmethod
    def weights(numbers: torch.Tensor) -> torch.Tensor:
        """Return positive numbers (n,) as bundles store history weights, with the gradient of the numbers."""
        values = numbers.detach().cpu().numpy()
        return numbers + _tensor(in_bytes(values) - values).to(numbers.device)


def _tensor(array: Floats) -> torch.Tensor:
    """Return the tensor of an array; torch is loaded by trainers that use it."""
    tensor: torch.Tensor = require("torch", "train").from_numpy(array)
    return tensor

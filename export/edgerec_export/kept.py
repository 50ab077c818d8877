"""Scales of an older bundle, which the next one of its line keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.patch.rows import Block
from edgerec_export import values

FARTHEST = np.float32(1 << 12)
"""How far above a top kept from before float16 numbers may lie: they end at 65,504."""


@dataclass(frozen=True)
class KeptScales:
    """The scales of a table's integers.

    Attributes:
        blocks: of the table, in row order.
        scales: (1,) or (blocks,) float32; None where every row has its own.
        top: what stored row scales are multiplied by; None where there are none.
    """

    blocks: tuple[Block, ...]
    scales: NDArray[np.float32] | None
    top: np.float32 | None

    def scale_of(self, block: values.Block, number: int) -> np.float32 | None:
        """Of the `number`th block of its width and precision; that of the nearest width where that one is new. None
        where there is nothing to go by."""
        if self.scales is None:
            return None
        if len(self.scales) == 1:
            return np.float32(self.scales[0])
        bits = 4 if block.precision == "int4" else 8
        alike = [n for n, one in enumerate(self.blocks) if one.bits == bits]
        if not alike:
            return None
        nearest = min(alike, key=lambda n: abs(self.blocks[n].width - block.width))
        same = [n for n in alike if self.blocks[n].width == self.blocks[nearest].width]
        return np.float32(self.scales[same[min(number, len(same) - 1)]])

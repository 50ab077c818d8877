"""Membership of user-item pairs in the interactions, for many pairs at once, in memory proportional to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")

_BITS = 64
"""Bits of the filter for each interaction: one unobserved pair in 64 shares the bit of an observed one."""
_MOST_BITS = (1 << 31) - 1
_ODD = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 over the golden ratio: the upper half of its product with a key is spread evenly (Knuth, volume 3, 6.4)."""


class Observed:
    """An exact test of which pairs of a user and an item are observed.

    A bit for each pair is n_users * n_items / 8 bytes: ML-1M 3 MB, Gowalla 153 MB, 12 GB for a million users and
    100,000 items. If that is more than 64 bits an interaction, a hash maps pairs to 64 bits an interaction, and the few
    pairs whose bit is set are searched among the observed ones. Searching for every pair is far slower.

    Attributes:
        nbytes: bytes in memory.
    """

    def __init__(self, train: Interactions, device: torch.device | str = "cpu") -> None:
        cells = train.n_users * train.n_items
        self._n_items, self._bits = train.n_items, min(cells, _BITS * len(train), _MOST_BITS)
        self._alone = self._bits == cells
        keys = torch.from_numpy(train.user_rows().astype(np.int64) * train.n_items + train.indices)  # ascending
        places = self._places(keys).numpy()
        flags = np.zeros(-(-self._bits // 8), np.uint8)
        np.bitwise_or.at(flags, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))
        self._flags = torch.from_numpy(flags).to(device)
        self._keys = keys[:0] if self._alone else keys.to(device)
        self.nbytes = self._flags.nbytes + self._keys.nbytes

    def __call__(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return bool for pairs of user and item rows, int64 of shapes that broadcast, on the device."""
        keys = users * self._n_items + items
        places = self._places(keys)
        found = ((self._flags[places >> 3] >> (places & 7)) & 1).bool()
        if not self._alone:
            hits = keys[found]
            at = torch.searchsorted(self._keys, hits).clamp_(max=len(self._keys) - 1)
            found[found.clone()] = self._keys[at] == hits
        return found

    def _places(self, keys: torch.Tensor) -> torch.Tensor:
        """Return the bit numbers of pairs."""
        return keys if self._alone else ((((keys * _ODD) >> 32) & 0xFFFFFFFF) * self._bits) >> 32

"""LightGCN whose ego rows start from those of the previous segment.

The graph has all known interactions; batches have those of the segment and its replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgerec.data import Interactions, Segment
from edgerec.methods.stream.warm_start import Carry
from edgerec.models import SizePlan
from edgerec.models.lightgcn import LightGCNConfig, LightGCNTrainer
from edgerec.models.losses import Batch, by_interaction, by_user


class ContinuedLightGCN(LightGCNTrainer):
    """Trains a segment as SCALL's code does: on positives of the segment and its replay, with a new Adam.

    Arguments from the third on are those of `Backbone.trainer`.
    """

    def __init__(
        self,
        segment: Segment,
        carry: Carry,
        known: Interactions,
        plan: SizePlan,
        config: LightGCNConfig,
        *,
        seed: int,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(known, plan, replace(config, start="normal"), seed, threads)
        self._positives = segment.positives
        rng = np.random.default_rng([seed, segment.number])
        self.restore({**self.state(), "ego": np.concatenate(carry.moved(known, plan, rng))})

    def batches(self) -> Iterator[Batch]:
        config = self._config
        if config.loss == "bpr":
            return by_interaction(self._positives, config.batch, self._generator)
        return by_user(self._positives, config.users, config.negatives, self._generator, config.popular)

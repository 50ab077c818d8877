"""The test of a validation split: metrics and latency of the answers of bundles."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Sample, Split, SplitSpec, metrics_of_rankings, popularity_of, tested_rows
from edgerec.data import split as split_interactions
from edgerec.measure import KS, bundle_rankings, recommend_to
from edgerec.runtime import Recommender

MOST_USERS = 4000
"""Users, drawn once, whose validation metrics are the score of a bundle."""
TIMED, WARM = 30, 5
"""Requests whose median time is the latency of a bundle, after some to warm up."""


@dataclass(frozen=True)
class ValidationTest:
    """A split, and the rows of the users whose metrics are the score of a bundle on it."""

    parts: Split
    rows: NDArray[np.integer]

    @classmethod
    def of(cls, data: Interactions, spec: SplitSpec, sample_users: int | None) -> ValidationTest:
        """Split the data, and draw at most `sample_users` of the users, and at most `MOST_USERS`."""
        parts = split_interactions(data, spec)
        sample = Sample(min(sample_users or MOST_USERS, MOST_USERS), spec.seed)
        return cls(parts, tested_rows(parts.test, sample))

    def metrics(self, model: Recommender) -> dict[str, float]:
        """Return the metrics of a bundle's answers to the users of the test."""
        parts, rows = self.parts, self.rows
        seen = parts.train_all if parts.fit_all else parts.train
        rankings = bundle_rankings(model, seen, parts.train_all, rows, max(KS))
        return metrics_of_rankings(
            rankings, parts.test, rows=rows, popularity=popularity_of([parts.train, parts.validation]), ks=KS
        )

    def latency(self, model: Recommender) -> float:
        """Return the median time in milliseconds of a request for 20 items, the user's history included."""
        seen, rows, taken = self.parts.train_all, self.rows, []
        ids, users = seen.item_ids, seen.user_ids
        for number in range(WARM + TIMED):
            row = int(rows[number % rows.size])
            history = ids[seen.items_of(row)].tolist()
            user = users[row].item()
            started = time.perf_counter()
            recommend_to(model, user, history, min(20, model.n_items))
            taken.append(time.perf_counter() - started)
        return round(1000 * median(taken[WARM:]), 4)

"""How well tables do on the validation part, user by user: what CIESS and BET call eval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Split
from edgerec.data.metrics import KS, metrics_per_user
from edgerec.data.ranking import top_k_of_vectors
from edgerec.models import Vectors


@dataclass(frozen=True)
class Judged:
    """How well tables of some sizes do on the validation part.

    Attributes:
        users: (n_users,) float32, eval(e_u): the mean over k of 5, 10 and 20 of (Recall@k + NDCG@k) / 2; NaN for users
            without a validation interaction. Items have none of their own: CIESS takes the mean over their users.
    """

    users: NDArray[np.float32]

    @property
    def mean(self) -> float:
        """Over the users that have one."""
        return float(np.nanmean(self.users, dtype=np.float64))


def judged(split: Split, vectors: Vectors, threads: int | None) -> Judged:
    """What vectors that were trained on `split.train` do on `split.validation`; train is masked.

    Vectors that are not finite rank nothing, and get 0: a search goes on where one training diverges.
    """
    rows = np.flatnonzero(split.validation.user_counts())
    users = np.full(split.validation.n_users, np.nan, np.float32)
    users[rows] = 0
    if not (np.isfinite(vectors.users).all() and np.isfinite(vectors.items).all()):
        return Judged(users)
    scores = None if vectors.scorer is None else vectors.scorer.scores
    rankings = top_k_of_vectors(
        vectors.users, vectors.items, rows, max(KS), seen=(split.train,), threads=threads, scores=scores
    )
    users[rows] = eval_of(metrics_per_user(rankings, split.validation, rows=rows))
    return Judged(users)


def eval_of(metrics: dict[str, NDArray[np.float64]] | dict[str, float]) -> NDArray[np.float64]:
    """Eval of metrics by name, or of as many as they are arrays of (CIESS, section 3.2; BET, section 4.3)."""
    each = [np.add(metrics[f"recall@{k}"], metrics[f"ndcg@{k}"]) / 2 for k in KS]
    return np.asarray(np.mean(each, axis=0), np.float64)

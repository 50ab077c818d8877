"""How well tables do on the validation part, user by user: what CIESS and BET call eval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Split
from edgerec.data.metrics import KS, metrics_per_user
from edgerec.data.ranking import top_k_of_vectors
from edgerec.models import Vectors


@dataclass(frozen=True)
class Judged:
    """How well tables of some sizes do on the validation part.

    Attributes:
        evals: (3, n_users) float32, eval(e_u): the mean over k of 5, 10 and 20 of (Recall@k + NDCG@k) / 2, on the whole
            validation part and on either half of it; NaN for users that have no interaction there. Items have none
            of their own: CIESS takes the mean over their users.
    """

    evals: NDArray[np.float32]

    @property
    def users(self) -> NDArray[np.float32]:
        """(n_users,) on the whole validation part."""
        whole: NDArray[np.float32] = self.evals[0]
        return whole

    @property
    def mean(self) -> float:
        """Over the users that have one."""
        return float(np.nanmean(self.users, dtype=np.float64))


def judged(split: Split, vectors: Vectors, threads: int | None) -> Judged:
    """What vectors that were trained on `split.train` do on `split.validation`; train is masked.

    Vectors that are not finite rank nothing, and get 0: a search goes on where one training diverges.
    """
    parts = (split.validation, *halves(split.validation))
    evals = np.full((len(parts), split.validation.n_users), np.nan, np.float32)
    known = [part.user_counts() > 0 for part in parts]
    for of_part, has in zip(evals, known, strict=True):
        of_part[has] = 0
    if not (np.isfinite(vectors.users).all() and np.isfinite(vectors.items).all()):
        return Judged(evals)
    rows = np.flatnonzero(known[0])
    scores = None if vectors.scorer is None else vectors.scorer.scores
    rankings = top_k_of_vectors(
        vectors.users, vectors.items, rows, max(KS), seen=(split.train,), threads=threads, scores=scores
    )
    for part, of_part, has in zip(parts, evals, known, strict=True):
        of_part[has] = eval_of(metrics_per_user(rankings[has[rows]], part, rows=np.flatnonzero(has)))
    return Judged(evals)


def halves(validation: Interactions) -> tuple[Interactions, Interactions]:
    """A user's items by turns: neither half says anything of the other that a model does not."""
    second = np.arange(len(validation)) % 2 == 1
    return validation.select(~second), validation.select(second)


def eval_of(metrics: dict[str, NDArray[np.float64]] | dict[str, float]) -> NDArray[np.float64]:
    """Eval of metrics by name, or of as many as they are arrays of (CIESS, section 3.2; BET, section 4.3)."""
    each = [np.add(metrics[f"recall@{k}"], metrics[f"ndcg@{k}"]) / 2 for k in KS]
    return np.asarray(np.mean(each, axis=0), np.float64)

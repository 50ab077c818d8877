"""Quality of a run or of a bundle's own answers, on the split that it was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import (
    Interactions,
    Split,
    SplitSpec,
    evaluate_vectors,
    metrics_of_rankings,
    popularity_of,
    split,
)
from edgerec.errors import BundleError, DataError, RequestError
from edgerec.models import users_from_history
from edgerec.runtime import Recommender
from edgerec.training import Run

KS = (5, 10, 20)
BATCH_SCORES = 4_000_000
"""Scores of one batch of users: 16 MB."""


def measure_vectors(
    parts: Split, users: NDArray[np.float32], items: NDArray[np.float32], threads: int | None = None
) -> dict[str, float]:
    """Test metrics of (n_users, d) and (n_items, d) vectors; everything but the test part is masked."""
    return evaluate_vectors(users, items, [parts.train, parts.validation], parts.test, ks=KS, threads=threads)


def evaluate(subject: Run | Recommender, interactions: Interactions, *, threads: int | None = None) -> dict[str, float]:
    """Recall, NDCG, coverage and mean popularity at 5, 10 and 20 on the test part of the split it was trained with.

    A bundle is measured by what it answers, quantisation and all: its `recommend` graph is asked for each test user.

    Raises:
        DataError: `interactions` are not those that it was trained on.
        BundleError: a bundle that does not say how its data were split (a table brought along).
    """
    about = subject.about() if isinstance(subject, Run) else subject.manifest.about
    if about.get("data_fingerprint") is None or "split" not in about:
        raise BundleError("the bundle does not say what it was trained on, so there is no split to measure it on")
    if interactions.fingerprint() != about["data_fingerprint"]:
        raise DataError(
            f"{interactions.name or 'these interactions'} are not the data it was trained on "
            f"({about.get('data') or 'unnamed'}): the fingerprints differ; give the same --data, "
            "--min-user and --min-item"
        )
    parts = split(interactions, SplitSpec.from_dict(about["split"]))
    if isinstance(subject, Run):
        items = subject.items.dense()
        return measure_vectors(parts, _user_vectors(subject, parts, items), items, threads)
    rows = np.flatnonzero(parts.test.user_counts())
    rankings = bundle_rankings(subject, _history(parts), parts.train_all, rows, max(KS))
    return metrics_of_rankings(
        rankings, parts.test, rows=rows, popularity=popularity_of([parts.train, parts.validation]), ks=KS
    )


def _history(parts: Split) -> Interactions:
    """What a user's vector is made from where users have no table: what the final model was trained on."""
    return parts.train_all if parts.fit_all else parts.train


def _user_vectors(run: Run, parts: Split, items: NDArray[np.float32]) -> NDArray[np.float32]:
    if run.users is not None:
        return run.users.dense()
    weights = run.history_weights
    if weights is None:
        raise DataError("the run has neither users nor history weights; train it again")
    return users_from_history(_history(parts), items, weights)


def bundle_rankings(
    model: Recommender, history: Interactions, seen: Interactions, rows: NDArray[Any], k: int
) -> NDArray[np.int64]:
    """(len(rows), k) item rows of `seen`, padded with -1: what a bundle recommends to users of `seen`.

    Args:
        history: what a user's vector is made from, where the bundle has no users.
        seen: what is excluded, over the same users and items.

    Raises RequestError where the bundle does not know a user or an item.
    """
    to_bundle = model.item_rows(seen.item_ids.tolist())
    from_bundle = np.full(model.n_items + 1, -1, np.int64)
    from_bundle[to_bundle] = np.arange(seen.n_items)
    batch = int(np.clip(BATCH_SCORES // model.n_items, 1, 256))
    shown = min(k, model.n_items)
    answers = np.full((len(rows), k), -1, np.int64)
    for start in range(0, len(rows), batch):
        users = rows[start : start + batch]
        exclude = _padded([to_bundle[seen.items_of(user)] for user in users])
        if model.n_users:
            inputs = {"user": model.user_rows(seen.user_ids[users].tolist())}
        else:
            inputs = {"history": _padded([to_bundle[history.items_of(user)] for user in users])}
        items, _ = model.recommend_rows(inputs, exclude, shown)
        answers[start : start + batch, :shown] = from_bundle[items]
    return answers


def _padded(lists: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(n, longest) with -1 behind the shorter ones."""
    full = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int64)
    for row, values in zip(full, lists, strict=True):
        row[: len(values)] = values
    return full


def load_subject(path: Path) -> Run | Recommender:
    """A run or a bundle, whichever lies in the folder. Raises RequestError where neither does."""
    if (path / "manifest.json").exists():
        return Recommender.load(path)
    if (path / "run.json").exists():
        return Run.load(path)
    raise RequestError(f"{path} holds neither a run (run.json) nor a bundle (manifest.json)")

"""Quality of a run, or of the answers of a bundle, on the split that it was trained with."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgerec.data import (
    Interactions,
    Sample,
    Split,
    SplitSpec,
    StreamSpec,
    evaluate_vectors,
    metrics_of_rankings,
    metrics_of_users,
    popularity_of,
    split,
    stream,
    tested_rows,
)
from edgerec.data.stream import among
from edgerec.errors import BundleError, DataError, RequestError
from edgerec.files import storage_failure
from edgerec.models import Vectors
from edgerec.models.scorer import NeuMFScorer
from edgerec.models.sparse_items import evaluate_fit, is_item_item
from edgerec.runtime import Recommendation, Recommender
from edgerec.runtime.ids import RawId
from edgerec.runtime.ranking import padded
from edgerec.tables import CodedTable, SparseTable
from edgerec.tables.codes import in_int8
from edgerec.training import Run

Part = Literal["validation", "test"]
KS = (5, 10, 20)
BATCH_SCORES = 4_000_000
"""Maximum number of scores in a batch of users: 16 MB."""
BATCH_VALUES = 100_000_000
"""Maximum number of values of the rows of their histories: 400 MB."""


def measure_vectors(
    parts: Split,
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    threads: int | None = None,
    scorer: NeuMFScorer | None = None,
    sample: Sample | None = None,
) -> dict[str, float]:
    """Return the test metrics of vectors (n_users, d) and (n_items, d); the other parts are masked."""
    seen, scores = [parts.train, parts.validation], None if scorer is None else scorer.scores
    return evaluate_vectors(users, items, seen, parts.test, ks=KS, threads=threads, scores=scores, sample=sample)


def measure_fit(
    parts: Split, vectors: Vectors, history: Interactions, threads: int | None = None, sample: Sample | None = None
) -> dict[str, float]:
    """Return the test metrics of the vectors of a fit; users without a vector are computed from `history`."""
    seen = [parts.train, parts.validation]
    return evaluate_fit(vectors, history, seen, parts.test, ks=KS, threads=threads, sample=sample)


def evaluate(
    subject: Run | Recommender,
    interactions: Interactions,
    *,
    part: Part = "test",
    threads: int | None = None,
    id_map: str | Path | None = None,
    sample: Sample | None = None,
    rarity: float = 0,
) -> dict[str, float]:
    """Return recall, NDCG, coverage and mean popularity at 5, 10 and 20 on a part of the subject's split.

    A bundle is measured by its answers, with quantisation: its `recommend` graph is run for each test user.

    A run or a bundle of a stream's segment is measured as the segment is: users of the test part rank its items.

    Args:
        id_map: the file of raw ids that the export wrote for a bundle without ids.
        sample: a sample of the users with a test item; recall and NDCG get half the widths of their 95 % confidence
            intervals, such as ndcg@20_margin. Not for the segments of a stream.
        rarity: of a bundle's answers, as of `Recommender.recommend`.

    Raises:
        RequestError: the bundle has no ids, and `id_map` is missing or of another bundle; a rarity of a run, or one
            that the bundle refuses.
        DataError: `interactions` are not the training data, or `part` is 'validation' and the subject was trained on
            it, or belongs to a stream, whose segments have no validation part.
        BundleError: the bundle does not record how its data were split (a bundle of own tables).
    """
    about = subject.about() if isinstance(subject, Run) else subject.manifest.about
    if about.get("data_fingerprint") is None or "split" not in about:
        raise BundleError("the bundle does not record its training data, so there is no split to measure it on")
    check_data(about, interactions)
    if isinstance(subject, Run) and rarity:
        raise RequestError("a rarity is one of a bundle's answers; export the run, and measure the bundle")
    if is_segment(about):
        if sample is not None:
            raise RequestError("a segment of a stream is measured on all of its users; leave the sample out")
        return _evaluate_segment(subject, interactions, about["split"], part, threads, id_map, rarity)
    parts = split(interactions, SplitSpec.from_dict(about["split"]))
    if part == "test" and not len(parts.test):
        raise DataError(
            "it was trained on all interactions (--split all), so that none can test it; measure a run or a bundle of "
            "the same settings with --split random:80/20"
        )
    if part == "validation" and parts.fit_all:
        raise DataError(
            f"it was trained on the validation part of its split {parts.spec} too; measure the test part, or train "
            "with three shares, as --split random:50/25/25"
        )
    positives, seen = (
        (parts.validation, [parts.train]) if part == "validation" else (parts.test, [parts.train, parts.validation])
    )
    if isinstance(subject, Run):
        history = _history(parts)
        vectors = _vectors(subject, history)
        return evaluate_fit(vectors, history, seen, positives, ks=KS, threads=threads, sample=sample)
    rows = tested_rows(positives, sample)
    masked = parts.train if part == "validation" else parts.train_all

    def rank(some: slice) -> NDArray[np.int64]:
        return bundle_rankings(subject, _history(parts), masked, rows[some], max(KS), id_map=id_map, rarity=rarity)

    return metrics_of_users(rank, positives, rows, popularity=popularity_of(seen), ks=KS, margins=sample is not None)


def check_data(about: Mapping[str, Any], interactions: Interactions) -> None:
    """Check that interactions are those that `about`, of a run or a bundle, was trained on.

    Raises DataError.
    """
    if interactions.fingerprint() == about["data_fingerprint"]:
        return
    if interactions.name and interactions.name == about.get("data"):
        raise DataError(
            f"{interactions.name} differs from the training data of this name: the fingerprints differ; give the same "
            "columns and filters, such as --where and --min-user, or the unchanged data"
        )
    raise DataError(
        f"{interactions.name or 'these interactions'} are not the data it was trained on "
        f"({about.get('data') or 'unnamed'}): the fingerprints differ; give the same --data, columns "
        "and filters, such as --where and --min-user"
    )


def held_back(subject: Run | Recommender) -> Part:
    """Return the part to measure the loss of an export on: validation, unless the final model was trained on it."""
    about = subject.about() if isinstance(subject, Run) else subject.manifest.about
    return "test" if is_segment(about) or SplitSpec.from_dict(about["split"]).fit_all else "validation"


def is_segment(about: Mapping[str, Any]) -> bool:
    """Return True if `about` describes a segment of a stream."""
    return isinstance(about["split"], dict) and "segment" in about["split"]


def _evaluate_segment(
    subject: Run | Recommender,
    interactions: Interactions,
    spec: dict[str, Any],
    part: Part,
    threads: int | None,
    id_map: str | Path | None,
    rarity: float,
) -> dict[str, float]:
    if part == "validation":
        raise DataError("a segment of a stream has no validation part; measure its test part")
    segment = stream(interactions, StreamSpec.from_dict(spec)).segment(int(spec["segment"]))
    known = segment.known
    if isinstance(subject, Run):
        items = subject.items.dense()
        return segment.measure(_user_vectors(subject, known, items), items, threads=threads)
    user_rows, item_rows = segment.measured()
    seen, test = (among(which, user_rows, item_rows) for which in (known, segment.test))
    rankings = bundle_rankings(subject, known, known, user_rows, max(KS), only=item_rows, id_map=id_map, rarity=rarity)
    places = np.full(known.n_items + 1, -1, np.int64)
    places[item_rows] = np.arange(item_rows.size)
    return metrics_of_rankings(places[rankings], test, popularity=popularity_of([seen]), ks=KS)


def _history(parts: Split) -> Interactions:
    """Return the interactions of the final model, from which users without a table are computed."""
    return parts.train_all if parts.fit_all else parts.train


def _vectors(run: Run, history: Interactions) -> Vectors:
    if isinstance(run.items, SparseTable) and is_item_item(run.items, run.encoder):
        nothing = np.zeros((0, 0), np.float32)
        return Vectors(nothing, nothing, run.encoder, sparse_items=run.items)
    items = run.items.dense()
    return Vectors(_user_vectors(run, history, items), items, scorer=run.scorer)


def _user_vectors(run: Run, history: Interactions, items: NDArray[np.float32]) -> NDArray[np.float32]:
    if run.users is not None:
        return run.users.dense()
    if run.encoder is None:
        raise DataError("the run has neither users nor an encoder of users; train it again")
    users = run.encoder.users(history, items)
    return in_int8(users) if isinstance(run.items, CodedTable) else users


def recommend_to(model: Recommender, user: RawId, history: Sequence[RawId], k: int) -> list[Recommendation]:
    """Return what a bundle recommends to a user of the data: by its user table, or from the history."""
    if model.n_users:
        return model.recommend(user, k, exclude=history)
    return model.recommend(history=history, k=k)


def bundle_rankings(
    model: Recommender,
    history: Interactions,
    seen: Interactions,
    rows: NDArray[Any],
    k: int,
    *,
    only: NDArray[np.int64] | None = None,
    id_map: str | Path | None = None,
    rarity: float = 0,
) -> NDArray[np.int64]:
    """Return the recommendations of a bundle: (len(rows), k) item rows of `seen`, padded with -1.

    Args:
        history: interactions from which a bundle without users computes them.
        seen: interactions to exclude, over the same users and items.
        rows: user rows of `seen`.
        only: item rows of `seen` that are ranked, ascending; None for all.
        id_map: file of the raw ids of a bundle without ids.
        rarity: as of `Recommender.recommend`.

    Raises RequestError if the bundle does not know a user or an item, or has no ids and there is no `id_map`.
    """
    item_ids, user_ids = seen.item_ids.tolist(), seen.user_ids.tolist()
    if model.manifest.items.ids == "none":
        if id_map is None:
            raise RequestError(
                "this bundle has no ids, so its items cannot be found in data; give the --id-map that its export wrote"
            )
        known = _read_id_map(Path(id_map), {"item": model.n_items, "user": model.n_users})
        if unknown := [one for one in item_ids if str(one) not in known["item"]]:
            raise RequestError(f"{id_map} names no item {unknown[0]!r}; give the data that the bundle was trained on")
        item_ids = [known["item"][str(one)] for one in item_ids]
        user_ids = [known["user"].get(str(one), -1) for one in user_ids]
    to_bundle = model.item_rows(item_ids)
    from_bundle = np.full(model.n_items + 1, -1, np.int64)
    from_bundle[to_bundle] = np.arange(seen.n_items)
    batch = int(np.clip(BATCH_SCORES // model.n_items, 1, 256))
    shown = min(k, model.n_items)
    answers = np.full((len(rows), k), -1, np.int64)
    others = np.zeros(0, np.int64) if only is None else np.setdiff1d(np.arange(seen.n_items), only)
    lengths, start = history.user_counts()[rows], 0
    while start < len(rows):
        users = rows[start : start + batch]
        if not model.n_users:
            longest = max(int(lengths[start : start + batch].max()), 1)
            users = users[: max(BATCH_VALUES // (longest * model.manifest.d), 1)]
        exclude = padded([to_bundle[np.union1d(seen.items_of(user), others)] for user in users])
        if model.n_users:
            inputs = {"user": model.user_rows([user_ids[user] for user in users])}
        else:
            inputs = {"history": padded([to_bundle[history.items_of(user)] for user in users])}
        items, _ = model.recommend_rows(inputs, exclude, shown, rarity=rarity)
        answers[start : start + len(users), :shown] = from_bundle[items]
        start += len(users)
    return answers


def _read_id_map(path: Path, rows: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return the row of each raw id, by side. Raises RequestError unless the file has as many rows as the bundle."""
    found: dict[str, dict[str, int]] = {"item": {}, "user": {}}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for line in csv.DictReader(stream):
                found[line["side"]][line["id"]] = int(line["row"])
    except OSError as error:
        storage_failure(path, error, "read")
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise RequestError(f"{path} is no id map, with columns side, row and id; give that of the export") from error
    for side, count in rows.items():
        if sorted(found[side].values()) != list(range(count)):
            raise RequestError(f"{path} does not name the {count} {side} rows of the bundle; give that of its export")
    return found


def load_subject(path: Path) -> Run | Recommender:
    """Load the run or the bundle in a folder, or a bundle in one file. Raises RequestError if there is neither."""
    if path.is_file() or (path / "manifest.json").exists():
        return Recommender.load(path)
    if (path / "run.json").exists():
        return Run.load(path)
    raise RequestError(f"{path} holds neither a run (run.json) nor a bundle (manifest.json)")

"""Verification of a new bundle against numpy, in a fresh process that opens it as an app does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import VerificationError
from edgerec.runtime.manifest import read_manifest
from edgerec.tables.codes import TINY
from edgerec_export.onnx import TOLERANCE
from edgerec_export.reference import Reference
from edgerec_export.values import spread

Feed = dict[str, NDArray[Any]]
"""Inputs of one call of a graph, by name."""
OUTPUTS = ("items", "scores", "vector")
USERS = 32
CANDIDATES = 50
BYTES_AN_ITEM = 16
NORM_BYTES_AN_ITEM = 6
BYTES_A_CANDIDATE_VALUE = 64
ALL_CHECKED = 500_000
"""Largest catalogue in which the scores of all items are compared."""
SAMPLE = 200_000
"""Number of items whose scores are compared in a catalogue of more than `ALL_CHECKED`."""
MARGIN = 32 << 20
"""Memory of onnxruntime in bytes. Peak memory may exceed the bundle by this, by scores (16 bytes for each item and user
of a batch), by items decoded at a time, by copies of inverse norms in `similar`, and by decoded candidates."""


@dataclass(frozen=True)
class Verification:
    """The measurements of a verified bundle.

    Attributes:
        max_error: largest absolute error of a score against numpy.
        peak_bytes: peak memory above a bare session, with all graphs open and a batch of users; None without /proc.
    """

    max_error: float
    peak_bytes: int | None


def verify(folder: Path, reference: Reference, n_users: int) -> Verification:
    """Send ordinary and adversarial requests to the bundle in `folder`, and compare every answer.

    Args:
        n_users: number of users of the bundle; 0 for a bundle that takes histories.

    Raises:
        VerificationError: an answer or the memory differs from its expected value by more than the tolerance.
    """
    requests = dict(_requests(reference, n_users))
    answers = _answers_of(folder, requests)
    error = 0.0
    for call, feed in requests.items():
        graph = call.partition(".")[0]
        outputs = {name: answers[f"{call}.{name}"] for name in OUTPUTS if f"{call}.{name}" in answers}
        found = CHECKS[graph](call, feed, outputs, reference)
        # The error of a vector is relative, so it is not part of the largest error of scores.
        error = error if graph == "encode" else max(error, found)
    peak = int(answers["peak_bytes"]) if "peak_bytes" in answers else None
    allowed = sum(entry.bytes for entry in read_manifest(folder).files) + MARGIN
    batch = max(len(_subject(feed)) for feed in requests.values())
    allowed += batch * (BYTES_AN_ITEM * reference.n_items + BYTES_A_CANDIDATE_VALUE * CANDIDATES * reference.d)
    allowed += reference.decoded_bytes(batch)
    allowed += NORM_BYTES_AN_ITEM * reference.n_items if reference.has_similar else 0
    if peak is not None and peak > allowed:
        raise VerificationError(f"opening {folder} took {peak} bytes of memory, expected at most {allowed}")
    return Verification(error, peak)


def peak_of_one(folder: Path, n_items: int, subject: Feed) -> int | None:
    """Return the peak memory of one `recommend` in a fresh process, above a bare session; None without /proc."""
    feed = {**subject, "exclude": np.arange(min(20, n_items))[None], "k": np.array(min(20, n_items))}
    answers = _answers_of(folder, {"recommend.one": feed})
    return int(answers["peak_bytes"]) if "peak_bytes" in answers else None


def one_subject(reference: Reference, n_users: int) -> Feed:
    """Return the graph inputs of one user."""
    return _random_subject(np.random.default_rng(0), reference, n_users, 1)


def _requests(reference: Reference, n_users: int) -> Iterator[tuple[str, Feed]]:
    rng, n_items = np.random.default_rng(0), reference.n_items
    batch = USERS if n_items <= 100_000 else 2
    subject = _random_subject(rng, reference, n_users, batch)
    one = {name: value[:1] for name, value in subject.items()}
    k = np.array(min(20, n_items))
    nothing = np.full((batch, 1), -1)
    twice = rng.integers(0, n_items, (batch, 8))
    yield "recommend.plain", {**subject, "exclude": nothing, "k": k}
    yield "recommend.repeats", {**subject, "exclude": np.hstack([twice, nothing, twice]), "k": k}
    yield "recommend.empty", {**one, "exclude": np.empty((1, 0), np.int64), "k": np.array(1)}
    if n_items <= 100_000:
        left = rng.permutation(n_items)[: n_items - min(3, n_items - 1)]
        yield "recommend.few_left", {**one, "exclude": left[None], "k": k}
        yield "recommend.none_left", {**one, "exclude": np.arange(n_items)[None], "k": np.array(n_items)}
    if reference.has_similar:
        yield "similar.some", {"item": rng.integers(0, n_items, min(batch, 8)), "k": k}
    if reference.takes_vectors:
        yield "encode.some", {"history": _random_histories(rng, n_items, batch)}
        yield "encode.empty", {"history": np.full((1, 3), -1)}
    yield "score.some", {**subject, "candidates": rng.integers(0, n_items, (batch, CANDIDATES))}


def _random_subject(rng: np.random.Generator, reference: Reference, n_users: int, batch: int) -> Feed:
    if n_users:
        return {"user": rng.integers(0, n_users, batch)}
    history = _random_histories(rng, reference.n_items, batch)
    if reference.takes_vectors:
        return {"vector": reference.encoded(history).astype(np.float32)}
    return {"history": history}


def _random_histories(rng: np.random.Generator, n_items: int, batch: int) -> NDArray[np.int64]:
    """Return (batch, 12) item rows, with about half of the last four padded with -1."""
    history = rng.integers(0, n_items, (batch, 12))
    history[:, 8:][rng.random((batch, 4)) < 0.5] = -1
    return history


def _answers_of(folder: Path, requests: dict[str, Feed]) -> dict[str, NDArray[Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        requests_file, answers_file = Path(scratch, "requests.npz"), Path(scratch, "answers.npz")
        flat = {f"{call}.{name}": value for call, feed in requests.items() for name, value in feed.items()}
        np.savez(requests_file, **flat)  # type: ignore[arg-type]  # numpy's stubs take a keyword for allow_pickle
        command = [
            sys.executable,
            "-P",
            "-m",
            "edgerec.runtime.memory",
            str(folder),
            str(requests_file),
            str(answers_file),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise VerificationError(f"the exported bundle cannot be opened: {reason}")
        with np.load(answers_file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _subject(feed: Feed) -> NDArray[np.int64]:
    return next(feed[name] for name in ("user", "history", "vector", "item") if name in feed)


def _check_scores(call: str, feed: Feed, got: dict[str, NDArray[Any]], reference: Reference) -> float:
    subject = _subject(feed)
    places, candidates = np.unique(feed["candidates"], return_inverse=True)
    candidates = candidates.reshape(feed["candidates"].shape)
    expected, slack = (
        np.take_along_axis(of(subject, places), candidates, 1) for of in (reference.scores, reference.slack)
    )
    return _compare(call, got["scores"], expected, slack)


def _check_ranking(call: str, feed: Feed, got: dict[str, NDArray[Any]], reference: Reference) -> float:
    subject = _subject(feed)
    places = _places(reference.n_items, got["items"])
    excluded = np.hstack([feed["exclude"], feed["history"]]) if "history" in feed else feed["exclude"]
    scores, slack = reference.scores(subject, places), reference.slack(subject, places)
    return _check_best(call, got, places, scores, excluded, int(feed["k"]), slack)


def _check_similar(call: str, feed: Feed, got: dict[str, NDArray[Any]], reference: Reference) -> float:
    item, places = feed["item"], _places(reference.n_items, got["items"])
    cosines = reference.cosines(item, places)
    return _check_best(call, got, places, cosines, item[:, None], int(feed["k"]), np.full(cosines.shape, 1e-4))


def _check_vectors(call: str, feed: Feed, got: dict[str, NDArray[Any]], reference: Reference) -> float:
    expected = reference.encoded(feed["history"])
    length = np.maximum(np.linalg.norm(expected, axis=1), TINY)
    relative = np.linalg.norm(got["vector"] - expected, axis=1) / length
    allowed = np.full(len(relative), TOLERANCE)
    if (relative > allowed).any():
        allowed += reference.rounding(feed["history"], got["vector"]) / length
    return _compare(call, relative, np.zeros(len(relative)), allowed)


def _places(n_items: int, returned: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the items whose scores are checked: all, or the returned ones and a sample of a large catalogue."""
    if n_items <= ALL_CHECKED:
        return np.arange(n_items)
    return np.unique(np.concatenate([spread(n_items, SAMPLE), returned[returned >= 0]]))


def _check_best(
    call: str,
    got: dict[str, NDArray[Any]],
    places: NDArray[np.int64],
    scores: NDArray[np.float64],
    excluded: NDArray[np.int64],
    k: int,
    slack: NDArray[np.float64],
) -> float:
    """Check that scores are right, no item is excluded or repeated, and no better item is missing."""
    for row, gone in zip(scores, excluded, strict=True):
        row[np.isin(places, gone)] = -np.inf
    order = np.argsort(-scores, 1)[:, :k]
    items, best = got["items"], np.take_along_axis(scores, order, 1)
    if items.shape != best.shape:
        raise VerificationError(f"{call}: got items of shape {items.shape}, expected {best.shape}")
    left = np.isfinite(best)
    if (left != (items >= 0)).any() or not np.isneginf(got["scores"][~left]).all():
        raise VerificationError(f"{call}: item -1 and score -inf are expected exactly where no item is left")
    for row in items:
        if np.unique(row[row >= 0]).size != (row >= 0).sum():
            raise VerificationError(f"{call}: an item is returned twice: {row.tolist()}")
    at = np.searchsorted(places, np.maximum(items, places[0]))
    own = np.where(left, np.take_along_axis(scores, at, 1), 0)
    reported = np.where(left, got["scores"], 0)
    of_found, of_best = (np.take_along_axis(slack, where, 1) for where in (at, order))
    # Items with equal scores up to rounding may swap, so each place has the largest tolerance of both lists.
    widest = np.where(left, np.maximum(of_found, of_best), 0).max(1, keepdims=True, initial=0)
    return max(_compare(call, reported, own, of_found), _compare(call, reported, np.where(left, best, 0), widest))


CHECKS: dict[str, Callable[[str, Feed, dict[str, NDArray[Any]], Reference], float]] = {
    "score": _check_scores,
    "recommend": _check_ranking,
    "similar": _check_similar,
    "encode": _check_vectors,
}


def _compare(call: str, got: NDArray[Any], expected: NDArray[Any], tolerance: NDArray[np.float64]) -> float:
    error = np.abs(got - expected)
    if not (error <= tolerance).all():
        at = np.unravel_index(int(np.nanargmax(np.where(np.isnan(error), np.inf, error - tolerance))), error.shape)
        allowed = np.broadcast_to(tolerance, error.shape)[at]
        raise VerificationError(
            f"{call}: the score at {tuple(map(int, at))} is {got[at]}, expected {expected[at]} within {allowed:.2g}"
        )
    return float(error.max(initial=0))

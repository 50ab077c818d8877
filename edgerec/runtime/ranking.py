"""Questions in bundle rows, answered by one version of a bundle: inputs checked, graphs asked, answers checked.

What no graph does is done here: allow-lists, which graphs know nothing of, and the answer to an empty history.

**Allow-lists.** A short list is scored by the `score` graph and its best are kept; of a long one, everything else is
excluded from the `recommend` graph. Where one becomes cheaper than the other follows from both costs, at a million
items: a candidate is looked up and multiplied for 5 to 13 ns a dimension, the rest of the catalogue is excluded for
8 ns an item, so that they meet about where the list has as many values as the catalogue has items
(bench/results/allow-1m.json).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.inputs import once, rows_of, scaled, shown, unscaled, vectors_of, whole

Feed = dict[str, NDArray[Any]]
"""Inputs of a graph, by name."""
VALUES_AT_ONCE = 1 << 17
"""Of candidates that are looked up in one call: 6 MB at work, and quicker than all at once."""
Score = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""(B, C) candidates to their scores."""


class Subject(NamedTuple):
    """The users of a batch.

    Attributes:
        feed: what the graphs take for them.
        exponents: (B, 1) their scores are to be multiplied by 2 to this power; None for 0.
        given: they are vectors of the caller's.
    """

    feed: Feed
    exponents: NDArray[np.int32] | None
    given: bool


class Ranker:
    """Ranks and scores the rows of one version of a bundle, and keeps answering while another takes its place.

    `Recommender`, which asks it, says what its questions are and what they raise.

    Attributes:
        items, users: from raw ids to rows and back; no users where their vectors are computed from histories.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        users = self.manifest.users
        self.n_items, self.n_users = self.manifest.items.rows, 0 if users is None else users.rows
        self.items = bundle.ids("item", self.manifest.items)
        self.users = None if users is None else bundle.ids("user", users)
        bundle.session("recommend")

    def recommend(
        self, inputs: dict[str, NDArray[Any]], exclude: ArrayLike, k: int, *, allow: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        number, asked = self._number(k), self._asked(inputs)
        batch = _batch(asked)
        excluded = self._items_of(exclude, "exclude", (batch, "E"))
        allowed = None if allow is None else self._items_of(allow, "allow", (batch, "A"))
        if not batch:
            return np.empty((0, int(number)), np.int64), np.empty((0, int(number)), np.float32)
        history = asked.get("history")
        if history is not None:
            excluded = np.hstack([excluded, history])  # a `recommend` that sees the history does it itself, too
        items, scores = self._best(self._subjects(asked), excluded, allowed, number)
        if history is not None:
            for one in np.flatnonzero((history < 0).all(1)):
                gone = excluded[[one]]
                gone = gone if allowed is None else the_rest(allowed[[one]], gone, self.n_items)
                items[one], scores[one] = self._popular(gone[0], int(number))
        return items, scores

    def _best(
        self, subject: Subject, excluded: NDArray[np.int64], allowed: NDArray[np.int64] | None, k: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        d, n = self.manifest.d, self.n_items
        if allowed is not None and allowed.shape[1] * d <= n:
            looked_up = self.manifest.layout != "csc" or "l" in self.manifest.sections  # or all are scored at each call
            at_once = max(1, VALUES_AT_ONCE // d) if looked_up else n
            items, scores = best_of(partial(self._scores, subject), allowed, excluded, int(k), at_once)
        else:
            excluded = excluded if allowed is None else the_rest(allowed, excluded, n)
            items, scores = self._ranked("recommend", {**subject.feed, "exclude": excluded, "k": k}, excluded)
        return items, self._unscaled("recommend", scores, items >= 0, subject)

    def _ranked(
        self, graph: str, feed: Feed, excluded: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What a graph ranks: (batch, k) rows of the bundle, -1 where fewer than k are left, and their scores."""
        items, scores = self.bundle.run(graph, ["items", "scores"], feed)
        k = int(feed["k"])
        wanted = (len(excluded), k)
        # Without a sign, -1 is the largest number, and 0 with one more.
        if items.shape != wanted or scores.shape != wanted or (items.view(np.uint64) + 1).max(initial=0) > self.n_items:
            raise self._unsound(graph)
        found = (items >= 0).sum(1)
        for one in np.flatnonzero(found < k):
            left = self.n_items - np.setdiff1d(excluded[one], -1).size
            if found[one] != min(k, left):  # a score of -inf would pass for an item that is excluded
                raise self._unsound(graph)
        return items, scores

    def _unsound(self, graph: str) -> BundleError:
        return BundleError(
            f"the '{graph}' graph of {self.bundle.folder} answers what is not in the bundle; get the bundle again"
        )

    def _finite(
        self,
        graph: str,
        numbers: NDArray[np.float32],
        meant: NDArray[np.bool_] | np.bool_ = np.True_,
        *,
        given: bool = False,
    ) -> NDArray[np.float32]:
        """The numbers (B, n) that a graph answers, of which those that are `meant` are finite.

        Raises RequestError if they are of a given vector, BundleError if everything is the bundle's own.
        """
        finite = np.isfinite(numbers)
        if finite.all() or (finite | ~meant).all():
            return numbers
        wrong = np.argwhere(~finite & meant)
        if given:
            raise RequestError(f"vector[{wrong[0][0]}] has scores beyond float32 (3.4e38): give a smaller vector")
        raise BundleError(
            f"the '{graph}' graph of {self.bundle.folder} answers with numbers that are not finite; "
            "get the bundle again"
        )

    def _unscaled(
        self, graph: str, scores: NDArray[np.float32], meant: NDArray[np.bool_] | np.bool_, subject: Subject
    ) -> NDArray[np.float32]:
        """The scores (B, n) that a graph answers, as they are for vectors that were not scaled."""
        if subject.exponents is not None:
            scores = unscaled(scores, subject.exponents)
        return self._finite(graph, scores, meant, given=subject.given)

    def score(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
        asked = self._asked(inputs)
        rows = rows_of(candidates, "candidates", "item", self.n_items, (_batch(asked), "C"), padded=False)
        if not rows.size:
            return np.empty(rows.shape, np.float32)
        subject = self._subjects(asked)
        return self._unscaled("score", self._scores(subject, rows), np.True_, subject)

    def _scores(self, subject: Subject, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, C) scores of rows (B, C) of items, for vectors as the graph takes them."""
        (scores,) = self.bundle.run("score", ["scores"], {**subject.feed, "candidates": rows})
        if scores.shape != rows.shape:
            raise self._unsound("score")
        return self._finite("score", scores, given=subject.given)

    def similar(self, items: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self.bundle.has_graph("similar"):
            raise RequestError("this bundle has no 'similar' graph: it was exported without, or had no room for it")
        number, rows = self._number(k), rows_of(items, "items", "item", self.n_items, ("B",), padded=False)
        if not rows.size:
            return np.empty((0, int(number)), np.int64), np.empty((0, int(number)), np.float32)
        found, scores = self._ranked("similar", {"item": rows, "k": number}, rows[:, None])
        return found, self._finite("similar", scores, found >= 0)

    def encode(self, inputs: Feed) -> NDArray[np.float32]:
        """(B, d) vectors of histories."""
        asked = self._asked(inputs)
        if not self.bundle.has_graph("encode"):
            raise RequestError("this bundle has no 'encode' graph: its graphs take the history themselves")
        return self._encoded(asked["history"])

    def _number(self, k: int) -> NDArray[np.int64]:
        if not whole(k, 1, self.n_items):
            raise RequestError(
                f"k must be a whole number in 1..{self.n_items}, the size of the catalogue, got {shown(k)}"
            )
        return np.array(k, np.int64)

    def _items_of(self, values: ArrayLike, name: str, shape: tuple[int | str, ...]) -> NDArray[np.int64]:
        return rows_of(values, name, "item", self.n_items, shape, padded=True)

    def _asked(self, inputs: dict[str, NDArray[Any]]) -> Feed:
        """Who asks: the one input, checked. A history has at least one place, and each item once."""
        encodes = self.bundle.has_graph("encode")
        taken = ["user"] if self.users is not None else ["history", "vector"] if encodes else ["history"]
        given = list(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        if given not in [[name] for name in taken]:
            raise RequestError(f"this bundle takes {' or '.join(map(repr, taken))}, got {given}")
        if "vector" in inputs:
            return {"vector": vectors_of(inputs["vector"], self.manifest.d)}
        if "user" in inputs:
            return {"user": rows_of(inputs["user"], "user", "user", self.n_users, ("B",), padded=False)}
        history = once(self._items_of(inputs["history"], "history", ("B", "H")))
        if history.shape[1] == 0:  # onnxruntime's products over nothing differ by version
            history = np.full((len(history), 1), -1)
        return {"history": history}

    def _subjects(self, asked: Feed) -> Subject:
        """Who asks, as the graphs take it: with an 'encode' graph vectors instead of histories."""
        given = "vector" in asked
        if "history" in asked and self.bundle.has_graph("encode"):
            asked = {"vector": self._encoded(asked["history"])}
        if "vector" not in asked:
            return Subject(asked, None, given)
        vectors, exponents = scaled(asked["vector"])
        return Subject({"vector": vectors}, exponents, given)

    def _encoded(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, d) users' vectors of histories (B, H)."""
        (vectors,) = self.bundle.run("encode", ["vector"], {"history": history})
        if vectors.shape != (len(history), self.manifest.d):
            raise self._unsound("encode")
        return self._finite("encode", vectors)

    def _popular(self, excluded: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k most popular items, then any others by row, all with score 0, as their scores are without a history."""
        section = self.manifest.empty_history
        if section is None:
            raise RequestError(
                "the history is empty, and the bundle does not say which items are popular: give an item"
            )
        popular = self.bundle.section(section).astype(np.int64)
        if popular.size and not 0 <= popular.min() <= popular.max() < self.n_items:
            raise BundleError(
                f"section {section!r} of {self.bundle.folder} names items that are not there: copy it again"
            )
        left = popular[~np.isin(popular, excluded)][:k]
        if len(left) < k:
            others = np.setdiff1d(np.arange(self.n_items), np.concatenate([popular, excluded]))
            left = np.concatenate([left, others[: k - len(left)]])
        padding = (0, k - len(left))
        scores = np.zeros(len(left), np.float32)
        return np.pad(left, padding, constant_values=-1), np.pad(scores, padding, constant_values=-np.inf)


def _batch(asked: Feed) -> int:
    (given,) = asked.values()
    return len(given)


def best_of(
    score: Score, allowed: NDArray[np.int64], excluded: NDArray[np.int64], k: int, at_once: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k best of those allowed that are not excluded, best first, of equal scores the lower row.

    Args:
        allowed: (B, A) item rows padded with -1; repetitions count once.
        excluded: (B, E) item rows padded with -1.
        at_once: candidates of one call.

    Returns:
        items (B, k) int64, scores (B, k) float32; item -1 and score -inf where fewer are left.
    """
    left = [np.setdiff1d(rows, [*gone, -1]) for rows, gone in zip(allowed, excluded, strict=True)]
    candidates = padded(left)
    best, best_scores = np.empty((len(left), 0), np.int64), np.empty((len(left), 0), np.float32)
    for start in range(0, candidates.shape[1], at_once):
        part = candidates[:, start : start + at_once]
        scores = np.where(part < 0, np.float32(-np.inf), score(np.maximum(part, 0)))
        part, scores = np.hstack([best, part]), np.hstack([best_scores, scores])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, best_scores = np.take_along_axis(part, order, 1), np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, k - best.shape[1]))
    return np.pad(best, missing, constant_values=-1), np.pad(best_scores, missing, constant_values=-np.inf)


def the_rest(allowed: NDArray[np.int64], excluded: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """(B, E') what to exclude where these are allowed (B, A) and those are excluded (B, E); padded with -1."""
    out = np.ones((len(allowed), n_items + 1), bool)  # the last one stands for padding
    np.put_along_axis(out, allowed, False, 1)
    np.put_along_axis(out, excluded, True, 1)
    return padded([np.flatnonzero(row[:-1]) for row in out])


def padded(lists: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(n, longest) with -1 behind the shorter ones."""
    full = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int64)
    for row, values in zip(full, lists, strict=True):
        row[: len(values)] = values
    return full

"""Ranking and scoring by bundle row: checked requests, graph calls, and checked answers of one version of a bundle.

It also implements what graphs cannot: allow-lists, lists for similar items, popular items, answers to an empty
history, and a rarity.

**Allow-lists.** The items of a short list are scored by the `score` graph and sorted; for a long list, all other items
are excluded from the `recommend` graph. The limit follows from the costs at a million items: looking up and
multiplying a candidate takes 5 to 13 ns a dimension, and excluding an item 8 ns. They are equal if the list has about
as many values as the catalogue has items (bench/results/allow-1m.json).
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
"""Values of candidates that are looked up in one call, which needs 6 MB and is faster than one large call."""
MOST_RARITY = 2
"""Largest rarity of a request, and the largest below 0."""
Score = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""A function from (B, C) candidates to their scores."""


class Subject(NamedTuple):
    """The users of a batch.

    Attributes:
        feed: graph inputs of the users.
        exponents: (B, 1) powers of two by which scores are multiplied; None without scaling.
        given: True if the caller passed vectors.
    """

    feed: Feed
    exponents: NDArray[np.int32] | None
    given: bool


class Ranker:
    """The ranking and scoring of one version of a bundle, which continues to answer while another version is installed.

    `Recommender` documents the requests and their errors.

    Attributes:
        items, users: indexes of raw ids; users is None if vectors are computed from histories.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        users = self.manifest.users
        self.n_items, self.n_users = self.manifest.items.rows, 0 if users is None else users.rows
        self.items = bundle.ids("item", self.manifest.items)
        self.users = None if users is None else bundle.ids("user", users)
        self._open()

    def _open(self) -> None:
        self.bundle.session("recommend")

    def check_answers(self) -> None:
        """Answer a request of one item. Raises BundleError if a graph does not open, or fails."""
        person = {"user": np.zeros(1, np.int64)} if self.n_users else {"history": np.zeros((1, 1), np.int64)}
        self.recommend(person, np.empty((1, 0), np.int64), 1)

    def recommend(
        self,
        inputs: dict[str, NDArray[Any]],
        exclude: ArrayLike,
        k: int,
        *,
        allow: ArrayLike | None = None,
        rarity: float = 0,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        number, request = self._number(k), self._checked_input(inputs)
        factors = self._factors(rarity)
        batch = _batch(request)
        excluded = self._items_of(exclude, "exclude", (batch, "E"))
        allowed = None if allow is None else self._items_of(allow, "allow", (batch, "A"))
        if not batch:
            return np.empty((0, int(number)), np.int64), np.empty((0, int(number)), np.float32)
        history = request.get("history")
        if history is not None:
            excluded = np.hstack([excluded, history])  # graphs that take histories exclude them too
        if factors is None:
            items, scores = self._best(self._subjects(request), excluded, allowed, number)
        else:  # the graphs know no factors: all items are ranked, and then again
            ranked = self._best(self._subjects(request), excluded, allowed, np.array(self.n_items))
            items, scores = ranked_by(*ranked, factors, int(number))
            self._finite("recommend", scores, items >= 0, given="vector" in request)
        if history is not None:
            for one in np.flatnonzero((history < 0).all(1)):
                if self.manifest.empty_history is None:
                    raise RequestError(
                        "the history is empty, and the bundle does not say which items are popular: give an item"
                    )
                gone = excluded[[one]]
                gone = gone if allowed is None else complement(allowed[[one]], gone, self.n_items)
                items[one], scores[one] = self._popular(self.manifest.empty_history, gone[0], int(number))
        return items, scores

    def _factors(self, rarity: float) -> NDArray[np.float64] | None:
        """Return (n_items,) numbers above 0 and up to 1 by which scores are multiplied; None for a rarity of 0."""
        numbers = (int, float, np.integer, np.floating)
        if isinstance(rarity, bool) or not isinstance(rarity, numbers) or not abs(rarity) <= MOST_RARITY:
            raise RequestError(f"rarity must be a number in -{MOST_RARITY}..{MOST_RARITY}, got {shown(rarity)}")
        if not rarity:
            return None
        weights = self.weights()
        if weights is None:
            raise RequestError(
                "this bundle does not say which items are rare: rarity needs one without users of svd, lae with the "
                "encoder 'sum', or a fitted linear encoder"
            )
        return np.asarray((weights / (weights.max() if rarity > 0 else weights.min())) ** float(rarity))

    def weights(self) -> NDArray[np.float64] | None:
        """Return (n_items,) weights of items in a history, up to a factor; None if they do not say which are rare."""
        if "w" not in self.manifest.sections:
            return None
        stored = self.bundle.section("w")
        weights: NDArray[np.float64] = stored.astype(np.float64) ** (4 if stored.dtype == np.uint8 else 1)
        return weights if weights.shape == (self.n_items,) and 0 < weights.min() < weights.max() < np.inf else None

    def _best(
        self, subject: Subject, excluded: NDArray[np.int64], allowed: NDArray[np.int64] | None, k: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        d, n = self.manifest.d, self.n_items
        if allowed is not None and allowed.shape[1] * d <= n:
            looked_up = (
                self.manifest.layout != "csc" or "l" in self.manifest.sections
            )  # otherwise each call scores all items
            at_once = max(1, VALUES_AT_ONCE // d) if looked_up else n
            items, scores = best_of(partial(self._scores, subject), allowed, excluded, int(k), at_once)
        else:
            excluded = excluded if allowed is None else complement(allowed, excluded, n)
            items, scores = self._ranked("recommend", {**subject.feed, "exclude": excluded, "k": k}, excluded)
        return items, self._unscaled("recommend", scores, items >= 0, subject)

    def _ranked(
        self, graph: str, feed: Feed, excluded: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Run a ranking graph, and return (batch, k) bundle rows, -1 if fewer are left, and their scores."""
        items, scores = self.bundle.run(graph, ["items", "scores"], feed)
        k = int(feed["k"])
        wanted = (len(excluded), k)
        # As unsigned numbers, -1 becomes the largest, and 0 after adding 1.
        if items.shape != wanted or scores.shape != wanted or (items.view(np.uint64) + 1).max(initial=0) > self.n_items:
            raise self._unsound(graph)
        found = (items >= 0).sum(1)
        for one in np.flatnonzero(found < k):
            left = self.n_items - np.setdiff1d(excluded[one], -1).size
            if found[one] != min(k, left):  # the -inf of an invalid score looks like an excluded item
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
        """Return the (B, n) output of a graph, if all numbers in the mask `meant` are finite.

        Raises RequestError if the caller passed vectors, BundleError otherwise.
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
        """Return the (B, n) finite scores of a graph's output, for the unscaled vectors."""
        if subject.exponents is not None:
            scores = unscaled(scores, subject.exponents)
        return self._finite(graph, scores, meant, given=subject.given)

    def score(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
        request = self._checked_input(inputs)
        rows = rows_of(candidates, "candidates", "item", self.n_items, (_batch(request), "C"), padded=False)
        if not rows.size:
            return np.empty(rows.shape, np.float32)
        subject = self._subjects(request)
        return self._unscaled("score", self._scores(subject, rows), np.True_, subject)

    def _scores(self, subject: Subject, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (B, C) scores of item rows (B, C), for vectors as the graph takes them."""
        (scores,) = self.bundle.run("score", ["scores"], {**subject.feed, "candidates": rows})
        if scores.shape != rows.shape:
            raise self._unsound("score")
        return self._finite("score", scores, given=subject.given)

    def similar(
        self, items: ArrayLike, k: int, *, exclude: ArrayLike | None = None, allow: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self.bundle.has_graph("similar"):
            raise RequestError(
                "this bundle has no 'similar' graph: it was exported without, or had no room for it; "
                "export it with --similar"
            )
        number, rows = self._number(k), rows_of(items, "items", "item", self.n_items, ("B",), padded=False)
        gone = rows[:, None]
        if exclude is not None:
            gone = np.hstack([gone, self._items_of(exclude, "exclude", (len(rows), "E"))])
        if allow is not None:
            gone = complement(self._items_of(allow, "allow", (len(rows), "A")), gone, self.n_items)
        if not rows.size:
            return np.empty((0, int(number)), np.int64), np.empty((0, int(number)), np.float32)
        # The graph takes no lists: it ranks as many more items as lists leave out.
        with_more = np.array(min(int(number) + gone.shape[1] - 1, self.n_items))
        found, scores = self._ranked("similar", {"item": rows, "k": with_more}, rows[:, None])
        scores = self._finite("similar", scores, found >= 0)
        if gone.shape[1] == 1:
            return found, scores
        left = np.stack([(own >= 0) & ~np.isin(own, out) for own, out in zip(found, gone, strict=True)])
        best = np.argsort(~left, axis=1, kind="stable")[:, : int(number)]
        left, found, scores = (np.take_along_axis(one, best, 1) for one in (left, found, scores))
        return np.where(left, found, -1), np.where(left, scores, np.float32(-np.inf))

    def popular(
        self, k: int, exclude: NDArray[np.int64], allow: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the (k,) most popular of the allowed rows (1, A) without the excluded ones (1, E)."""
        number = self._number(k)
        if self.manifest.popular is None:
            raise RequestError(
                "this bundle does not say which items are popular: export it again, your own tables with the "
                "interactions of each item (--item-counts)"
            )
        gone = exclude if allow is None else complement(allow, exclude, self.n_items)
        return self._popular(self.manifest.popular, gone[0], int(number))

    def encode(self, inputs: Feed) -> NDArray[np.float32]:
        """Return the (B, d) vectors of histories."""
        request = self._checked_input(inputs)
        if not self.bundle.has_graph("encode"):
            raise RequestError("this bundle has no 'encode' graph: its graphs take the history themselves")
        return self._encoded(request["history"])

    def _number(self, k: int) -> NDArray[np.int64]:
        if not whole(k, 1, self.n_items):
            raise RequestError(
                f"k must be a whole number in 1..{self.n_items}, the size of the catalogue, got {shown(k)}"
            )
        return np.array(k, np.int64)

    def _items_of(self, values: ArrayLike, name: str, shape: tuple[int | str, ...]) -> NDArray[np.int64]:
        return rows_of(values, name, "item", self.n_items, shape, padded=True)

    def _checked_input(self, inputs: dict[str, NDArray[Any]]) -> Feed:
        """Return the one checked input of the users. A history has at least one place, and each item once."""
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
        if history.shape[1] == 0:  # empty products differ between versions of onnxruntime
            history = np.full((len(history), 1), -1)
        return {"history": history}

    def _subjects(self, request: Feed) -> Subject:
        """Return the users as graphs take them: vectors instead of histories if there is an 'encode' graph."""
        given = "vector" in request
        if "history" in request and self.bundle.has_graph("encode"):
            request = {"vector": self._encoded(request["history"])}
        if "vector" not in request:
            return Subject(request, None, given)
        vectors, exponents = scaled(request["vector"])
        return Subject({"vector": vectors}, exponents, given)

    def _encoded(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (B, d) user vectors of histories (B, H)."""
        (vectors,) = self.bundle.run("encode", ["vector"], {"history": history})
        if vectors.shape != (len(history), self.manifest.d):
            raise self._unsound("encode")
        return self._finite("encode", vectors)

    def _popular(
        self, section: str, excluded: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the k first items of a section of popular ones, then others by row, all with score 0."""
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


def _batch(request: Feed) -> int:
    (given,) = request.values()
    return len(given)


def best_of(
    score: Score, allowed: NDArray[np.int64], excluded: NDArray[np.int64], k: int, at_once: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k best allowed items that are not excluded, best first; ties are broken by row.

    Args:
        allowed: (B, A) item rows padded with -1; repetitions count once.
        excluded: (B, E) item rows padded with -1.
        at_once: number of candidates of one call.

    Returns:
        items (B, k) int64, scores (B, k) float32; item -1 and score -inf if fewer are left.
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


def ranked_by(
    items: NDArray[np.int64], scores: NDArray[np.float32], factors: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k best of ranked items (B, n_items) by their scores times `factors` (n_items,), ties by row.

    Scores below 0 are divided by the factor, so that one below 1 lowers them too.
    """
    by_row = np.full((len(items), len(factors) + 1), -np.inf, np.float32)
    np.put_along_axis(by_row, items, scores, 1)  # padding goes to the last column
    by_row = by_row[:, :-1]
    with np.errstate(over="ignore"):  # to inf, which is refused
        by_row = np.where(by_row > 0, by_row * factors, by_row / factors).astype(np.float32)
    last = by_row.shape[1] - k
    least = np.partition(by_row, last, axis=1)[:, last]
    found, found_scores = np.full((len(items), k), -1, np.int64), np.full((len(items), k), -np.inf, np.float32)
    for one, own in enumerate(by_row):
        best = np.flatnonzero((own >= least[one]) & (own > -np.inf))
        best = best[np.argsort(-own[best], kind="stable")][:k]
        found[one, : len(best)], found_scores[one, : len(best)] = best, own[best]
    return found, found_scores


def complement(allowed: NDArray[np.int64], excluded: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """Return all items except the allowed ones (B, A), with the excluded ones (B, E): (B, E'), padded with -1."""
    out = np.ones((len(allowed), n_items + 1), bool)  # the last column is for padding
    np.put_along_axis(out, allowed, False, 1)
    np.put_along_axis(out, excluded, True, 1)
    return padded([np.flatnonzero(row[:-1]) for row in out])


def padded(lists: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return lists as an array (n, longest), padded with -1."""
    full = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int64)
    for row, values in zip(full, lists, strict=True):
        row[: len(values)] = values
    return full

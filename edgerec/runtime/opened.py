"""One version of a bundle, opened: what `Recommender` asks, and goes on asking while another takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.allowed import VALUES_AT_ONCE, best_of, the_rest
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import RawId
from edgerec.runtime.inputs import once, rows_of, scaled, shown, unscaled, vectors_of, whole
from edgerec.runtime.manifest import Manifest

Feed = dict[str, NDArray[Any]]
"""Inputs of a graph, by name."""


class Recommendation(NamedTuple):
    """One answer: the item's raw id and its score."""

    item: RawId
    score: float


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


class Opened:
    """A bundle that answers; its methods are those of `Recommender`, which says what they do."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self._items = bundle.ids("item", manifest.items)
        self._users = None if manifest.users is None else bundle.ids("user", manifest.users)
        bundle.session("recommend")

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def n_items(self) -> int:
        return self.manifest.items.rows

    @property
    def n_users(self) -> int:
        return 0 if self.manifest.users is None else self.manifest.users.rows

    def recommend(
        self,
        user: RawId | None = None,
        k: int = 10,
        *,
        history: Iterable[RawId] | None = None,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
    ) -> list[Recommendation]:
        inputs = self._subject(user, history)
        allowed = None if allow is None else self.item_rows(allow)[None]
        items, scores = self.recommend_rows(inputs, self.item_rows(exclude)[None], k, allow=allowed)
        return self._recommendations(items[0], scores[0])

    def score(
        self, user: RawId | None = None, items: Iterable[RawId] = (), *, history: Iterable[RawId] | None = None
    ) -> NDArray[np.float32]:
        inputs = self._subject(user, history)
        candidates = self.item_rows(items)[None]
        scores: NDArray[np.float32] = self.score_rows(inputs, candidates)[0]
        return scores

    def similar(self, item: RawId, k: int = 10) -> list[Recommendation]:
        items, scores = self.similar_rows(self.item_rows([item]), k)
        return self._recommendations(items[0], scores[0])

    def encode(self, history: Iterable[RawId]) -> NDArray[np.float32]:
        asked = self._asked(self._subject(None, history))
        if not self.bundle.has_graph("encode"):
            raise RequestError("this bundle has no 'encode' graph: its graphs take the history themselves")
        vector: NDArray[np.float32] = self._encoded(asked["history"])[0]
        return vector

    def recommend_rows(
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

    def score_rows(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
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

    def similar_rows(self, items: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self.bundle.has_graph("similar"):
            raise RequestError("this bundle has no 'similar' graph: it was exported without, or had no room for it")
        number, rows = self._number(k), rows_of(items, "items", "item", self.n_items, ("B",), padded=False)
        if not rows.size:
            return np.empty((0, int(number)), np.int64), np.empty((0, int(number)), np.float32)
        found, scores = self._ranked("similar", {"item": rows, "k": number}, rows[:, None])
        return found, self._finite("similar", scores, found >= 0)

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
        taken = ["user"] if self._users is not None else ["history", "vector"] if encodes else ["history"]
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

    def _recommendations(self, items: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Recommendation]:
        left = items >= 0
        return list(map(Recommendation, self._items.raw(items[left]), scores[left].tolist()))

    def user_rows(self, users: Iterable[RawId]) -> NDArray[np.int64]:
        if self._users is None:
            raise RequestError("this bundle has no users: give the history of item ids instead of a user")
        listed = _listed(users)
        return _known(self._users.rows(listed), listed, "user", self.n_users)

    def item_rows(self, items: Iterable[RawId]) -> NDArray[np.int64]:
        listed = _listed(items)
        return _known(self._items.rows(listed), listed, "item", self.n_items)

    def item_ids(self, rows: ArrayLike) -> list[RawId]:
        return self._items.raw(rows_of(rows, "rows", "item", self.n_items, ("n",), padded=False))

    def known(self, items: Iterable[RawId]) -> list[RawId]:
        listed = _listed(items)
        return [item for item, row in zip(listed, self._items.rows(listed).tolist(), strict=True) if row >= 0]

    def title(self, item: RawId) -> str | None:
        row = self.item_rows([item])[0]
        if "item_titles" not in self.manifest.sections:
            return None
        return self.bundle.strings("item_titles", "item_title_offsets").text(int(row)) or None

    def _subject(self, user: RawId | None, history: Iterable[RawId] | None) -> dict[str, NDArray[np.int64]]:
        if not isinstance(user, (int, str, np.integer, type(None))):
            raise RequestError(f"a user is one id, a whole number or text, got {user!r}")
        if user is not None and history is None:
            return {"user": self.user_rows([user])}
        if history is None or user is not None:
            raise RequestError("give either a user or a history of item ids")
        if self._users is not None:
            raise RequestError("this bundle has users: give a user instead of a history")
        rows = self.item_rows(history)
        return {"history": rows[None] if rows.size else np.full((1, 1), -1)}


def _listed(raw: Iterable[RawId]) -> Sequence[RawId]:
    """Ids in a sequence: sets and generators too. Raises RequestError for what is no list of ids."""
    if isinstance(raw, (list, tuple)) or (isinstance(raw, np.ndarray) and raw.ndim == 1):
        return cast(Sequence[RawId], raw)
    if isinstance(raw, np.ndarray) and raw.ndim:
        raise RequestError(f"expected a list of ids, got an array of the shape {raw.shape}")
    if isinstance(raw, (str, bytes, np.ndarray)) or not isinstance(raw, Iterable):
        raise RequestError(f"expected a list of ids, got {raw!r}: put it in brackets")
    return list(raw)


def _known(rows: NDArray[np.int64], raw: Sequence[RawId], what: str, count: int) -> NDArray[np.int64]:
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        raise RequestError(f"{what} {shown(raw[int(unknown[0])])} is not among the bundle's {count} {what}s")
    return rows


def _batch(asked: Feed) -> int:
    (given,) = asked.values()
    return len(given)

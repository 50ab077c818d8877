"""One version of a bundle, opened: what `Recommender` asks, and goes on asking while another takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.allowed import VALUES_AT_ONCE, best_of, the_rest
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import RawId
from edgerec.runtime.manifest import Manifest


class Recommendation(NamedTuple):
    """One answer: the item's raw id and its score."""

    item: RawId
    score: float


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
        inputs = self._subject(None, history)
        if not self.bundle.has_graph("encode"):
            raise RequestError("this bundle has no 'encode' graph: its graphs take the history themselves")
        vector: NDArray[np.float32] = self._subjects(inputs)["vector"][0]
        return vector

    def recommend_rows(
        self, inputs: dict[str, NDArray[Any]], exclude: ArrayLike, k: int, *, allow: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        number, excluded = self._number(k), _rows(exclude, "item", self.n_items, padded=True)
        allowed = None if allow is None else _rows(allow, "item", self.n_items, padded=True)
        subject = self._subjects(inputs)
        if "history" in inputs and ("vector" in subject or allowed is not None):
            excluded = np.hstack([excluded, inputs["history"]])  # a `recommend` that sees the history does it itself
        items, scores = self._best(subject, excluded, allowed, number)
        if "history" in inputs:
            for one in np.flatnonzero((inputs["history"] < 0).all(1)):
                gone = excluded[[one]]
                gone = gone if allowed is None else the_rest(allowed[[one]], gone, self.n_items)
                items[one], scores[one] = self._popular(gone[0], int(number))
        return items, scores

    def _best(
        self,
        subject: dict[str, NDArray[Any]],
        excluded: NDArray[np.int64],
        allowed: NDArray[np.int64] | None,
        k: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        d, n = self.manifest.d, self.n_items
        if allowed is not None and allowed.shape[1] * d <= n:
            looked_up = self.manifest.layout != "csc" or "l" in self.manifest.sections  # or all are scored at each call
            at_once = max(1, VALUES_AT_ONCE // d) if looked_up else n
            return best_of(partial(self.score_rows, subject), allowed, excluded, int(k), at_once)
        if allowed is not None:
            excluded = the_rest(allowed, excluded, n)
        return self._ranked("recommend", {**subject, "exclude": excluded, "k": k}, len(excluded))

    def _ranked(
        self, graph: str, feed: dict[str, NDArray[Any]], batch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What a graph ranks: (batch, k) rows of the bundle, or -1, and their scores."""
        items, scores = self.bundle.run(graph, ["items", "scores"], feed)
        wanted = (batch, int(feed["k"]))
        # Without a sign, -1 is the largest number, and 0 with one more.
        if items.shape != wanted or scores.shape != wanted or (items.view(np.uint64) + 1).max(initial=0) > self.n_items:
            raise self._unsound(graph)
        return items, scores

    def _unsound(self, graph: str) -> BundleError:
        return BundleError(
            f"the '{graph}' graph of {self.bundle.folder} answers what is not in the bundle; get the bundle again"
        )

    def score_rows(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
        rows = _rows(candidates, "item", self.n_items, padded=False)
        feed = {**self._subjects(inputs), "candidates": rows}
        scores: NDArray[np.float32] = self.bundle.run("score", ["scores"], feed)[0]
        if scores.shape != rows.shape:
            raise self._unsound("score")
        return scores

    def similar_rows(self, items: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self.bundle.has_graph("similar"):
            raise RequestError("this bundle has no 'similar' graph: it was exported without, or had no room for it")
        rows = _rows(items, "item", self.n_items, padded=False)
        return self._ranked("similar", {"item": rows, "k": self._number(k)}, len(rows))

    def _number(self, k: int) -> NDArray[np.int64]:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= self.n_items:
            raise RequestError(f"k must be a whole number in 1..{self.n_items}, the size of the catalogue, got {k!r}")
        return np.array(k, np.int64)

    def _subjects(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What the graphs take: with an 'encode' graph vectors instead of histories."""
        encodes = self.bundle.has_graph("encode")
        taken = ["user"] if self._users is not None else ["history", "vector"] if encodes else ["history"]
        if len(inputs) != 1 or not set(inputs) <= set(taken):
            raise RequestError(f"this bundle takes {' or '.join(map(repr, taken))}, got {sorted(inputs)}")
        if "vector" in inputs:
            return inputs
        if "user" in inputs:
            return {"user": _rows(inputs["user"], "user", self.n_users, padded=False)}
        history = _once(_rows(inputs["history"], "item", self.n_items, padded=True))
        if history.shape[1] == 0:  # onnxruntime's products over nothing differ by version
            history = np.full((len(history), 1), -1)
        if not encodes:
            return {"history": history}
        (vector,) = self.bundle.run("encode", ["vector"], {"history": history})
        if vector.shape != (len(history), self.manifest.d):
            raise self._unsound("encode")
        return {"vector": vector}

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
        return self._items.raw(np.asarray(rows, np.int64))

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
    if isinstance(raw, (list, tuple)) or (isinstance(raw, np.ndarray) and raw.ndim):
        return cast(Sequence[RawId], raw)
    if isinstance(raw, (str, bytes, np.ndarray)) or not isinstance(raw, Iterable):
        raise RequestError(f"expected a list of ids, got {raw!r}: put it in brackets")
    return list(raw)


def _known(rows: NDArray[np.int64], raw: Sequence[RawId], what: str, count: int) -> NDArray[np.int64]:
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        raise RequestError(f"{what} {_shown(raw[int(unknown[0])])} is not among the bundle's {count} {what}s")
    return rows


def _shown(raw: object) -> str:
    """An id as people write it: numpy's as plain ones, and no number of thousands of digits, which Python refuses."""
    plain = raw.item() if isinstance(raw, np.generic) else raw
    return hex(plain) if isinstance(plain, int) and plain.bit_length() > 128 else repr(plain)


def _rows(values: ArrayLike, what: str, count: int, *, padded: bool) -> NDArray[np.int64]:
    """Bundle rows as the graphs take them. Raises RequestError for one outside the bundle."""
    rows = np.asarray(values, np.int64)
    if rows.size and not (rows.min() >= -padded and rows.max() < count):
        wrong = rows[(rows < -padded) | (rows >= count)][0]
        padding = ", or -1 for padding" if padded else ""
        raise RequestError(f"{what} row {wrong} is not in the bundle: rows are 0 to {count - 1}{padding}")
    return rows


def _once(history: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, H) with padding in place of items that came before in their history: solvers are built for distinct ones."""
    order = np.argsort(history, axis=1, kind="stable")
    ascending = np.take_along_axis(history, order, 1)
    again = np.zeros(history.shape, bool)
    np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], 1)
    return np.where(again, -1, history)

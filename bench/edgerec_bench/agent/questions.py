"""Random questions to a bundle."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec.runtime.bundle import Bundle

Feed = dict[str, NDArray[Any]]


def encoded(bundle: Bundle, feed: Feed) -> Feed:
    """What a graph takes: where one of its own, 'encode', makes users' vectors, a vector in place of the history."""
    if "history" not in feed or not bundle.has_graph("encode"):
        return feed
    rest = {name: value for name, value in feed.items() if name != "history"}
    (rest["vector"],) = bundle.session("encode").run(None, {"history": feed["history"]})
    if "exclude" in rest:
        rest["exclude"] = np.hstack([rest["exclude"], feed["history"]])
    return rest


def asker(bundle: Bundle, graph: str) -> Callable[[Feed], Any]:
    """A call of a graph, after one of 'encode' where that makes the vector that it takes."""
    run = partial(bundle.session(graph).run, None)
    if graph == "encode" or not bundle.has_graph("encode"):
        return run
    return lambda feed: run(encoded(bundle, feed))


class Questions:
    """Random questions to a bundle, small and made one at a time, so that they do not show in its memory.

    Attributes:
        n_items: of the catalogue.
        k: items asked for.
    """

    def __init__(self, bundle: Bundle, request: dict[str, Any]) -> None:
        items, users = bundle.manifest.items, bundle.manifest.users
        self.n_items, self._n_users = items.rows, 0 if users is None else users.rows
        self._item_ids = bundle.ids("item", items)
        self._user_ids = None if users is None else bundle.ids("user", users)
        self._random = random.Random(request["seed"])
        self.k, self._exclude, self._history = (int(request[name]) for name in ("k", "exclude", "history"))
        if self.k > self.n_items:
            raise BenchError(f"k is {self.k} and the bundle has {self.n_items} items; give a -k of at most that")

    def rows(self, batch: int = 1) -> Feed:
        """What the recommend graph takes, for `batch` users at once."""
        excluded = self._items(self._exclude, batch)
        return {**self._subject(batch), "exclude": excluded, "k": np.array(self.k, np.int64)}

    def raw(self) -> dict[str, Any]:
        """What `Recommender.recommend` takes."""
        asked: dict[str, Any] = {"k": self.k, "exclude": self._item_ids.raw(self._items(self._exclude)[0])}
        if self._user_ids is not None:
            (asked["user"],) = self._user_ids.raw(np.array([self._random.randrange(self._n_users)]))
        else:
            asked["history"] = self._item_ids.raw(self._items(self._history)[0])
        return asked

    def candidates(self, count: int) -> Feed:
        """What the score graph takes, with `count` candidates."""
        return {**self._subject(), "candidates": self._items(count)}

    def history(self) -> Feed:
        """What the encode graph takes."""
        return {"history": self._items(self._history)}

    def item(self) -> Feed:
        """What the similar graph takes."""
        return {"item": self._items(1)[0], "k": np.array(self.k, np.int64)}

    def _subject(self, batch: int = 1) -> Feed:
        if self._n_users:
            return {"user": np.array([self._random.randrange(self._n_users) for _ in range(batch)], np.int64)}
        return {"history": self._items(self._history, batch)}

    def _items(self, count: int, batch: int = 1) -> NDArray[np.int64]:
        rows = [[self._random.randrange(self.n_items) for _ in range(count)] for _ in range(batch)]
        return np.array(rows, np.int64)

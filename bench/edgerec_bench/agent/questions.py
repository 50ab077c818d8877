"""Random questions to a bundle."""

from __future__ import annotations

import random
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


class Questions:
    """Random questions to a bundle, small and made one at a time, so that they do not show in its memory."""

    def __init__(self, bundle: Bundle, request: dict[str, Any]) -> None:
        items, users = bundle.manifest.items, bundle.manifest.users
        self._n_items, self._n_users = items.rows, 0 if users is None else users.rows
        self._item_ids = bundle.ids("item", items)
        self._user_ids = None if users is None else bundle.ids("user", users)
        self._random = random.Random(request["seed"])
        self.k, self._exclude, self._history = (int(request[name]) for name in ("k", "exclude", "history"))
        if self.k > self._n_items:
            raise BenchError(f"k is {self.k} and the bundle has {self._n_items} items; give a -k of at most that")

    def rows(self) -> Feed:
        """What the recommend graph takes."""
        return {**self._subject(), "exclude": self._items(self._exclude), "k": np.array(self.k, np.int64)}

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

    def item(self) -> Feed:
        """What the similar graph takes."""
        return {"item": self._items(1)[0], "k": np.array(self.k, np.int64)}

    def _subject(self) -> Feed:
        if self._n_users:
            return {"user": np.array([self._random.randrange(self._n_users)], np.int64)}
        return {"history": self._items(self._history)}

    def _items(self, count: int) -> NDArray[np.int64]:
        return np.array([[self._random.randrange(self._n_items) for _ in range(count)]], np.int64)

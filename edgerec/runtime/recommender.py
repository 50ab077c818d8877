"""The one class that an app needs: raw ids in, raw ids out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import RequestError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import RawId
from edgerec.runtime.manifest import Manifest


class Recommendation(NamedTuple):
    """One answer: the item's raw id and its score."""

    item: RawId
    score: float


class Recommender:
    """Recommends from a bundle. Thread-safe for reading, as onnxruntime's sessions are.

    Example:
        >>> model = Recommender.load("films.bundle")
        >>> model.recommend(user=42, k=10, exclude=[50, 181])
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        manifest = bundle.manifest
        self._items = bundle.ids("item", manifest.items)
        self._users = None if manifest.users is None else bundle.ids("user", manifest.users)
        bundle.session("recommend")

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = True, threads: int = 1) -> Recommender:
        """Open the bundle in folder `path`.

        Args:
            verify: compare the tables' sha256 too (costs a read of them); sizes, and the graphs' sha256, always are.
            threads: onnxruntime's.

        Raises:
            BundleError: not a bundle, incomplete, altered, or too new. The message names the file.
            StorageError: the file system refuses.
        """
        return cls(Bundle(path, verify=verify, threads=threads))

    @property
    def manifest(self) -> Manifest:
        return self._bundle.manifest

    @property
    def n_items(self) -> int:
        return self.manifest.items.rows

    @property
    def n_users(self) -> int:
        """Users in the bundle; 0 where a user's vector is computed from a history."""
        return 0 if self.manifest.users is None else self.manifest.users.rows

    def recommend(
        self,
        user: RawId | None = None,
        k: int = 10,
        *,
        history: Sequence[RawId] | None = None,
        exclude: Sequence[RawId] = (),
    ) -> list[Recommendation]:
        """The k best items, best first; fewer where fewer are left.

        Args:
            user: raw id, for a bundle with users.
            history: raw item ids, for a bundle without users; they are excluded too.
            exclude: raw ids of items that must not come back.

        Raises:
            RequestError: an unknown user or item, k outside 1..n_items, or the wrong one of user and history.
        """
        inputs = self._subject(user, history)
        items, scores = self.recommend_rows(inputs, self.item_rows(exclude)[None], k)
        left = items[0] >= 0
        return list(map(Recommendation, self._items.raw(items[0][left]), scores[0][left].tolist()))

    def score(
        self, user: RawId | None = None, items: Sequence[RawId] = (), *, history: Sequence[RawId] | None = None
    ) -> NDArray[np.float32]:
        """(len(items),) float32 scores of the given items. Raises RequestError as `recommend` does."""
        inputs = self._subject(user, history)
        candidates = self.item_rows(items)[None]
        (scores,) = self._bundle.run("score", ["scores"], {**inputs, "candidates": candidates})
        result: NDArray[np.float32] = scores[0]
        return result

    def recommend_rows(
        self, inputs: dict[str, NDArray[np.int64]], exclude: ArrayLike, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The graph itself, a batch at a time, in bundle rows.

        Args:
            inputs: {'user': (B,) int64} or {'history': (B, H) int64 padded with -1}.
            exclude: (B, E) item rows padded with -1.

        Returns:
            items (B, k) int64, scores (B, k) float32; item -1 and score -inf where fewer are left.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= self.n_items:
            raise RequestError(f"k must be a whole number in 1..{self.n_items}, the size of the catalogue, got {k!r}")
        excluded = np.asarray(exclude, np.int64)
        feed: dict[str, Any] = {**inputs, "exclude": excluded, "k": np.array(k, np.int64)}
        items, scores = self._bundle.run("recommend", ["items", "scores"], feed)
        return items, scores

    def user_rows(self, users: Sequence[RawId]) -> NDArray[np.int64]:
        """(len(users),) bundle rows. Raises RequestError for an unknown user."""
        if self._users is None:
            raise RequestError("this bundle has no users: give the history of item ids instead of a user")
        return _known(self._users.rows(users), users, "user", self.n_users)

    def item_rows(self, items: Sequence[RawId]) -> NDArray[np.int64]:
        """(len(items),) bundle rows. Raises RequestError for an unknown item."""
        return _known(self._items.rows(items), items, "item", self.n_items)

    def item_ids(self, rows: ArrayLike) -> list[RawId]:
        """The raw ids of bundle rows."""
        return self._items.raw(np.asarray(rows, np.int64))

    def known(self, items: Sequence[RawId]) -> list[RawId]:
        """Those of the given item ids that are in the bundle."""
        return [item for item, row in zip(items, self._items.rows(items).tolist(), strict=True) if row >= 0]

    def title(self, item: RawId) -> str | None:
        """The item's title, or None where the bundle carries none."""
        row = self.item_rows([item])[0]
        if "item_titles" not in self.manifest.sections:
            return None
        text: str = self._bundle.strings("item_titles", "item_title_offsets")[row].decode()
        return text or None

    def _subject(self, user: RawId | None, history: Sequence[RawId] | None) -> dict[str, NDArray[np.int64]]:
        if not isinstance(user, (int, str, np.integer, type(None))):
            raise RequestError(f"a user is one id, a whole number or text, got {user!r}")
        if user is not None and history is None:
            return {"user": self.user_rows([user])}
        if history is None or user is not None:
            raise RequestError("give either a user or a history of item ids")
        if self._users is not None:
            raise RequestError("this bundle has users: give a user instead of a history")
        if len(history) == 0:
            raise RequestError("the history is empty: a user's vector needs at least one item")
        return {"history": self.item_rows(history)[None]}


def _known(rows: NDArray[np.int64], raw: Sequence[RawId], what: str, count: int) -> NDArray[np.int64]:
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        raise RequestError(f"{what} {raw[int(unknown[0])]!r} is not among the bundle's {count} {what}s")
    return rows

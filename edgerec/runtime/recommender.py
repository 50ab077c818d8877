"""The one class that an app needs: raw ids in, raw ids out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import RequestError
from edgerec.runtime.bundle import Bundle, Metadata
from edgerec.runtime.ids import RawId, listed, rows_of_ids
from edgerec.runtime.inputs import rows_of, shown, whole
from edgerec.runtime.manifest import Manifest
from edgerec.runtime.patch import apply_patch, undo_patch
from edgerec.runtime.ranking import Ranker
from edgerec.runtime.session import Session
from edgerec.signatures import PublicKey

MOST_THREADS = 1024
"""More than any machine makes use of; onnxruntime would start them all."""


class Recommendation(NamedTuple):
    """One answer: the item's raw id and its score."""

    item: RawId
    score: float


class Recommender:
    """Recommends from a bundle. Thread-safe, as onnxruntime's sessions are.

    A patch replaces the bundle while it answers: each call is answered by one version of it from beginning to end, and
    by the new one where it begins after `apply` or `undo` has returned. Rows are those of a version: ask a `snapshot`
    where rows of one call go into the next.

    Example:
        >>> model = Recommender.load("films.bundle")
        >>> model.recommend(user=42, k=10, exclude=[50, 181])
    """

    def __init__(self, bundle: Bundle) -> None:
        self._ranker: Ranker | None = Ranker(bundle)
        self._changing = threading.Lock()

    @property
    def _now(self) -> Ranker:
        """The version that answers. A method reads it once: `apply` may put another here at any time."""
        ranker = self._ranker
        if ranker is None:
            raise RequestError("this bundle was closed; load it again")
        return ranker

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        verify: bool = True,
        threads: int = 1,
        trusted: PublicKey | Iterable[PublicKey] | None = None,
    ) -> Recommender:
        """Open the bundle in folder `path`.

        Args:
            verify: compare the tables' sha256 too (costs a read of them); sizes, and the graphs' sha256, always are.
            threads: onnxruntime's, for one answer; 0 for as many as it chooses.
            trusted: public keys (.pub files, or bytes), one of which must have signed the bundle: sha256 shows that a
                bundle is whole, not who made it. Every file is compared then. Needs the extra 'sign'.

        Raises:
            RequestError: threads outside 0..1024.
            SignatureError: a BundleError: unsigned, signed with another key, or altered since.
            SigningKeyError: one of `trusted` is no ed25519 public key.
            BundleError: not a bundle, incomplete, altered, or too new. The message names the file.
            StorageError: the file system refuses.
        """
        if not whole(threads, 0, MOST_THREADS):
            raise RequestError(f"threads must be a whole number in 0..{MOST_THREADS}, got {shown(threads)}")
        return cls(Bundle(path, verify=verify, threads=threads, trusted=trusted))

    @property
    def manifest(self) -> Manifest:
        return self._now.manifest

    @property
    def metadata(self) -> Metadata:
        """What it is: layout, precision, rows, bytes, and where it comes from."""
        return Metadata.of(self.manifest)

    @property
    def n_items(self) -> int:
        return self._now.n_items

    @property
    def n_users(self) -> int:
        """Users in the bundle; 0 where a user's vector is computed from a history."""
        return self._now.n_users

    def apply(self, patch: str | Path | bytes) -> None:
        """Make the bundle, on disk and here, the one that a patch leads to: a file that `edgerec diff` made, or its
        bytes. Requests go on meanwhile, those under way on the old tables to their end.

        Where the bundle was loaded with trusted keys, one of them must have signed the new one too.

        Raises:
            PatchError: damaged, too new, or made for another bundle; nothing was changed.
            SignatureError: none of the trusted keys signed the new bundle; nothing was changed.
            BundleError: the bundle on disk is not whole.
            StorageError: the file system refuses.
        """
        with self._changing:
            bundle = self._now.bundle
            apply_patch(bundle.folder, patch, trusted=bundle.trusted)
            self._ranker = Ranker(bundle.again())

    def undo(self) -> None:
        """Make the bundle, on disk and here, what it was before the last patch.

        Raises:
            PatchError: there is nothing to undo.
            SignatureError, BundleError, StorageError: as `apply` does.
        """
        with self._changing:
            bundle = self._now.bundle
            undo_patch(bundle.folder, trusted=bundle.trusted)
            self._ranker = Ranker(bundle.again())

    def snapshot(self) -> Recommender:
        """What stays with this version, whatever is applied here: for calls whose rows belong together."""
        pinned = Recommender.__new__(Recommender)
        pinned._ranker, pinned._changing = self._now, threading.Lock()
        return pinned

    def session(self, path: str | Path | None = None, *, limit: int = 1000) -> Session:
        """A history that grows, for a bundle without users: one person's, on this device.

        Args:
            path: a file to keep it in, readable by its owner alone; without one it is kept in memory.
            limit: items that are remembered at most, the latest; a whole number of 1 or more.

        Raises:
            RequestError: a bundle with users, or another limit.
            StorageError: what is in the file is no history, or it cannot be read.
        """
        if self.n_users:
            raise RequestError("this bundle has users, whose vectors were trained: give a user instead of a history")
        return Session(self, path, limit)

    def close(self) -> None:
        """Let go of the tables and the graphs. Requests under way are answered; those that follow are refused."""
        with self._changing:
            self._ranker = None

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def recommend(
        self,
        user: RawId | None = None,
        k: int = 10,
        *,
        history: Iterable[RawId] | None = None,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
    ) -> list[Recommendation]:
        """The k best items, best first; fewer where fewer are left.

        Args:
            user: raw id, for a bundle with users.
            history: raw item ids, for a bundle without users, each counted once; they are excluded too. Of an empty
                history every score is 0 and the most popular items come first.
            exclude: raw ids of items that must not come back.
            allow: raw ids of the only items that may come back; None for all. For a list that is asked with often,
                `recommend_rows` with the rows of `item_rows(allow)` spares finding them again.

        Raises:
            RequestError: an unknown user or item, k outside 1..n_items, the wrong one of user and history, or an empty
                history where the bundle does not say which items are popular.
            BundleError: the bundle answers what no bundle does: rows that it does not have, scores that are not finite.
        """
        now = self._now
        inputs = _subject(now, user, history)
        allowed = None if allow is None else _item_rows(now, allow)[None]
        items, scores = now.recommend(inputs, _item_rows(now, exclude)[None], k, allow=allowed)
        return _recommendations(now, items[0], scores[0])

    def score(
        self, user: RawId | None = None, items: Iterable[RawId] = (), *, history: Iterable[RawId] | None = None
    ) -> NDArray[np.float32]:
        """(len(items),) float32 scores of the given items, zeros of an empty history.

        Raises RequestError as `recommend` does.
        """
        now = self._now
        inputs = _subject(now, user, history)
        scores: NDArray[np.float32] = now.score(inputs, _item_rows(now, items)[None])[0]
        return scores

    def similar(self, item: RawId, k: int = 10) -> list[Recommendation]:
        """The k items most like an item, itself left out, by the cosine of their vectors.

        Raises:
            RequestError: an unknown item, k outside 1..n_items, or a bundle that was exported without its 'similar'
                graph.
        """
        now = self._now
        items, scores = now.similar(_item_rows(now, [item]), k)
        return _recommendations(now, items[0], scores[0])

    def encode(self, history: Iterable[RawId]) -> NDArray[np.float32]:
        """(d,) float32: the user's vector that a history of raw item ids makes; zeros of an empty one.

        It may be kept and asked with: `recommend_rows({"vector": vector[None]}, exclude, k)`, which does not know the
        history, and so excludes nothing of it.

        Raises:
            RequestError: an unknown item, or a bundle without an 'encode' graph: one with users, or one whose graphs
                take histories themselves.
        """
        now = self._now
        vector: NDArray[np.float32] = now.encode(_subject(now, None, history))[0]
        return vector

    def recommend_rows(
        self, inputs: dict[str, NDArray[Any]], exclude: ArrayLike, k: int, *, allow: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same for a batch, in bundle rows.

        Args:
            inputs: {'user': (B,) whole numbers} or {'history': (B, H) padded with -1, each item counted once}; in
                bundles with an 'encode' graph also {'vector': (B, d) float32}, finite.
            exclude: (B, E) item rows padded with -1.
            allow: (B, A) the only item rows that may come back, padded with -1; None for all.

        Returns:
            items (B, k) int64, scores (B, k) float32; item -1 and score -inf where fewer are left. What is answered to
            one of a batch does not depend on the others, beyond the rounding of float32.

        Raises:
            RequestError: numbers that are not whole or not finite, a shape that does not fit the others, a row outside
                the bundle, a vector whose scores are beyond float32, the wrong kind of input, or as `recommend` does.
            BundleError: as `recommend` does.
        """
        return self._now.recommend(inputs, exclude, k, allow=allow)

    def score_rows(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
        """The same for a batch, in bundle rows: (B, C) scores of candidates (B, C), for inputs as `recommend_rows`
        takes them.

        Raises RequestError as that does.
        """
        return self._now.score(inputs, candidates)

    def similar_rows(self, items: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same for a batch, in bundle rows: of (B,) items the k most like each, as `recommend_rows` gives them."""
        return self._now.similar(items, k)

    def user_rows(self, users: Iterable[RawId]) -> NDArray[np.int64]:
        """Return the (number of users,) bundle rows. Raises RequestError for an unknown user."""
        return _user_rows(self._now, users)

    def item_rows(self, items: Iterable[RawId]) -> NDArray[np.int64]:
        """Return the (number of items,) bundle rows. Raises RequestError for an unknown item."""
        return _item_rows(self._now, items)

    def item_ids(self, rows: ArrayLike) -> list[RawId]:
        """Return the raw ids of (n,) bundle rows. Raises RequestError for others, the -1 of padding among them."""
        now = self._now
        return now.items.raw(rows_of(rows, "rows", "item", now.n_items, ("n",), padded=False))

    def known(self, items: Iterable[RawId]) -> list[RawId]:
        """Those of the given item ids that are in the bundle."""
        asked = listed(items)
        return [item for item, row in zip(asked, self._now.items.rows(asked).tolist(), strict=True) if row >= 0]

    def title(self, item: RawId) -> str | None:
        """The item's title, or None where the bundle carries none."""
        now = self._now
        (row,) = _item_rows(now, [item]).tolist()
        if "item_titles" not in now.manifest.sections:
            return None
        return now.bundle.strings("item_titles", "item_title_offsets").text(row) or None


def _user_rows(now: Ranker, users: Iterable[RawId]) -> NDArray[np.int64]:
    if now.users is None:
        raise RequestError("this bundle has no users: give the history of item ids instead of a user")
    return rows_of_ids(now.users, users, "user", now.n_users)


def _item_rows(now: Ranker, items: Iterable[RawId]) -> NDArray[np.int64]:
    return rows_of_ids(now.items, items, "item", now.n_items)


def _subject(now: Ranker, user: RawId | None, history: Iterable[RawId] | None) -> dict[str, NDArray[np.int64]]:
    """Who asks, in rows: the one of user and history that the bundle takes."""
    if not isinstance(user, (int, str, np.integer, type(None))):
        raise RequestError(f"a user is one id, a whole number or text, got {user!r}")
    if user is not None and history is None:
        return {"user": _user_rows(now, [user])}
    if history is None or user is not None:
        raise RequestError("give either a user or a history of item ids")
    if now.users is not None:
        raise RequestError("this bundle has users: give a user instead of a history")
    rows = _item_rows(now, history)
    return {"history": rows[None] if rows.size else np.full((1, 1), -1)}


def _recommendations(now: Ranker, items: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Recommendation]:
    left = items >= 0
    return list(map(Recommendation, now.items.raw(items[left]), scores[left].tolist()))

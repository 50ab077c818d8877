"""The recommender of an app, with raw ids in requests and answers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import EdgeRecError, RequestError
from edgerec.runtime.bundle import Bundle, Metadata
from edgerec.runtime.ids import OnUnknown, RawId, listed, rows_of_ids
from edgerec.runtime.inputs import one_vector, rows_of, shown, whole
from edgerec.runtime.manifest import Manifest, manifest_bytes
from edgerec.runtime.patch import apply_patch, restore, undo_patch
from edgerec.runtime.ranking import Ranker
from edgerec.signatures import PublicKey

if TYPE_CHECKING:
    from edgerec.runtime import Session

Backend = Literal["onnxruntime", "kernel"]
"""Ways to answer: the bundle's graphs in onnxruntime, or its tables in the kernel."""
MOST_THREADS = 1024
"""Limit of threads, since onnxruntime starts as many as requested."""


class Recommendation(NamedTuple):
    """A recommended item, with its raw id and score."""

    item: RawId
    score: float


class Recommender:
    """A recommender that answers from a bundle. It is thread-safe.

    A patch can replace the bundle while it answers. Each call uses one version of the bundle, and calls after `apply`
    or `undo` has returned use the new one. Row numbers belong to a version: use a `snapshot` if rows of one call are
    passed to the next.

    Example:
        >>> model = Recommender.load("films.bundle")
        >>> model.recommend(user=42, k=10, exclude=[50, 181])
    """

    def __init__(self, bundle: Bundle, backend: Backend = "onnxruntime") -> None:
        self._backend: Backend = backend
        self._ranker: Ranker | None = _ranker(bundle, backend)
        self._changing = threading.Lock()

    @property
    def _current(self) -> Ranker:
        """The ranker of the current version. A method reads it once, since `apply` may replace it at any time."""
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
        min_rollback_index: int = 0,
        backend: Backend = "onnxruntime",
    ) -> Recommender:
        """Open the bundle at `path`: a folder, or one file.

        Args:
            verify: compare the sha256 of the tables, which reads them; sizes and graphs are always compared.
            threads: number of onnxruntime's threads for one answer; 0 for its own choice.
            trusted: public keys (.pub files, or bytes), one of which must have signed the bundle. The sha256 of every
                file is compared then. Needs the extra 'sign'.
            min_rollback_index: smallest rollback index that is accepted; see `edgerec export --rollback-index`.
            backend: 'onnxruntime' runs the bundle's graphs; 'kernel' reads its tables in C, without onnxruntime and in
                one thread. Needs the package 'edgerec-kernel'; bundles of integers are of version 2.0.

        Raises:
            RequestError: threads outside 0..1024, or an unknown backend.
            MissingExtraError: the backend is not installed.
            SignatureError: a BundleError: unsigned, signed with another key, changed afterwards, or with a smaller
                rollback index.
            SigningKeyError: one of `trusted` is not an ed25519 public key.
            BundleError: not a bundle, incomplete, changed, or too new. The message names the file.
            StorageError: the file system refuses.
        """
        if not whole(threads, 0, MOST_THREADS):
            raise RequestError(f"threads must be a whole number in 0..{MOST_THREADS}, got {shown(threads)}")
        if backend not in get_args(Backend):
            raise RequestError(f"backend is 'onnxruntime' or 'kernel', got {backend!r}")
        bundle = Bundle(path, verify=verify, threads=threads, trusted=trusted, min_rollback_index=min_rollback_index)
        return cls(bundle, backend)

    @property
    def manifest(self) -> Manifest:
        return self._current.manifest

    @property
    def metadata(self) -> Metadata:
        """Facts of the bundle, such as its layout, precision, rows, bytes and origin."""
        return Metadata.of(self.manifest)

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the manifest, which names this version, since it holds the sha256 of every file."""
        return hashlib.sha256(self._current.bundle.document).hexdigest()

    @property
    def n_items(self) -> int:
        return self._current.n_items

    @property
    def n_users(self) -> int:
        """Number of users; 0 if vectors are computed from histories."""
        return self._current.n_users

    @property
    def takes_rarity(self) -> bool:
        """True if `recommend` takes a rarity other than 0."""
        return self._current.weights() is not None

    def apply(self, patch: str | Path | bytes) -> None:
        """Apply a patch to the bundle on disk, and answer from the new version.

        Requests are answered meanwhile, and those that have begun use the old version. If the bundle was loaded with
        trusted keys, one of them must have signed the new version. It is installed only if it answers a request.

        Args:
            patch: a file that `edgerec diff` wrote, or its bytes.

        Raises:
            PatchError: the patch is damaged, too new, or for another bundle; nothing was changed.
            SignatureError: none of the trusted keys signed the new bundle; nothing was changed.
            BundleError: the bundle on disk is damaged, or the new version does not answer, and was not installed.
            StorageError: the file system refuses.
        """
        with self._changing:
            bundle = self._current.bundle
            before = b"" if bundle.folder.is_file() else manifest_bytes(bundle.folder)
            apply_patch(bundle.folder, patch, trusted=bundle.trusted)
            try:
                ranker = _ranker(bundle.again(), self._backend)
                ranker.check_answers()
            except EdgeRecError:
                restore(bundle.folder, before)
                raise
            self._ranker = ranker

    def undo(self) -> None:
        """Restore the bundle on disk to the version before the last patch, and answer from it.

        Raises:
            PatchError: there is nothing to undo.
            SignatureError, BundleError, StorageError: as `apply` does.
        """
        with self._changing:
            bundle = self._current.bundle
            undo_patch(bundle.folder, trusted=bundle.trusted)
            self._ranker = _ranker(bundle.again(), self._backend)

    def snapshot(self) -> Recommender:
        """Return a recommender that stays with the current version, for calls that share row numbers."""
        pinned = Recommender.__new__(Recommender)
        pinned._ranker, pinned._changing, pinned._backend = self._current, threading.Lock(), self._backend
        return pinned

    def session(self, path: str | Path | None = None, *, limit: int = 1000) -> Session:
        """Return a growing history of one person, for a bundle without users.

        Args:
            path: file of the history, readable by its owner only; None to hold it in memory.
            limit: maximum number of remembered items, the latest ones; 1 or more.

        Raises:
            RequestError: the bundle has users, or an invalid limit.
            StorageError: the file is not a history, or cannot be read.
        """
        if self.n_users:
            raise RequestError("this bundle has users, whose vectors were trained: give a user instead of a history")
        from edgerec.runtime import Session  # which needs a Recommender

        return Session(self, path, limit)

    def close(self) -> None:
        """Release the tables and the graphs. Requests that have begun are answered; later ones are refused."""
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
        vector: ArrayLike | None = None,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
        rarity: float = 0,
        on_unknown: OnUnknown = "error",
    ) -> list[Recommendation]:
        """Return the k best items, best first; fewer if fewer are left.

        Args:
            user: raw user id, for a bundle with users.
            history: raw item ids, for a bundle without users, each counted once; they are also excluded. For an empty
                history all scores are 0, and the most popular items come first.
            vector: (d,) finite numbers, the user's own vector, for a bundle with an 'encode' graph, as one of item
                vectors without users has; nothing is excluded for it.
            exclude: raw ids of items to leave out.
            allow: raw ids of the items to choose from; None for all. For a list that is used often, call
                `recommend_rows` with the rows of `item_rows(allow)`, which saves the look-up.
            rarity: from -2 to 2; above 0 rare items come first more often, below 0 popular ones. Scores are multiplied
                by (an item's weight in a history / the largest)^rarity, those below 0 divided. For a bundle without
                users of a linear encoder, as SVD has. An empty history is answered as without it.
            on_unknown: 'skip' leaves out ids of `history`, `exclude` and `allow` that the bundle does not know, as if
                they were not given: a history of such ids alone is an empty one, and an allow-list of them allows
                nothing.

        Raises:
            RequestError: an unknown user or item, k outside 1..n_items, the wrong one of user, history and vector, an
                empty history in a bundle without popular items, or a rarity outside -2..2 or of a bundle without such
                weights.
            BundleError: an invalid answer of the bundle: rows outside of it, or scores that are not finite.
        """
        ranker = self._current
        inputs = _subject(ranker, user, history, vector, on_unknown)
        allowed, excluded = _limits(ranker, allow, exclude, on_unknown)
        items, scores = ranker.recommend(inputs, excluded, k, allow=allowed, rarity=rarity)
        return _recommendations(ranker, items[0], scores[0])

    def popular(
        self,
        k: int = 10,
        *,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
        on_unknown: OnUnknown = "error",
    ) -> list[Recommendation]:
        """Return the k items with the most interactions in training, best first, all with score 0.

        A bundle stores the 256 most popular ones; others follow in the order of rows.

        Args:
            exclude, allow, on_unknown: as of `recommend`.

        Raises:
            RequestError: an unknown item, k outside 1..n_items, or a bundle that does not say which items are popular:
                of tables without counts of interactions, or with users and from before this was stored.
            BundleError: the bundle names items that it does not have.
        """
        ranker = self._current
        allowed, excluded = _limits(ranker, allow, exclude, on_unknown)
        return _recommendations(ranker, *ranker.popular(k, excluded, allowed))

    def score(
        self,
        user: RawId | None = None,
        items: Iterable[RawId] = (),
        *,
        history: Iterable[RawId] | None = None,
        vector: ArrayLike | None = None,
        on_unknown: OnUnknown = "error",
    ) -> NDArray[np.float32]:
        """Return (len(items),) float32 scores of the items; zeros for an empty history.

        `on_unknown` is that of the history: an unknown item to score is always an error.

        Raises RequestError as `recommend` does.
        """
        ranker = self._current
        inputs = _subject(ranker, user, history, vector, on_unknown)
        scores: NDArray[np.float32] = ranker.score(inputs, _item_rows(ranker, items)[None])[0]
        return scores

    def similar(
        self,
        item: RawId,
        k: int = 10,
        *,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
        on_unknown: OnUnknown = "error",
    ) -> list[Recommendation]:
        """Return the k most similar items to an item, without the item, by the cosine of their vectors.

        Args:
            exclude, allow, on_unknown: as of `recommend`. The more items they leave out, the longer an answer takes.

        Raises:
            RequestError: an unknown item, k outside 1..n_items, or a bundle without a 'similar' graph.
        """
        ranker = self._current
        allowed, excluded = _limits(ranker, allow, exclude, on_unknown)
        items, scores = ranker.similar(_item_rows(ranker, [item]), k, exclude=excluded, allow=allowed)
        return _recommendations(ranker, items[0], scores[0])

    def encode(self, history: Iterable[RawId], *, on_unknown: OnUnknown = "error") -> NDArray[np.float32]:
        """Return the (d,) float32 user vector of a history of raw item ids; zeros for an empty one.

        It can be stored and passed to `recommend(vector=...)`, which does not exclude the items of the history.

        Raises:
            RequestError: an unknown item, or a bundle without an 'encode' graph (with users, or with graphs that take
                histories).
        """
        ranker = self._current
        vector: NDArray[np.float32] = ranker.encode(_subject(ranker, None, history, None, on_unknown))[0]
        return vector

    def recommend_rows(
        self,
        inputs: dict[str, NDArray[Any]],
        exclude: ArrayLike,
        k: int,
        *,
        allow: ArrayLike | None = None,
        rarity: float = 0,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Recommend to a batch of users, with bundle rows instead of raw ids.

        Args:
            inputs: {'user': (B,) whole numbers} or {'history': (B, H) padded with -1, each item counted once}; in
                bundles with an 'encode' graph also {'vector': (B, d) float32}, finite.
            exclude: (B, E) item rows padded with -1.
            allow: (B, A) item rows to choose from, padded with -1; None for all.
            rarity: as of `recommend`.

        Returns:
            items (B, k) int64, scores (B, k) float32; item -1 and score -inf if fewer are left. The answer to a
            user does not depend on the other users of the batch, up to the rounding of float32.

        Raises:
            RequestError: numbers that are not whole or not finite, a shape that does not fit the others, a row outside
                the bundle, a vector whose scores are beyond float32, the wrong kind of input, or as `recommend` does.
            BundleError: as `recommend` does.
        """
        return self._current.recommend(inputs, exclude, k, allow=allow, rarity=rarity)

    def score_rows(self, inputs: dict[str, NDArray[Any]], candidates: ArrayLike) -> NDArray[np.float32]:
        """Return the (B, C) scores of candidate rows (B, C), for inputs as `recommend_rows` takes them.

        Raises RequestError as `recommend_rows` does.
        """
        return self._current.score(inputs, candidates)

    def similar_rows(
        self, items: ArrayLike, k: int, *, exclude: ArrayLike | None = None, allow: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the k most similar rows to each of (B,) item rows, in the form of `recommend_rows`.

        `exclude` (B, E) and `allow` (B, A) are rows padded with -1; None excludes nothing and allows all.
        """
        return self._current.similar(items, k, exclude=exclude, allow=allow)

    def user_rows(self, users: Iterable[RawId]) -> NDArray[np.int64]:
        """Return the (number of users,) bundle rows. Raises RequestError for an unknown user."""
        return _user_rows(self._current, users)

    def item_rows(self, items: Iterable[RawId]) -> NDArray[np.int64]:
        """Return the (number of items,) bundle rows. Raises RequestError for an unknown item."""
        return _item_rows(self._current, items)

    def item_ids(self, rows: ArrayLike) -> list[RawId]:
        """Return the raw ids of (n,) bundle rows. Raises RequestError for others, the -1 of padding among them."""
        ranker = self._current
        return ranker.items.raw(rows_of(rows, "rows", "item", ranker.n_items, ("n",), padded=False))

    def known(self, items: Iterable[RawId]) -> list[RawId]:
        """Return the item ids that are in the bundle."""
        ids = listed(items)
        return [item for item, row in zip(ids, self._current.items.rows(ids).tolist(), strict=True) if row >= 0]

    def title(self, item: RawId) -> str | None:
        """Return the title of an item; None without one."""
        ranker = self._current
        (row,) = _item_rows(ranker, [item]).tolist()
        if "item_titles" not in ranker.manifest.sections:
            return None
        return ranker.bundle.strings("item_titles", "item_title_offsets").text(row) or None

    def attributes(self, item: RawId) -> dict[str, str]:
        """Return the attributes of an item besides its title, by name, without those that it has no text of.

        Raises RequestError for an unknown item.
        """
        ranker = self._current
        (row,) = _item_rows(ranker, [item]).tolist()
        found = {name: texts.of(slice(row, row + 1))[0] for name, texts in ranker.bundle.attributes().items()}
        return {name: text for name, text in found.items() if text}

    def items_with(self, name: str, value: str) -> list[RawId]:
        """Return the items, by row, of which `value` is the text of an attribute, or one of its parts separated by `|`.

        Raises RequestError if the bundle has no such attribute, or the value is empty.

        Example:
            >>> model.recommend(user=42, allow=model.items_with("genres", "Comedy"))
        """
        ranker = self._current
        attributes = ranker.bundle.attributes()
        if name not in attributes:
            raise RequestError(
                f"the bundle has no attribute {name!r} of items; it has {', '.join(attributes) or 'none'}"
            )
        if not isinstance(value, str) or not value:
            raise RequestError(f"the value of {name!r} must be a text that is not empty, got {value!r}")
        return ranker.items.raw(attributes[name].rows_with(value))


def _ranker(bundle: Bundle, backend: Backend) -> Ranker:
    if backend == "onnxruntime":
        return Ranker(bundle)
    from edgerec.runtime.kernel import KernelRanker

    return KernelRanker(bundle)


def _user_rows(ranker: Ranker, users: Iterable[RawId]) -> NDArray[np.int64]:
    if ranker.users is None:
        raise RequestError("this bundle has no users: give the history of item ids instead of a user")
    return rows_of_ids(ranker.users, users, "user", ranker.n_users)


def _item_rows(ranker: Ranker, items: Iterable[RawId], on_unknown: OnUnknown | None = None) -> NDArray[np.int64]:
    return rows_of_ids(ranker.items, items, "item", ranker.n_items, on_unknown)


def _limits(
    ranker: Ranker, allow: Iterable[RawId] | None, exclude: Iterable[RawId], on_unknown: OnUnknown
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the rows (1, A) of an allow-list, None for all, and those (1, E) of excluded items."""
    allowed = None if allow is None else _item_rows(ranker, allow, on_unknown)[None]
    return allowed, _item_rows(ranker, exclude, on_unknown)[None]


def _subject(
    ranker: Ranker,
    user: RawId | None,
    history: Iterable[RawId] | None,
    vector: ArrayLike | None,
    on_unknown: OnUnknown,
) -> dict[str, NDArray[Any]]:
    """Return the graph input of one user: a row, a history in bundle rows, or a vector."""
    if not isinstance(user, (int, str, np.integer, type(None))):
        raise RequestError(f"a user is one id, a whole number or text, got {user!r}")
    if vector is not None:
        if user is not None or history is not None:
            raise RequestError("give one of a user, a history of item ids and a vector")
        return {"vector": one_vector(vector, ranker.manifest.d)[None]}
    if user is not None and history is None:
        return {"user": _user_rows(ranker, [user])}
    if history is None or user is not None:
        raise RequestError("give either a user or a history of item ids")
    if ranker.users is not None:
        raise RequestError("this bundle has users: give a user instead of a history")
    rows = _item_rows(ranker, history, on_unknown)
    return {"history": rows[None] if rows.size else np.full((1, 1), -1)}


def _recommendations(ranker: Ranker, items: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Recommendation]:
    left = items >= 0
    return list(map(Recommendation, ranker.items.raw(items[left]), scores[left].tolist()))

"""What the test vectors ask of a bundle, and what numpy answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import MOST_POPULAR
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import id_hash
from edgerec.tables.codes import LARGEST
from edgerec_export import Export, Source
from edgerec_export.onnx import TOLERANCE
from edgerec_export.pack import Packed, packed_in_memory
from edgerec_export.values import is_integer
from tests.vectors.cases import ALIKE, N_ITEMS, N_USERS, ZERO, Case

TRUSTED, OTHER = "keys/trusted.pub", "keys/other.pub"
Request = dict[str, Any]


class Answers:
    """The requests of one bundle with what numpy answers."""

    def __init__(self, case: Case, source: Source, done: Export, rng: np.random.Generator) -> None:
        self._case, self._rng, self._folder = case, rng, done.folder
        packed: Packed = packed_in_memory(done.chosen.draft)
        self._reference = packed.reference()
        self._rows = packed.lookup.rows(np.arange(case.n_items)).astype(np.float64)
        self._order = done.chosen.draft.items.order
        plan = done.chosen.draft.users
        self._zero_user = None if plan is None else int(np.flatnonzero(plan.order == ZERO)[0])
        self._counts, self._titles = source.item_counts, source.titles
        ships_ids = case.options.ids != "none"
        self._items: list[Any] = done.item_ids.tolist() if ships_ids else list(range(case.n_items))
        hashed = case.options.ids == "hash64"
        self._told = [f"{id_hash(text) % (1 << 64):016x}" for text in self._items] if hashed else self._items
        users = done.user_ids
        self._users: list[Any] = [] if users is None else users.tolist() if ships_ids else list(range(N_USERS))

    def requests(self) -> Iterator[Request]:
        """Every request."""
        if self._case.wrong:
            yield from self._wrong()
            return
        yield from self._loads()
        for number, subject in enumerate(self._subjects()):
            yield from self._recommendations(subject, thorough=number == 0)
            yield self._score(subject)
        yield from self._similar()
        if self._solved:
            yield from self._encode()
        if self._case.options.titles and self._titles is not None:
            for row in (0, 1, 2):
                yield {"call": "title", "item": self._items[row], "title": str(self._titles[self._order[row]]) or None}
        if not self._case.has_users:
            yield from self._popular()
        if self._case.lists:
            yield from self._lists()
        yield from self._refused()
        yield from self._rare()

    def _loads(self) -> Iterator[Request]:
        yield {"call": "load"}
        if not self._case.signed:
            yield {"call": "load", "trusted": [TRUSTED], "error": "signature"}
            return
        yield {"call": "load", "trusted": [OTHER, TRUSTED]}
        yield {"call": "load", "trusted": [OTHER], "error": "signature"}
        for byte in (0, 2, -3, -100, -200):
            flip = {"file": "manifest.json", "byte": byte}
            yield {"call": "load", "trusted": [TRUSTED], "flip": flip, "error": "signature"}
        for kind in ("tables", "recommend", "score", "README"):
            flip = {"file": kind, "byte": 3}
            yield {"call": "load", "trusted": [TRUSTED], "flip": flip, "error": "bundle"}

    def _subjects(self) -> Iterator[tuple[Request, NDArray[Any], float]]:
        """What is asked for whom, as the reference takes it, and how far a score may be off."""
        if self._zero_user is not None:
            for row in (0, N_USERS - 1, *([self._zero_user] if self._case.n_items == N_ITEMS else [])):
                asked = np.array([row])
                yield {"user": self._users[row]}, asked, self._rounding(asked)
            return
        for length in (1, 4, 12):
            history = self._history(length)
            asked = history[None]
            vector = self._reference.encoded(asked)[0]
            tolerance = self._rounding(vector.astype(np.float32)[None] if self._solved else asked)
            if self._case.subject == "ials":
                tolerance += self._solving(vector)
            yield {"history": [self._items[row] for row in history]}, asked, tolerance
        again = [*history, history[2], *history[:2], history[2]]
        yield {"history": [self._items[row] for row in again]}, asked, tolerance  # each item counts once
        if self._solved:
            vector = self._unambiguous(lambda: self._rng.standard_normal(self._reference.d).round(2))
            asked = vector.astype(np.float32)[None]
            yield {"vector": vector.tolist()}, asked, self._rounding(asked)

    @property
    def _solved(self) -> bool:
        return self._reference.takes_vectors

    def _history(self, length: int) -> NDArray[np.int64]:
        """Item rows without repetitions, whose vector has no code that rounding could change."""

        def draw() -> NDArray[np.int64]:
            return self._rng.permutation(self._case.n_items)[:length]

        return self._unambiguous(draw, lambda history: self._reference.encoded(history[None])[0])

    def _unambiguous(self, draw: Any, vector_of: Any = lambda drawn: drawn) -> NDArray[Any]:
        """A draw whose vector, quantised, has no code near a half: there one float32 rounding is one step."""
        while True:
            drawn: NDArray[Any] = draw()
            vector = vector_of(drawn)
            largest = np.abs(vector).max()
            if largest > 0.1:
                codes = vector / largest * LARGEST["int8"]
                if (np.abs(codes % 1 - 0.5) > 0.02).all():
                    return drawn

    def _rounding(self, asked: NDArray[Any]) -> float:
        """float32's, of sums of this size."""
        return 2e-5 * float(np.abs(self._all_scores(asked)).max()) + 1e-6

    def _solving(self, vector: NDArray[np.float64]) -> float:
        """That of conjugate gradient, and a step of the codes that it may change."""
        longest = np.linalg.norm(self._rows, axis=1).max()
        tolerance = TOLERANCE * float(np.linalg.norm(vector) * longest)
        if is_integer(self._case.options.precision):
            tolerance += float(np.abs(vector).max() / LARGEST["int8"] * np.abs(self._rows).sum(1).max())
        return tolerance

    def _all_scores(self, asked: NDArray[Any]) -> NDArray[np.float64]:
        if self._solved and asked.dtype.kind == "i":
            asked = self._reference.encoded(asked).astype(np.float32)
        scores: NDArray[np.float64] = self._reference.scores(asked, np.arange(self._case.n_items))[0]
        return scores

    def _recommendations(self, subject: tuple[Request, NDArray[Any], float], *, thorough: bool) -> Iterator[Request]:
        named, asked, tolerance = subject
        n = self._case.n_items
        gone = self._rng.permutation(n)
        few = gone[:7]
        yield self._ranked(named, asked, tolerance, 5)
        yield self._ranked(named, asked, tolerance, 10, exclude=[*few, few[0]])
        if thorough:
            yield self._ranked(named, asked, tolerance, 4, allow=[*few[:5], few[2]], exclude=few[:1])
            yield self._ranked(named, asked, tolerance, 10, allow=gone[: n // 2], exclude=few)
            yield self._ranked(named, asked, tolerance, 10, allow=[])
        if n > N_ITEMS:
            yield self._ranked(named, asked, tolerance, 200, exclude=few)
        elif thorough:
            yield self._ranked(named, asked, tolerance, n)
            yield self._ranked(named, asked, tolerance, 10, exclude=gone[:-3])
            yield self._ranked(named, asked, tolerance, 3, exclude=gone)

    def _ranked(
        self,
        named: Request,
        asked: NDArray[Any],
        tolerance: float,
        k: int,
        *,
        exclude: Sequence[int] | NDArray[Any] = (),
        allow: Sequence[int] | NDArray[Any] | None = None,
        scores: NDArray[np.float64] | None = None,
    ) -> Request:
        scores = self._all_scores(asked) if scores is None else scores
        out = np.zeros(len(scores), bool)
        if allow is not None:
            out[:] = True
            out[np.asarray(allow, np.int64)] = False
        out[np.asarray(exclude, np.int64)] = True
        if "history" in named:
            out[asked[0]] = True
        request: Request = {"call": "recommend", **named, "k": k}
        if len(exclude):
            request["exclude"] = [self._items[row] for row in exclude]
        if allow is not None:
            request["allow"] = [self._items[row] for row in allow]
        return {**request, "tolerance": _short(tolerance), "ranking": self._ranking(scores, ~out, k, tolerance)}

    def _ranking(self, scores: NDArray[np.float64], allowed: NDArray[np.bool_], k: int, tolerance: float) -> list[Any]:
        """The best k, in groups inside which any order is right; the last group may hold more than are asked for."""
        best = [row for row in np.argsort(-scores, kind="stable") if allowed[row]]
        groups: list[list[int]] = []
        for place, row in enumerate(best):
            if groups and scores[groups[-1][-1]] - scores[row] <= 2 * tolerance:
                groups[-1].append(row)
            elif place < k:
                groups.append([row])
            else:
                break
        return [[[self._told[row], _short(scores[row])] for row in group] for group in groups]

    def _score(self, subject: tuple[Request, NDArray[Any], float]) -> Request:
        named, asked, tolerance = subject
        rows = self._rng.integers(0, self._case.n_items, 9)
        scores = [_short(one) for one in self._all_scores(asked)[rows]]
        items = [self._items[row] for row in rows]
        return {"call": "score", **named, "items": items, "tolerance": _short(tolerance), "scores": scores}

    def _similar(self) -> Iterator[Request]:
        if not self._case.options.similar:
            yield {"call": "similar", "item": self._items[0], "k": 3, "error": "request"}
            return
        alike = int(np.flatnonzero(self._order == ALIKE[0])[0])
        for row in (0, self._case.n_items - 1, alike):
            cosines = self._reference.cosines(np.array([row]), np.arange(self._case.n_items))[0]
            others = np.arange(self._case.n_items) != row
            ranking = self._ranking(cosines, others, 6, 1e-4)
            yield {"call": "similar", "item": self._items[row], "k": 6, "tolerance": 1e-4, "ranking": ranking}
            if self._told is not self._items:  # an answer may be asked for
                yield {"call": "similar", "item": self._told[row], "k": 6, "tolerance": 1e-4, "ranking": ranking}

    def _rare(self) -> Iterator[Request]:
        """Rarities of a bundle whose weights of items in a history are above 0 and differ; others are refused."""
        named, asked, tolerance = next(self._subjects())
        weights = self._weights
        if weights is None or not 0 < weights.min() < weights.max():
            yield {"call": "recommend", **named, "k": 3, "rarity": 0.5, "error": "request"}
            return
        for rarity in (2.5, -3):
            yield {"call": "recommend", **named, "k": 3, "rarity": rarity, "error": "request"}
        scores = self._all_scores(asked)
        liked = np.flatnonzero((scores > 0) & ~np.isin(np.arange(len(scores)), asked))
        for rarity, allow in ((0.3, None), (-1, None), (1, liked[::2])):
            factors = (weights / (weights.max() if rarity > 0 else weights.min())) ** rarity
            k = min(5, len(liked[::2]))  # of scores above 0: of one below, rounding may be multiplied by much
            limits = {"exclude": liked[:1]} if allow is None else {"allow": allow}
            found = self._ranked(
                named, asked, tolerance, k, scores=np.where(scores > 0, scores * factors, -1), **limits
            )
            yield {**found, "rarity": rarity}

    @property
    def _weights(self) -> NDArray[np.float64] | None:
        bundle = Bundle(self._folder)
        if "w" not in bundle.manifest.sections:
            return None
        stored = bundle.section("w")
        return np.asarray((stored / 256.0) ** 4 if stored.dtype == np.uint8 else stored, np.float64)

    def _encode(self) -> Iterator[Request]:
        for length, repeated in ((1, 1), (5, 1), (3, 4)):
            history = self._rng.permutation(self._case.n_items)[:length]
            vector = self._reference.encoded(history[None])[0]
            yield {
                "call": "encode",
                "history": [self._items[row] for row in history] * repeated,
                "tolerance": _short(TOLERANCE * float(np.linalg.norm(vector))),
                "vector": [_short(one) for one in vector],
            }

    def _popular(self) -> Iterator[Request]:
        """Empty histories: of all items, and of those that are allowed."""
        request: Request = {"call": "recommend", "history": [], "k": 10}
        allow = np.arange(1, self._case.n_items, 4)
        allowed = {"allow": [self._items[row] for row in allow]}
        if self._counts is None:
            yield {**request, "error": "request"}
            yield {**request, **allowed, "error": "request"}
            return
        row_of = np.argsort(self._order)
        best = row_of[np.argsort(-self._counts, kind="stable")]
        for more, few in (({}, best), (allowed, best[np.isin(best, allow)])):
            gone = few[1]
            ranking = [[[self._told[row], 0.0]] for row in few[few != gone][:10]]
            yield {**request, **more, "exclude": [self._items[gone]], "tolerance": 0.0, "ranking": ranking}

    def _lists(self) -> Iterator[Request]:
        """Popular items, similar items of a list, and unknown ids, which are refused or skipped."""
        n, rows = self._case.n_items, self._rng.permutation(self._case.n_items)
        few, half = rows[:5], rows[: n // 2]
        ids = [self._items[row] for row in rows]
        unknown = ["nobody", 2] if self._case.ids == "str" else [10**9, "7"]
        limits: list[tuple[Request, NDArray[Any], NDArray[Any]]] = [
            ({}, rows[:0], rows),
            ({"exclude": [*ids[:5], ids[0]]}, few, rows),
            ({"exclude": ids[:5], "allow": ids[: n // 2]}, few, half),
            ({"allow": [*ids[:5], ids[1]]}, rows[:0], few),
            ({"allow": []}, rows[:0], rows[:0]),
            ({"exclude": [unknown[0], *ids[:5]], "on_unknown": "skip"}, few, rows),
            ({"allow": [*ids[:5], *unknown], "on_unknown": "skip"}, rows[:0], few),
            ({"allow": unknown, "on_unknown": "skip"}, rows[:0], rows[:0]),
        ]
        subject = next(self._subjects())
        for given, exclude, allow in limits:
            for k in (4, n) if not given else (n if allow.size < n // 2 else 4,):
                yield {**self._ranked(*subject, k, exclude=exclude, allow=allow), "exclude": [], "allow": None, **given}
                yield {"call": "popular", "k": k, **given, **self._most_popular(k, exclude, allow)}
                cosines = self._reference.cosines(rows[-1:], np.arange(n))[0]
                left = np.isin(np.arange(n), allow) & ~np.isin(np.arange(n), [*exclude, rows[-1]])
                ranking = {"tolerance": 1e-4, "ranking": self._ranking(cosines, left, k, 1e-4)}
                yield {"call": "similar", "item": ids[-1], "k": k, **given, **ranking}
        for one in unknown:
            for refused in ({"exclude": [ids[0], one]}, {"allow": [one]}, {"allow": [one], "on_unknown": "error"}):
                yield {"call": "similar", "item": ids[-1], "k": 3, **refused, "error": "request"}
                yield {"call": "popular", "k": 3, **refused, "error": "request"}
            for call in ({"call": "similar", "item": one}, {"call": "recommend", "user": one}):
                yield {**call, "k": 3, "on_unknown": "skip", "error": "request"}
            yield {"call": "score", **subject[0], "items": [ids[0], one], "on_unknown": "skip", "error": "request"}
        for k in (0, n + 1):
            yield {"call": "popular", "k": k, "error": "request"}
        for call in ({"call": "popular"}, {"call": "similar", "item": ids[0]}, {"call": "recommend", **subject[0]}):
            yield {**call, "k": 3, "on_unknown": "ignore", "error": "request"}
        if not self._case.has_users:
            yield from self._unknown_history(subject, unknown, rows)

    def _unknown_history(
        self, subject: tuple[Request, NDArray[Any], float], unknown: list[Any], rows: NDArray[np.int64]
    ) -> Iterator[Request]:
        """Histories with ids that are skipped, and of such ids alone, which are empty ones."""
        skipped: Request = {"history": [unknown[0], *subject[0]["history"], unknown[1]], "on_unknown": "skip"}
        yield {**self._ranked(*subject, 5), **skipped}
        yield {**self._score(subject), **skipped}
        if self._solved:
            vector = [_short(one) for one in self._reference.encoded(subject[1])[0]]
            yield {"call": "encode", **skipped, "tolerance": 1e-4, "vector": vector}
            for at in ({"exclude": []}, {"exclude": unknown, "on_unknown": "skip"}):
                asked = {"call": "recommend", "vector": [1.0] * self._reference.d, "history": [], "k": 3}
                yield {**asked, **at, "error": "request"}
        skipped["history"] = unknown
        yield {"call": "recommend", **skipped, "k": 5, **self._most_popular(5, rows[:0], rows)}
        items = [self._items[row] for row in rows[:3]]
        yield {"call": "score", **skipped, "items": items, "tolerance": 0.0, "scores": [0.0] * 3}

    def _most_popular(self, k: int, exclude: NDArray[Any], allow: NDArray[Any]) -> Request:
        """Return the most popular rows as an answer; the error of a bundle that does not know them."""
        if self._counts is None:
            return {"error": "request"}
        named = np.argsort(self._order)[np.argsort(-self._counts, kind="stable")][:MOST_POPULAR]
        best = np.concatenate([named, np.setdiff1d(np.arange(self._case.n_items), named)])
        left = best[np.isin(best, allow) & ~np.isin(best, exclude)][:k]
        return {"tolerance": 0.0, "ranking": [[[self._told[row], 0.0]] for row in left]}

    def _refused(self) -> Iterator[Request]:
        unknown: list[Any] = ["nobody", 2, ""] if self._case.ids == "str" else [10**9, -7, "7"]
        if self._case.options.ids == "none":
            unknown = [self._case.n_items, -1, "7"]
        some = self._items[0]
        named: Request = {"user": self._users[0]} if self._users else {"history": [some]}
        other: Request = {"history": [some]} if self._users else {"user": 1}
        asked = [{**named, "k": k} for k in (0, -1, self._case.n_items + 1)]
        asked += [{**named, "k": 3, "exclude": [some, one]} for one in unknown]
        asked += [{"user": one, "k": 3} if self._users else {"history": [some, one], "k": 3} for one in unknown]
        asked += [{**named, "k": 3, "allow": [some, unknown[0]]}]
        asked += [{**other, "k": 3}, {**named, **other, "k": 3}, {"k": 3}]
        yield from ({"call": "recommend", **one, "error": "request"} for one in asked)
        yield from ({"call": "score", **named, "items": [some, one], "error": "request"} for one in unknown)

    def _wrong(self) -> Iterator[Request]:
        """What is no id, wherever one is asked for; vectors that are none; and right requests of each kind."""
        subjects = list(self._subjects())[:2]
        for subject in subjects:
            yield self._ranked(*subject, 5)
            yield self._score(subject)
        yield from self._similar()
        named = subjects[0][0]
        some = self._items[0]
        wrong: list[Any] = [0.5, 1e300, 2**64, True, False, [some], [], {"id": some}]
        wrong += ["\ud800", f"{some}\udc00", f"{some} "] if self._case.ids == "str" else [some + 0.5, str(some), ""]
        for one in wrong:
            who = {"user": one} if self._users else {"history": [some, one]}
            yield {"call": "recommend", **who, "k": 3, "error": "request"}
            yield {"call": "recommend", **named, "k": 3, "exclude": [some, one], "error": "request"}
            yield {"call": "recommend", **named, "k": 3, "allow": [some, one], "error": "request"}
            yield {"call": "score", **named, "items": [some, one], "error": "request"}
            yield {"call": "similar", "item": one, "k": 3, "error": "request"}
            yield {"call": "title", "item": one, "error": "request"}
        if self._solved:
            d = self._reference.d
            for vector in ([1.0] * (d - 1), [1.0] * (d + 1), [], [[1.0] * d], [1.0] * (d - 1) + [1e39], [3e38] * d):
                yield {"call": "recommend", "vector": vector, "k": 3, "error": "request"}
                yield {"call": "score", "vector": vector, "items": self._items, "error": "request"}


def _short(value: float) -> float:
    """Seven digits are float32's."""
    return float(f"{value:.7g}")

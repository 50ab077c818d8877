"""One recommender as a Thing: the version of its bundle that answers, its actions, and those who observe it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.errors import RequestError
from edgerec.runtime import Recommendation, Recommender
from edgerec.serve.description import Catalogue, Limits, affordances
from edgerec.serve.limits import RefusedError, check_value
from edgerec.serve.operations import Stats
from edgerec.serve.sessions import Sessions
from edgerec.serve.settings import Settings
from edgerec.serve.tokens import Holder

Json = dict[str, Any]
_WAITING = 16
"""Events that wait for a slow observer; older ones are dropped."""
LISTS = ("exclude", "allow")
_NAMES = {
    "hash64": "Id of the item, or the hash of its id, 16 hexadecimal digits; answers have the hash.",
    "none": "Row of the item in this version of the bundle; the file of --id-map has the ids.",
}
_NO_TITLES = " Answers have no titles."


class Topic:
    """The observers of a property or an event."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Json | None]] = set()

    def publish(self, value: Json | None) -> None:
        """Send a value to all observers; None ends their streams."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(value)

    async def observe(self, heartbeat_s: float) -> AsyncIterator[Json | None]:
        """Yield values as they come, and None after each time without any, until the topic ends."""
        queue: asyncio.Queue[Json | None] = asyncio.Queue(_WAITING)
        self._queues.add(queue)
        try:
            while True:
                value: Json | None = None
                with suppress(TimeoutError):
                    value = await asyncio.wait_for(queue.get(), heartbeat_s)
                    if value is None:
                        return
                yield value
        finally:
            self._queues.discard(queue)


@dataclass(frozen=True)
class Version:
    """A version of a bundle, which answers a request from beginning to end.

    Attributes:
        model: a recommender that stays with the version.
        facts: the property 'model'.
        parts: what is described of it; `description` makes a Thing Description of it.
    """

    model: Recommender
    facts: Json
    parts: Json

    @property
    def sha256(self) -> str:
        return str(self.facts["sha256"])


class Thing:
    """A recommender, its sessions and its observers.

    Attributes:
        name: beginning of its paths.
        folder: the bundle.
        live: the recommender that patches change.
        version: the version that answers now. A request reads it once.
    """

    def __init__(
        self, name: str, title: str, folder: Path, settings: Settings, sessions: Path, rights: frozenset[str]
    ) -> None:
        """Open the bundle. Raises BundleError, SignatureError, StorageError."""
        self.name, self.title, self.folder = name, title, folder
        self.sessions, self.stats = Sessions(sessions, settings.max_history), Stats()
        self._rights = rights - {"update"} if folder.is_file() else rights  # patches change folders
        self._limits = Limits(settings.max_k, settings.max_history)
        self.topics = {topic: Topic() for topic in ("model", "stats", "modelUpdated", "patchRefused")}
        self.live = Recommender.load(folder, threads=settings.threads, trusted=settings.trusted or None)
        self.version = self.opened()

    def opened(self, live: Recommender | None = None) -> Version:
        """Return the version that `live` answers from now, with its graphs open, so that no request waits for that.

        Raises BundleError if it cannot answer.
        """
        model = (live or self.live).snapshot()
        parts = affordances(catalogue_of(model), self._limits, self.title, self._rights)
        person: dict[str, Any] = {"user": [0]} if model.n_users else {"history": [[0]]}
        model.recommend_rows(person, np.empty((1, 0), np.int64), 1)
        model.score_rows(person, [[0]])
        if "similar" in parts["actions"]:
            model.similar_rows([0], 1)
        return Version(model, facts_of(model), parts)

    def act(self, action: str, given: Any, holder: Holder) -> Json:
        """Invoke an action of a request, with its version of now.

        Raises:
            RequestError: an input of another form, an unknown id, or too large a k.
            RefusedError: too many sessions, or an action that the bundle does not offer.
            BundleError, StorageError.
        """
        version = self.version
        if action not in version.parts["actions"]:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"this bundle offers no '{action}'")
        check_value(version.parts["actions"][action]["input"], given)
        answer: Callable[[Version, Json, Holder], Json] = getattr(self, f"_{action}")
        return answer(version, given, holder)

    def _recommend(self, version: Version, given: Json, holder: Holder) -> Json:
        model, k, lists = version.model, self._k(version, given), self._lists(given)
        subject = self._subject(version, given, holder)
        if subject is None:
            return _answered(version, model.popular(k, **lists))
        return _answered(version, model.recommend(**subject, k=k, rarity=given.get("rarity", 0), **lists))

    def _similar(self, version: Version, given: Json, holder: Holder) -> Json:
        k = self._k(version, given)
        return _answered(version, version.model.similar(given["item"], k, **self._lists(given)))

    def _score(self, version: Version, given: Json, holder: Holder) -> Json:
        subject = self._subject(version, given, holder)
        if subject is None:
            raise RequestError("a score is one person's; add " + " or ".join(sorted(_subjects(version))))
        how = {"on_unknown": given.get("onUnknown", "error")}
        scores = version.model.score(**subject, items=given["items"], **how).tolist()
        return {"scores": scores, "model": version.sha256}

    def _feedback(self, version: Version, given: Json, holder: Holder) -> Json:
        session = self.sessions.add(version.model, holder, given["session"], given["item"])
        return {"session": given["session"], "items": list(session.items)}

    def _history(self, version: Version, given: Json, holder: Holder) -> Json:
        session = self.sessions.open(version.model, holder, given["session"])
        return {"session": given["session"], "items": list(session.items)}

    def _forget(self, version: Version, given: Json, holder: Holder) -> Json:
        session = self.sessions.open(version.model, holder, given["session"])
        if session.items:
            session.forget(given.get("item"))
        return {"session": given["session"], "items": list(session.items)}

    def _subject(self, version: Version, given: Json, holder: Holder) -> Json | None:
        """Return who a request is about, as a recommender's keywords; None for nobody in particular."""
        named = sorted(_subjects(version) & given.keys())
        if not named:
            return None
        if len(named) > 1:
            raise RequestError(f"{' and '.join(named)} both say who is meant; leave out one")
        if named == ["session"]:
            items = self.sessions.open(version.model, holder, given["session"]).items
            return {"history": version.model.known(items)}
        return {named[0]: given[named[0]]}

    @staticmethod
    def _k(version: Version, given: Json) -> int:
        return int(given.get("k", min(10, version.model.n_items)))

    @staticmethod
    def _lists(given: Json) -> Json:
        lists = {name: given[name] for name in LISTS if name in given}
        return {**lists, "on_unknown": given.get("onUnknown", "error")}

    def replace(self, version: Version) -> None:
        """Answer from another version, and tell those who observe it."""
        self.version = version
        self.stats.events["modelUpdated"] += 1
        for topic in ("model", "modelUpdated"):
            self.topics[topic].publish(version.facts)

    def refuse(self, error: str, detail: str) -> None:
        """Tell those who observe it that a patch was refused."""
        self.stats.events["patchRefused"] += 1
        self.topics["patchRefused"].publish({"error": error, "detail": detail})

    def end(self) -> None:
        """End the streams of all observers."""
        for topic in self.topics.values():
            topic.publish(None)


def _subjects(version: Version) -> set[str]:
    members: Json = version.parts["actions"]["recommend"]["input"]["properties"]
    return {"user", "history", "session"} & members.keys()


def _answered(version: Version, found: list[Recommendation]) -> Json:
    titled, described = version.facts["titles"], version.facts["attributes"]
    items: list[Json] = []
    for item, score in found:
        one: Json = {"item": item, "score": score}
        if titled and (title := version.model.title(item)) is not None:
            one["title"] = title
        if described and (attributes := version.model.attributes(item)):
            one["attributes"] = attributes
        items.append(one)
    return {"items": items, "model": version.sha256}


def catalogue_of(model: Recommender) -> Catalogue:
    """Return what a description says of a bundle's catalogue."""
    manifest = model.manifest
    return Catalogue(
        sha256=model.sha256,
        item=_type_of(manifest.items.ids),
        user=None if manifest.users is None else _type_of(manifest.users.ids),
        names=_NAMES.get(manifest.items.ids, "Id of the item.") + ("" if model.metadata.titles else _NO_TITLES),
        items=manifest.items.rows,
        similar="similar" in manifest.graphs,
        rarity=model.takes_rarity,
        examples=model.item_ids(range(min(3, manifest.items.rows))),
    )


def _type_of(ids: str) -> str:
    return "integer" if ids in ("int", "none") else "string"


def facts_of(model: Recommender) -> Json:
    """Return the property 'model' of the version that answers from now."""
    about, manifest = model.metadata, model.manifest
    return {
        "sha256": model.sha256,
        "bytes": about.bytes,
        "items": about.items,
        "users": about.users,
        "dimensions": about.d,
        "layout": about.layout,
        "precision": about.precision,
        "format": about.version,
        "rollbackIndex": manifest.rollback_index,
        "titles": about.titles,
        "attributes": list(manifest.item_attributes),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }

"""The Thing Description of a recommender: `recommender.tm.json`, the Thing Model, filled in for one bundle and server.

W3C Thing Description 1.1. Four of its clients' habits are met here: streams of events have the content type
application/json (node-wot expects that of each event), their events have no names, actions name their method (a client
may send GET for a safe action otherwise), and members that a bundle cannot answer are left out.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pkgutil import get_data
from typing import Any

from edgerec.runtime.ranking import MOST_RARITY

MODEL_NAME = "recommender.tm.json"
CONTEXT = "https://www.w3.org/2022/wot/td/v1.1"
TD_TYPE, TM_TYPE = "application/td+json", "application/tm+json"
STREAM = "text/event-stream"
TOPICS = {
    "model": "properties/model/observe",
    "stats": "properties/stats/observe",
    "modelUpdated": "events/modelUpdated",
    "patchRefused": "events/patchRefused",
}
"""Paths of what can be observed; with /poll the next value alone."""
MODEL_PATH = "models/recommender"
MOST_LISTED = 10_000
"""Maximum number of items of `exclude` and `allow`."""
RIGHTS = {"feedback": "feedback", "history": "feedback", "forget": "feedback", "applyPatch": "update", "undo": "update"}
"""Rights that actions need; the others need 'read'."""

Json = dict[str, Any]


@cache
def _model_bytes() -> bytes:
    content = get_data("edgerec.serve", MODEL_NAME)
    if content is None:  # a loader without data
        raise ImportError(f"edgerec/serve/{MODEL_NAME} is missing; install EdgeRec whole")
    return content


def thing_model() -> Json:
    """Return the Thing Model."""
    model: Json = json.loads(_model_bytes())
    return model


@dataclass(frozen=True)
class Catalogue:
    """Facts of a bundle on which its description depends.

    Attributes:
        sha256: its version.
        item, user: JSON types of ids, 'integer' or 'string'; the user's is None for a bundle without users.
        names: a description of what items are called.
        similar: True if the bundle says which items are similar.
        rarity: True if it says which are rare.
        examples: ids of some items.
    """

    sha256: str
    item: str
    user: str | None
    names: str
    items: int
    similar: bool
    rarity: bool
    examples: Sequence[int | str]


@dataclass(frozen=True)
class Limits:
    """Limits of requests that a description names."""

    k: int
    history: int


def affordances(catalogue: Catalogue, limits: Limits, title: str, rights: frozenset[str]) -> Json:
    """Return the Thing Model filled in for a bundle, without what is specific to a place: id, base, security, forms.

    Args:
        rights: rights that some client has; actions that nobody may invoke are left out.
    """
    most_k = min(limits.k, catalogue.items)
    values = {"TITLE": title, "MAX_K": most_k, "MAX_HISTORY": limits.history, "MAX_LIST": MOST_LISTED}
    model = thing_model()
    for name in ("recommend", "score"):  # a Thing has all members of its model, and may have more
        given = model["actions"][name]["input"]
        given["properties"] = {**_subjects(catalogue.user is not None), **given["properties"]}
    if catalogue.rarity:
        model["actions"]["recommend"]["input"]["properties"]["rarity"] = {
            **{"title": "Rarity", "type": "number", "minimum": -MOST_RARITY, "maximum": MOST_RARITY, "default": 0},
            "description": "Above 0 rare items are named more often, below 0 popular ones.",
        }
    found: Json = _filled(model, values)
    for schema in _ids(found, "Item"):
        schema["type"] = catalogue.item
        schema.setdefault("description", catalogue.names)
    for schema in _ids(found, "User"):
        schema["type"] = catalogue.user or "string"
    actions: Json = found["actions"]
    without = ("feedback", "history", "forget") if catalogue.user is not None else ()
    for name in list(actions):
        if name in without or RIGHTS.get(name, "read") not in rights or (name == "similar" and not catalogue.similar):
            del actions[name]
    for name in ("recommend", "similar"):
        if name in actions and most_k < 10:
            actions[name]["input"]["properties"]["k"]["default"] = most_k
    for name, example in _examples(catalogue, most_k).items():
        if name in actions:
            actions[name]["input"]["examples"] = [example]
    found["version"]["instance"] = f"{found['version']['model']}+{catalogue.sha256[:12]}"
    for name in ("@context", "@type", "tm:optional"):
        del found[name]
    return found


def _subjects(users: bool) -> Json:
    """Return the members that name a person: a user of a bundle with users, a history or a session for others."""
    if users:
        return {"user": {"title": "User", "description": "Id of a user."}}
    items = {"type": "array", "items": {"title": "Item"}, "maxItems": "{{MAX_HISTORY}}"}
    history = "Ids of the items that the person liked, which are not recommended."
    session = "A session, whose history grows by feedback; an unknown one has an empty history."
    return {
        "history": {"title": "History", **items, "description": history},
        "session": {
            **{"title": "Session", "type": "string", "minLength": 1, "maxLength": 128},
            "description": session,
        },
    }


def _examples(catalogue: Catalogue, most_k: int) -> Json:
    """Return an input of each action that works with this bundle; none with a user, who is nobody's example."""
    one, *more = catalogue.examples
    similar = {"similar": {"item": one, "k": min(5, most_k)}}
    if catalogue.user is not None:
        return similar
    history = [one, *more[:1]]
    return {
        **similar,
        "recommend": {"history": history, "k": min(5, most_k)},
        "score": {"history": history, "items": [one, *more][-2:]},
        "feedback": {"session": "living-room", "item": one},
        "history": {"session": "living-room"},
        "forget": {"session": "living-room", "item": one},
    }


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a JSON value with its placeholders '{{NAME}}' replaced."""
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, str) and value.startswith("{{"):
        return values[value.strip("{}")]
    return value


def _ids(value: Any, title: str) -> list[Json]:
    """Return the schemas of ids, which the Thing Model gives no type."""
    if isinstance(value, list):
        return [one for entry in value for one in _ids(entry, title)]
    if not isinstance(value, dict):
        return []
    own = [value] if value.get("title") == title and "type" not in value else []
    return own + [one for entry in value.values() for one in _ids(entry, title)]


def description(parts: Json, name: str, base: str, id: str, *, secured: bool) -> Json:
    """Return the Thing Description of what `affordances` returned.

    Args:
        name: of the Thing, the beginning of its paths.
        base: URL of the server's root, which ends with a slash.
        secured: True if requests need a bearer token.
    """
    found = copy.deepcopy(parts)
    for of, one in found["properties"].items():
        place = f"{name}/properties/{of}"
        one["forms"] = [
            {"op": "readproperty", "href": place, "htv:methodName": "GET", **_answers()},
            *_streams(f"{name}/{TOPICS[of]}", "observeproperty", "unobserveproperty"),
        ]
    for of, one in found["actions"].items():
        place = f"{name}/actions/{of}"
        form = {"op": "invokeaction", "href": place, "htv:methodName": "POST", **_answers()}
        one["forms"] = [form]
        if of == "applyPatch":
            response = {"response": {"contentType": "application/json"}}
            one["forms"].append({**form, "contentType": "application/octet-stream", **response})
    for of, one in found["events"].items():
        one["forms"] = _streams(f"{name}/{TOPICS[of]}", "subscribeevent", "unsubscribeevent")
    return {**head(found["title"], base, id, secured=secured), **found, **_links(base)}


def directory(things: Mapping[str, str], title: str, base: str, id: str, *, secured: bool) -> Json:
    """Return the description of a server of several Things: links to theirs, and a property that lists them.

    Args:
        things: titles by name.
    """
    links = [{"rel": "item", "href": f"{base}{name}", "type": TD_TYPE, "title": of} for name, of in things.items()]
    listed = {
        "title": "Things",
        "description": "The descriptions of all Things of this server.",
        "type": "array",
        "items": {"type": "object"},
        "readOnly": True,
        "forms": [{"op": "readproperty", "href": "things", "htv:methodName": "GET", "contentType": "application/json"}],
    }
    about = {"description": "Recommenders.", "properties": {"things": listed}, "links": links}
    return {**head(title, base, id, secured=secured), **about}


def head(title: str, base: str, id: str, *, secured: bool) -> Json:
    """Return the members that every description begins with."""
    name = "bearer" if secured else "none"
    scheme = {"scheme": "bearer", "in": "header", "format": "opaque"} if secured else {"scheme": "nosec"}
    return {
        "@context": [CONTEXT, {"htv": "http://www.w3.org/2011/http#"}],
        "@type": "Thing",
        "id": id,
        "title": title,
        "base": base,
        "securityDefinitions": {name: scheme},
        "security": [name],
    }


def tag(content: bytes) -> str:
    """Return the ETag of a description, without quotes."""
    return hashlib.sha256(content).hexdigest()[:32]


def _streams(href: str, *ops: str) -> list[Json]:
    """Return the forms of a stream and of polling, for clients whose streams send no token, such as node-wot's.

    Streams come first: thingctx reads the first form as one.
    """
    form = {"op": list(ops), "htv:methodName": "GET", "contentType": "application/json"}
    return [{**form, "href": href, "subprotocol": "sse"}, {**form, "href": f"{href}/poll", "subprotocol": "longpoll"}]


def _answers() -> Json:
    problem = {"success": False, "contentType": "application/problem+json", "schema": "problem"}
    return {"contentType": "application/json", "additionalResponses": [problem]}


def _links(base: str) -> Json:
    return {"links": [{"rel": "type", "href": f"{base}{MODEL_PATH}", "type": TM_TYPE}]}

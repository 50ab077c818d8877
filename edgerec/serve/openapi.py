"""The OpenAPI 3.1 document of a server, derived from its Thing Descriptions: one set of schemas for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

Json = dict[str, Any]

TD_ONLY = ("forms", "observable", "readOnly", "safe", "idempotent", "synchronous", "input", "output", "uriVariables")
"""Members of an affordance that are no keywords of JSON Schema, or mean nothing in one direction."""
STREAM = "text/event-stream"
JSON = "application/json"
PROBLEM = "application/problem+json"
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
SUBJECTS = ("user", "history", "session")
SUFFIXES = {"": "", "sse": ".stream", "longpoll": ".poll"}
STATUSES = {
    "4XX": "The request was refused: a token without the right, a wrong value, too large, or too many at once.",
    "503": "The server is busy or stops; try again after the seconds of Retry-After.",
}


def openapi(things: Mapping[str, Json]) -> Json:
    """Return the OpenAPI document of Things.

    Args:
        things: Thing Descriptions by name, of one server: one `base`, and hrefs relative to it.
    """
    first = next(iter(things.values()))
    paths: Json = {}
    schemes: Json = {}
    problem: Json = {}
    for name, td in things.items():
        security = _security(td, schemes)
        problem = td.get("schemaDefinitions", {}).get("problem", problem)
        for method, href, operation in _operations(td):
            path = urlsplit(urljoin(td["base"], href)).path.removeprefix(urlsplit(td["base"]).path.rstrip("/"))
            tagged = {**operation, "operationId": f"{name}.{operation['operationId']}", "tags": [name]}
            paths.setdefault(path, {})[method] = {**tagged, **security}
    components: Json = {"schemas": {"Problem": problem}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": first["title"] if len(things) == 1 else "Recommenders",
            "version": first["version"]["instance"],
        },
        "servers": [{"url": first["base"].rstrip("/")}],
        "paths": paths,
        "components": {**components, **({"securitySchemes": schemes} if schemes else {})},
    }


def _security(td: Json, schemes: Json) -> Json:
    """Add a description's bearer schemes to `schemes`, and return what its operations need."""
    names = [name for name in td["security"] if td["securityDefinitions"][name]["scheme"] == "bearer"]
    schemes.update({name: {"type": "http", "scheme": "bearer"} for name in names})
    return {"security": [{name: [] for name in names}]} if names else {}


def _operations(td: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield the method, the href and the operation of each form; forms that differ in what they take are one."""
    for kind in ("properties", "events"):
        for name, one in td.get(kind, {}).items():
            schema = _schema(one if kind == "properties" else one.get("data", {}))
            for form in one["forms"]:
                streamed = form.get("subprotocol") == "sse"
                suffix = SUFFIXES[form.get("subprotocol", "")]
                content = {STREAM: {"schema": {"type": "string"}}} if streamed else {JSON: {"schema": schema}}
                about = _about(f"{kind}.{name}{suffix}", one)
                yield "get", form["href"], {**about, "responses": _responses(content)}
    for name, one in td.get("actions", {}).items():
        operation = {
            **_about(f"actions.{name}", one),
            "responses": _responses({JSON: {"schema": _schema(one["output"])}}),
        }
        if "input" in one:
            bodies = {form.get("contentType", JSON): _body(form, one["input"]) for form in one["forms"]}
            needed = one["input"]["type"] != "object" or "required" in one["input"]
            operation["requestBody"] = {"required": needed, "content": bodies}
        yield "post", one["forms"][0]["href"], operation


def _about(identifier: str, affordance: Json) -> Json:
    return {"operationId": identifier, "summary": affordance["title"], "description": affordance["description"]}


def _body(form: Json, schema: Json) -> Json:
    if form.get("contentType", JSON) != JSON:
        return {}
    found = _schema(schema)
    if schema["type"] == "object":
        found["additionalProperties"] = False
        found |= _one_subject(schema)
    elif schema.get("contentEncoding") == "base64":
        found["pattern"] = BASE64
    return {"schema": found, **({"example": schema["examples"][0]} if schema.get("examples") else {})}


def _one_subject(schema: Json) -> Json:
    """Return what a data schema cannot say: a request is about one person at most, and scores are about one."""
    subjects = [name for name in SUBJECTS if name in schema["properties"]]
    if "items" in schema["properties"]:
        return {"oneOf": [{"required": [name]} for name in subjects]}
    return {"not": {"required": subjects}} if len(subjects) > 1 else {}


def _responses(content: Json) -> Json:
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {status: {"description": text, "content": problem} for status, text in STATUSES.items()}
    return {"200": {"description": "The answer.", "content": content}, **refusals}


def _schema(value: Any) -> Any:
    """Return a data schema as JSON Schema."""
    if isinstance(value, Mapping):
        return {
            name: {of: _schema(one) for of, one in inner.items()} if name == "properties" else _schema(inner)
            for name, inner in value.items()
            if name not in TD_ONLY and not name.startswith("@")
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_schema(one) for one in value]
    return value

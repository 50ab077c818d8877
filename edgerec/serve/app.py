"""The HTTP interface of Things: routes, rights, answers and refusals. HTTP and SSE bindings of W3C WoT."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgerec.errors import EdgeRecError, RequestError
from edgerec.serve import description
from edgerec.serve.answers import Stream, answer, problem, problem_of
from edgerec.serve.description import MODEL_PATH, RIGHTS, STREAM, TD_TYPE, TM_TYPE, TOPICS, thing_model
from edgerec.serve.guard import middleware_of
from edgerec.serve.limits import Rates, RefusedError, Slots, body_of, client_of, json_of
from edgerec.serve.openapi import openapi
from edgerec.serve.operations import CONTENT_TYPE, Stats, log, log_failure, metrics
from edgerec.serve.page import Page, page_files
from edgerec.serve.settings import Settings
from edgerec.serve.thing import Thing
from edgerec.serve.tokens import Holder, Tokens
from edgerec.serve.updates import Updater, most_patch_bytes

HEARTBEAT_S = 15.0
"""Seconds between the comments of a stream without events, which keep proxies from closing it."""
MOST_PATCHES = 4
"""Patches that arrive or wait at once."""
STATS_S = 10.0
"""Seconds between the values that observers of 'stats' get."""

Task = Callable[[], Coroutine[Any, Any, None]]
Handler = Callable[[Request, Holder], Awaitable[Response]]


@dataclass
class Server:
    """The state that all routes share.

    Attributes:
        ids: URNs of the Things, and of the server itself under ''.
        tasks: what runs as long as the server answers, such as looking for patches.
    """

    settings: Settings
    things: dict[str, Thing]
    updaters: dict[str, Updater]
    tokens: Tokens
    ids: Mapping[str, str]
    title: str
    stats: Stats = field(default_factory=Stats)
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rates = Rates(self.settings.rate)
        self.requests = Slots(self.settings.concurrency, "requests")
        # More threads than processors would only wait for one another, and keep the loop from its turn.
        self.workers = anyio.CapacityLimiter(max(2, os.cpu_count() or 1))
        # Changes of sessions wait for the disk, one after the other: answers that need none of it do not wait for them.
        self.writes = Slots(max(1, self.settings.concurrency // 4), "changes of sessions")
        self.writer = anyio.CapacityLimiter(1)
        # Each token can observe, whatever the others do.
        share = max(1, self.settings.concurrency // self.tokens.readers)
        self.streams = Slots(self.settings.concurrency, "streams of events", share)
        # A patch takes memory while it arrives, and they are applied one after the other.
        self.patches = Slots(MOST_PATCHES, "patches")


def app_of(server: Server) -> Starlette:
    """Return the application of a server."""
    open_to_all: dict[str, Handler] = {
        "/": root,
        "/.well-known/wot": well_known,
        "/healthz": health,
        f"/{MODEL_PATH}": model,
        "/openapi.json": openapi_document,
        **{f"/{name}": partial(td, thing) for name, thing in server.things.items()},
    }
    routes = [_route(server, None, path, None, handler) for path, handler in open_to_all.items()]
    routes += [
        _route(server, None, "/things", "read", things),
        _route(server, None, "/metrics", "read", metrics_text),
    ]
    files = None if server.settings.page is None else page_files(server.settings.page)
    for thing in server.things.values():
        routes += _routes_of(server, thing)
        if files is not None:
            routes.append(_route(server, thing, f"/{thing.name}/page/{{path:path}}", None, Page(thing, files)))
    app = Starlette(
        routes=routes,
        middleware=middleware_of(server.settings),
        exception_handlers={HTTPException: _http_error},
        lifespan=_lifespan,
    )
    app.state.server = server
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the tasks of a server while it answers."""
    server: Server = app.state.server
    async with asyncio.TaskGroup() as group:
        running: list[Task] = [partial(_tell_stats, server), *server.tasks]
        tasks = [group.create_task(_apart(one)) for one in running]
        yield
        for task in tasks:
            task.cancel()


async def _apart(task: Task) -> None:
    """Run a task, whose failure ends neither the others nor the server."""
    try:
        await task()
    except Exception as error:
        log_failure("task failed", error)


async def _tell_stats(server: Server) -> None:
    """Send the statistics to those who observe them."""
    while True:
        await asyncio.sleep(STATS_S)
        for thing in server.things.values():
            thing.topics["stats"].publish(thing.stats.summary())


def _routes_of(server: Server, thing: Thing) -> list[Route]:
    handlers: dict[tuple[str, str, str], Handler] = {}
    for name in ("model", "stats"):
        handlers["GET", f"properties/{name}", "read"] = partial(read_property, thing, name)
    for name, path in TOPICS.items():
        handlers["GET", path, "read"] = partial(observe, thing, name)
        handlers["GET", f"{path}/poll", "read"] = partial(poll, thing, name)
    own: dict[str, Handler] = {"applyPatch": partial(apply_patch, thing), "undo": partial(undo, thing)}
    for name in thing_model()["actions"]:  # also those that only another version of the bundle offers
        handlers["POST", f"actions/{name}", RIGHTS.get(name, "read")] = own.get(name, partial(act, thing, name))
    return [
        _route(server, thing, f"/{thing.name}/{path}", right, handler, method)
        for (method, path, right), handler in handlers.items()
    ]


def _route(
    server: Server, thing: Thing | None, path: str, right: str | None, handler: Handler, method: str = "GET"
) -> Route:
    """Return a route whose requests are checked, limited, counted and logged; `right` None is for everybody."""
    of = path if thing is None else path.removeprefix(f"/{thing.name}/").partition("/{")[0]
    stats = server.stats if thing is None else thing.stats

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            holder = _holder(server, request, right)
            response = await handler(request, holder)
        except EdgeRecError as error:
            response = problem_of(error, thing)
        except HTTPException:
            raise
        except Exception as error:
            log_failure("failed", error, request=of)
            response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the server; its log says where", "Error")
        seconds = time.perf_counter() - started
        stats.count(of, response.status_code, seconds if method == "POST" else None)
        if server.settings.access_log:
            name = None if thing is None else thing.name
            log("request", thing=name, of=of, status=response.status_code, ms=round(1e3 * seconds, 3))
        return response

    return Route(path, endpoint, methods=[method])


def _holder(server: Server, request: Request, right: str | None) -> Holder:
    """Return the sender of a request. Raises RefusedError for too many requests, an unknown token, a missing right."""
    client = client_of(request.client.host) if request.client else ""
    holder = server.tokens.holder(request.headers.get("authorization"))
    # Wrong tokens are counted by address, so that guessing is limited too.
    server.rates.take(client if holder is None or not server.tokens.needed else holder.digest)
    if right is None:
        return holder or Holder("", frozenset())
    if holder is None:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "this needs a token; send the header 'Authorization: Bearer TOKEN'")
    if right not in holder.rights:
        raise RefusedError(HTTPStatus.FORBIDDEN, f"this needs a token with the right '{right}'")
    return holder


def server_of(request: Request) -> Server:
    found: Server = request.app.state.server
    return found


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    known = {HTTPStatus.NOT_FOUND: "there is nothing at this path; /.well-known/wot describes what there is"}
    response = problem(status, known.get(status, status.description or status.phrase), "RefusedError")
    response.headers.update(error.headers or {})
    server_of(request).stats.count("other", status)
    return response


# What is there for everybody


async def root(request: Request, holder: Holder) -> Response:
    server = server_of(request)
    page = "/.well-known/wot" if server.settings.page is None else f"/{next(iter(server.things))}/page/"
    return RedirectResponse(page, HTTPStatus.TEMPORARY_REDIRECT)


async def health(request: Request, holder: Holder) -> Response:
    """Answer 200 if the server answers; what of, only those see who may read."""
    return answer({"status": "ok"})


async def well_known(request: Request, holder: Holder) -> Response:
    server = server_of(request)
    if len(server.things) == 1:
        return await td(next(iter(server.things.values())), request, holder)
    titles = {name: thing.title for name, thing in server.things.items()}
    found = description.directory(titles, server.title, base_of(request), server.ids[""], secured=server.tokens.needed)
    return _described(request, found, TD_TYPE)


async def td(thing: Thing, request: Request, holder: Holder) -> Response:
    return _described(request, td_of(thing, request), TD_TYPE)


async def model(request: Request, holder: Holder) -> Response:
    return _described(request, thing_model(), TM_TYPE)


async def openapi_document(request: Request, holder: Holder) -> Response:
    found = openapi({name: td_of(thing, request) for name, thing in server_of(request).things.items()})
    return _described(request, found, "application/json")


def td_of(thing: Thing, request: Request) -> dict[str, Any]:
    """Return the Thing Description of a Thing, for the address at which a request reached it."""
    server = server_of(request)
    return description.description(
        thing.version.parts, thing.name, base_of(request), server.ids[thing.name], secured=server.tokens.needed
    )


def base_of(request: Request) -> str:
    """Return the URL of the server's root, as the proxy offers it or as the client wrote it."""
    settings = server_of(request).settings
    if settings.behind_proxy is not None:
        return settings.behind_proxy.rstrip("/") + "/"
    return f"{request.url.scheme}://{request.headers['host']}/"


def _described(request: Request, found: dict[str, Any], kind: str) -> Response:
    response = answer(found, kind=kind, Vary="Host")
    tag = f'"{description.tag(bytes(response.body))}"'
    caching = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Host"}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=caching)
    response.headers.update(caching)
    return response


# What needs rights


async def things(request: Request, holder: Holder) -> Response:
    server = server_of(request)
    return answer([td_of(thing, request) for thing in server.things.values()])


async def metrics_text(request: Request, holder: Holder) -> Response:
    server = server_of(request)
    stats = {"": server.stats, **{name: thing.stats for name, thing in server.things.items()}}
    text = metrics(stats, {name: thing.version.facts for name, thing in server.things.items()})
    return Response(text, headers={"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})


async def read_property(thing: Thing, name: str, request: Request, holder: Holder) -> Response:
    return answer(_property(thing, name))


def _property(thing: Thing, name: str) -> dict[str, Any]:
    found: dict[str, Any] = thing.version.facts if name == "model" else thing.stats.summary()
    return found


async def act(thing: Thing, action: str, request: Request, holder: Holder) -> Response:
    server = server_of(request)
    content = await body_of(request, server.settings.max_body)
    given = _json_body(request, content)
    writes = action in ("feedback", "forget")
    with (server.writes if writes else server.requests).taken():
        limiter = server.writer if writes else server.workers
        return answer(await anyio.to_thread.run_sync(thing.act, action, given, holder, limiter=limiter))


def _json_body(request: Request, content: bytes) -> Any:
    """Return the JSON value of a body; an empty object for an empty one.

    Raises RefusedError for another content type, with which a web page could send it without permission.
    """
    if not content:
        return {}
    if _kind(request) != "application/json":
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the header 'Content-Type: application/json'")
    return json_of(content)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def apply_patch(thing: Thing, request: Request, holder: Holder) -> Response:
    server = server_of(request)
    with server.patches.taken():
        most = most_patch_bytes(thing)
        if _kind(request) == "application/octet-stream":
            patch = await body_of(request, most)
        else:
            given = _json_body(request, await body_of(request, most * 4 // 3 + 16))
            try:
                patch = base64.b64decode(given, validate=True)
            except (TypeError, ValueError, binascii.Error):
                raise RequestError("the input must be a patch in base64, as a string of JSON") from None
        return answer(await server.updaters[thing.name].apply(patch))


async def undo(thing: Thing, request: Request, holder: Holder) -> Response:
    server = server_of(request)
    _json_body(request, await body_of(request, server.settings.max_body))
    with server.requests.taken():
        return answer(await server.updaters[thing.name].undo())


async def observe(thing: Thing, topic: str, request: Request, holder: Holder) -> Response:
    """Stream the values of a property or an event. A property's first value is sent at once, so that an observer whose
    stream was interrupted misses no change."""
    server = server_of(request)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=STREAM)
    server.streams.check(holder.digest)

    async def lines() -> AsyncIterator[bytes]:
        yield b": open\n\n"
        if topic in ("model", "stats"):
            yield _event(_property(thing, topic))
        async for value in thing.topics[topic].observe(HEARTBEAT_S):
            yield b": here\n\n" if value is None else _event(value)

    return Stream(lines(), partial(server.streams.taken, holder.digest), headers, STREAM)


async def poll(thing: Thing, topic: str, request: Request, holder: Holder) -> Response:
    """Answer with the next value of a property or an event, for clients that poll instead of reading a stream. Spaces
    before the value show that the connection lives."""
    server = server_of(request)
    if request.method == "HEAD":
        return Response(media_type="application/json")
    server.streams.check(holder.digest)

    async def text() -> AsyncIterator[bytes]:
        yield b" "
        async for value in thing.topics[topic].observe(HEARTBEAT_S):
            yield b" " if value is None else json.dumps(value).encode()
            if value is not None:
                return

    return Stream(
        text(), partial(server.streams.taken, holder.digest), {"Cache-Control": "no-store"}, "application/json"
    )


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"

"""Answers and refusals: JSON, streams of events, and problems as RFC 9457 describes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from edgerec.errors import BundleError, EdgeRecError, PatchError, RequestError, SignatureError, StorageError
from edgerec.files import to_json
from edgerec.serve.limits import RefusedError
from edgerec.serve.operations import log
from edgerec.serve.thing import Thing
from edgerec.serve.updates import public

STATUS: tuple[tuple[type[EdgeRecError], HTTPStatus], ...] = (
    (RequestError, HTTPStatus.BAD_REQUEST),
    (SignatureError, HTTPStatus.FORBIDDEN),
    (PatchError, HTTPStatus.CONFLICT),
    (BundleError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageError, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""Statuses of named errors."""
RETRY_S = 5
Place = Callable[[], AbstractContextManager[None]]
_IN_TITLE = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large"}


def answer(value: Any, status: HTTPStatus = HTTPStatus.OK, kind: str = "application/json", **headers: str) -> Response:
    """Return a value as JSON. Ids and titles may have unpaired surrogates, which are escaped."""
    content = to_json(value, compact=True, surrogates="backslashreplace")
    named = {name.replace("_", "-"): one for name, one in headers.items()}
    return Response(content, status, {"Cache-Control": "no-store", **named}, kind)


def problem(status: HTTPStatus, detail: str, error: str, retry_after: int | None = None) -> Response:
    """Return a refusal as RFC 9457 describes it, of the type application/problem+json."""
    title = _IN_TITLE.get(status, status.phrase)
    fields = {"type": "about:blank", "title": title, "status": int(status), "detail": detail, "error": error}
    response = answer(fields, status, "application/problem+json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(error: EdgeRecError, thing: Thing | None) -> Response:
    """Return the refusal of a named error, without the paths of this machine."""
    name = type(error).__name__
    if isinstance(error, RefusedError):
        return problem(error.status, str(error), name, error.retry_after)
    status = next((status for kind, status in STATUS if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    if status < 500 and thing is not None:
        return problem(status, public(thing, error), name)
    log("not answered", error=name, detail=str(error))
    detail = "the bundle or the disk of the server failed; its log says how"
    return problem(status, detail, name, RETRY_S)


class Stream(StreamingResponse):
    """A stream of events, which takes a place as long as it is sent."""

    def __init__(self, lines: AsyncIterator[bytes], place: Place, headers: Mapping[str, str], kind: str) -> None:
        super().__init__(lines, headers=headers, media_type=kind)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place():
            await super().__call__(scope, receive, send)

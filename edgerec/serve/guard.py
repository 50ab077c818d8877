"""Checks before any route: requests of other names of this machine, and of web pages of others, are refused.

Any page of the web can resolve a name of its own to a loopback address (DNS rebinding) and read what is answered there:
that name is in the Host header. Requests of pages from another address have that address in the Origin header.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgerec.serve.answers import problem
from edgerec.serve.settings import Settings, is_loopback

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?", re.ASCII)
DROPPED = 4 << 20
"""Bytes of a refused request that are read, and dropped, before its connection is closed."""
DROPPED_S = 5.0
"""Maximum seconds that this takes."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"""A cross-origin isolated page gets threads and a finer clock."""


class Guard:
    """Refuses foreign hosts and origins, and adds headers to every answer.

    A connection that is closed before its request was read is reset, and a client that still sends may never see the
    answer that it got: therefore the rest of the request is read first, within limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        proxy = settings.behind_proxy
        self._proxy = None if proxy is None else urlsplit(proxy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A client that waits for '100 Continue' sends nothing after a refusal.
        has_rest = "expect" not in headers and (
            "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        )

        async def receiving() -> Message:
            nonlocal has_rest
            message = await receive()
            has_rest = has_rest and bool(message.get("more_body"))
            return message

        async def sending(message: Message) -> None:
            nonlocal has_rest
            if message["type"] == "http.response.start":
                has_rest = has_rest and message["status"] != HTTPStatus.REQUEST_TIMEOUT
                added = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    added.setdefault(name, value)
            elif has_rest and not message.get("more_body"):
                await send({**message, "more_body": True})
                await _drop(receiving)
                message = {"type": "http.response.body"}
            await send(message)

        if not self._is_ours(headers):
            detail = "the Host header is no address of this server; use the one that it prints"
            await problem(HTTPStatus.MISDIRECTED_REQUEST, detail, "RefusedError")(scope, receiving, sending)
        elif not self._is_welcome(headers, scope["scheme"]):
            detail = "pages of other addresses are not answered; name this one with --cors"
            await problem(HTTPStatus.FORBIDDEN, detail, "RefusedError")(scope, receiving, sending)
        else:
            await self._app(scope, receiving, sending)

    def _is_ours(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return False
        if not is_loopback(self._settings.host):
            return True  # a token is needed, which a page that is lured here does not have
        return is_loopback(found[1]) or (self._proxy is not None and found[1].lower() == self._proxy.hostname)

    def _is_welcome(self, headers: Headers, scheme: str) -> bool:
        own = {f"{scheme}://{headers['host']}".lower(), *(one.lower().rstrip("/") for one in self._settings.cors)}
        if self._proxy is not None:
            own.add(f"{self._proxy.scheme}://{self._proxy.netloc}".lower())
        return all(origin.lower() in own for origin in headers.getlist("origin"))


async def _drop(receive: Receive) -> None:
    """Read the rest of a request, as far as the limits allow."""
    left = DROPPED
    with suppress(TimeoutError):
        async with asyncio.timeout(DROPPED_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def middleware_of(settings: Settings) -> list[Middleware]:
    """Return the checks of a server, and the permissions of pages that --cors names."""
    found = [Middleware(Guard, settings=settings)]
    if settings.cors:
        origins, headers = [one.rstrip("/") for one in settings.cors], ["authorization", "content-type"]
        found.append(
            Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=headers)
        )
    return found

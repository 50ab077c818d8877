"""Limits of requests: how many, how large, how long, and what they may hold."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request

from edgerec.errors import EdgeRecError, RequestError

BODY_S = 10.0
"""Maximum seconds in which a client sends a body, for each megabyte of what it may send."""
_BURST_S = 2.0
"""A client may send the requests of this many seconds at once."""
_CLIENTS = 10_000
"""Clients whose rates are remembered: the latest ones."""
_SHOWN = 60


class RefusedError(EdgeRecError):
    """A request is refused with a status of HTTP.

    Attributes:
        retry_after: seconds after which the same request may be answered; None for never.
    """

    def __init__(self, status: HTTPStatus, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Rates:
    """Requests a second of each client, by token buckets."""

    def __init__(self, rate: float) -> None:
        self.rate, self._most = rate, max(1.0, rate * _BURST_S)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now: float | None = None) -> None:
        """Count a request. Raises RefusedError (429) if a client sends too many."""
        if self.rate == 0:
            return
        now = time.monotonic() if now is None else now
        left, before = self._left.get(client, (self._most, now))
        left = min(self._most, left + (now - before) * self.rate)
        if left < 1:
            wait = math.ceil((1 - left) / self.rate)
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS, f"more than {self.rate:g} requests a second; send fewer", wait
            )
        self._left[client] = left - 1, now
        self._left.move_to_end(client)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)


def client_of(address: str) -> str:
    """Return what the requests of an address are counted by: of IPv6 the /64, all of which one subscriber has.

    A link-local address is counted alone: all of a network have one /64.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address) or found.is_link_local:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


class Slots:
    """Places for requests, or streams, at once."""

    def __init__(self, most: int, of: str, share: int | None = None) -> None:
        """
        Args:
            share: maximum number of places of one client; all by default.
        """
        self.most, self._of, self._share = most, of, most if share is None else share
        self._used: Counter[str] = Counter()

    def check(self, client: str = "") -> None:
        """Raise RefusedError (503) if no place is free for a client."""
        if self._used.total() >= self.most:
            self._refuse(f"{self.most} {self._of} at once are the most")
        if self._used[client] >= self._share:
            self._refuse(f"{self._share} {self._of} at once are the most of one token")

    def _refuse(self, reason: str) -> None:
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}; try again", 1)

    @contextmanager
    def taken(self, client: str = "") -> Iterator[None]:
        """Take a place for a client while the block runs. Raises RefusedError (503) if none is free."""
        self.check(client)
        self._used[client] += 1
        try:
            yield
        finally:
            self._used[client] -= 1


async def body_of(request: Request, most: int) -> bytes:
    """Return the body of a request. Raises RefusedError if it has more than `most` bytes, or arrives too slowly."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
        raise _too_large(most)
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_S * (1 + most / 1e6)):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time; send it again") from None
    except ClientDisconnect:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the request ended early; send it again") from None
    return bytes(content)


def _too_large(most: int) -> RefusedError:
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {most} bytes here; send less")


def json_of(content: bytes) -> Any:
    """Parse a JSON value. Raises RequestError for anything else, numbers that are not finite among it."""
    try:
        return json.loads(content, parse_constant=_refused, parse_float=_number)
    except (ValueError, RecursionError):
        raise RequestError('the request is not JSON; send an object, such as {"k": 10}') from None


def _number(text: str) -> int | float:
    """Return 27.0 as the integer that it is in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _refused(name: str) -> Any:
    raise ValueError(name)


_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool
}  # fmt: skip


def check_value(schema: Mapping[str, Any], value: Any, where: str = "the input") -> None:
    """Check a JSON value by the data schema of a description, so that what is described is what is taken.

    Of JSON Schema this knows type, enum, minimum, maximum, minLength, maxLength, minItems, maxItems, items, properties
    and required. Members that `properties` does not name are refused.

    Raises RequestError, which names the member.
    """
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise RequestError(f"{where} must be of type {kind}, got {_shown(value)}")
    if "enum" in schema and value not in schema["enum"]:
        raise RequestError(f"{where} must be one of {', '.join(schema['enum'])}, got {_shown(value)}")
    if kind == "object":
        known = schema.get("properties", {})
        for name, one in value.items():
            if name not in known:
                raise RequestError(f"{where} has an unknown member {_shown(name)}; it may have {', '.join(known)}")
            check_value(known[name], one, name)
        if missing := next((name for name in schema.get("required", ()) if name not in value), None):
            raise RequestError(f"{where} has no {missing}; add it")
        return
    if kind in ("string", "array"):
        word = "Length" if kind == "string" else "Items"
        _check_range(schema, f"min{word}", f"max{word}", len(value), f"the length of {where}")
    else:
        _check_range(schema, "minimum", "maximum", value, where)
    if kind == "array":
        for number, one in enumerate(value):
            check_value(schema["items"], one, f"{where}[{number}]")


def _check_range(schema: Mapping[str, Any], low: str, high: str, value: float, where: str) -> None:
    if not schema.get(low, -math.inf) <= value <= schema.get(high, math.inf):
        most = f" to {schema[high]}" if high in schema else " or more"
        raise RequestError(f"{where} must be {schema.get(low, 'any')}{most}, got {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 128:
        return "a very long number"
    text = json.dumps(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

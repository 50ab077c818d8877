"""A recommender in Home Assistant, by MQTT discovery: a sensor with the best items, and buttons for feedback.

Each Thing is a device. Its history is a session of its own, which no token reads. Topics, with `ID` for the server's
and the Thing's:

    homeassistant/sensor/ID/recommendation/config   retained, for Home Assistant to discover; so for two buttons
    edgerec/ID/recommendation                       the best item: its title, or its id
    edgerec/ID/items                                {"items": [{"item": 50, "score": 0.7, "title": "Film"}], ...}
    edgerec/ID/status                               online, or offline, which the broker says if the server is gone
    edgerec/ID/command                              for others to write: {"like": 1}, the item of that rank,
                                                    {"item": 50} or {"forget": true}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgerec.errors import EdgeRecError, ServeError
from edgerec.extras import require
from edgerec.files import read_bytes
from edgerec.serve.operations import log
from edgerec.serve.thing import Thing
from edgerec.serve.tokens import Holder

Json = dict[str, Any]

DISCOVERY = "homeassistant"
"""Home Assistant's own prefix, unless its owner changed it."""
HOLDER = Holder("mqtt", frozenset({"read", "feedback"}))
SESSION = "home"
K = 10
"""Items of the sensor's attributes."""
LONGEST_STATE = 255
"""Home Assistant's limit of a state, in characters."""
LARGEST_COMMAND = 4096
MOST_COMMANDS = 100
"""Commands that wait; those beyond are dropped."""
HEARTBEAT_S = 60.0
AGAIN_S = (1.0, 60.0)
"""Seconds until the next try to reach the broker: at first, at most."""
PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Broker:
    """A broker of MQTT, as --mqtt and --mqtt-password-file name it."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None

    @classmethod
    def of(cls, url: str, password_file: Path | None) -> Broker:
        """Parse mqtt://[USER@]HOST[:PORT], or mqtts://. Raises ServeError, StorageError."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise _no_url(url)
        if parts.password is not None:
            raise ServeError(
                "everybody on this machine reads a command line; write the broker's password into a file and give "
                "--mqtt-password-file FILE"
            )
        password = None if password_file is None else read_bytes(password_file).decode(errors="replace").strip()
        user = None if parts.username is None else unquote(parts.username)
        if password is not None and user is None:
            raise ServeError("--mqtt-password-file needs a user in --mqtt; write mqtt://USER@HOST")
        return cls(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, password)


def _no_url(url: str) -> ServeError:
    # A mistyped URL may hold a password.
    return ServeError("--mqtt is no URL of a broker; write mqtt://HOST:1883, mqtt://USER@HOST or mqtts://HOST")


async def offer(things: Mapping[str, Thing], broker: Broker, id: str) -> None:
    """Offer Things to Home Assistant until cancelled; a lost broker is looked for again.

    Args:
        id: of the server, the same after each start: letters, digits, - and _.

    Raises MissingExtraError.
    """
    require("aiomqtt", "mqtt")
    async with asyncio.TaskGroup() as group:
        for name, thing in things.items():
            group.create_task(_Device(thing, broker, f"{id}_{name}").run())


class _Device:
    """One Thing as a device of Home Assistant."""

    def __init__(self, thing: Thing, broker: Broker, id: str) -> None:
        self._thing, self._broker, self._id = thing, broker, id
        self._topic = f"edgerec/{id}"
        self._items: list[Json] = []

    async def run(self) -> None:
        aiomqtt = require("aiomqtt", "mqtt")
        least, most = AGAIN_S
        wait = least
        while True:
            try:
                async with self._client(aiomqtt) as client:
                    wait = least
                    await self._connected(client)
            except* (aiomqtt.MqttError, EdgeRecError) as errors:  # HTTP is served meanwhile
                log("mqtt", thing=self._thing.name, reason=_kind(errors), again=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, most)

    def _client(self, aiomqtt: Any) -> Any:
        broker = self._broker
        return aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            identifier=f"edgerec-{self._id}",
            tls_params=aiomqtt.TLSParameters() if broker.tls else None,
            max_queued_incoming_messages=MOST_COMMANDS,
            will=aiomqtt.Will(f"{self._topic}/status", "offline", qos=1, retain=True),
        )

    async def _connected(self, client: Any) -> None:
        await client.subscribe([(f"{self._topic}/command", 1), (f"{DISCOVERY}/status", 1)])
        await self._discover(client)
        await self._recommend(client)
        await client.publish(f"{self._topic}/status", "online", qos=1, retain=True)
        log("mqtt", reason="connected", thing=self._thing.name)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(client))
                group.create_task(self._follow(client))
        except asyncio.CancelledError:
            await client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
            raise

    async def _listen(self, client: Any) -> None:
        async for message in client.messages:
            if message.topic.matches(f"{DISCOVERY}/status"):
                if message.payload == b"online":  # it has started again, and has forgotten states
                    await self._discover(client)
                    await self._recommend(client)
            elif not message.retain and await asyncio.to_thread(self._command, message.payload):
                await self._recommend(client)

    async def _follow(self, client: Any) -> None:
        """Recommend again after each update, until the server stops."""
        async for event in self._thing.topics["modelUpdated"].observe(HEARTBEAT_S):
            if event is not None:
                await self._recommend(client)

    def _command(self, payload: bytes) -> bool:
        """Follow a command, and return True if recommendations may be others now; others' nonsense is refused."""
        try:
            given = json.loads(payload[:LARGEST_COMMAND])
            match given:
                case {"like": int(rank)} if 1 <= rank <= len(self._items):
                    self._act("feedback", {"session": SESSION, "item": self._items[rank - 1]["item"]})
                case {"item": int() | str() as item}:
                    self._act("feedback", {"session": SESSION, "item": item})
                case {"forget": True}:
                    self._act("forget", {"session": SESSION})
                case _:
                    raise ValueError
        except (ValueError, RecursionError, EdgeRecError) as error:
            log("mqtt", reason="command refused", thing=self._thing.name, error=type(error).__name__)
            return False
        return True

    def _act(self, action: str, given: Json) -> Json:
        return self._thing.act(action, given, HOLDER)

    async def _recommend(self, client: Any) -> None:
        k = min(K, self._thing.version.facts["items"])
        who = {"session": SESSION} if self._takes_feedback else {}
        answer = await asyncio.to_thread(self._act, "recommend", {**who, "k": k})
        self._items = answer["items"]
        await client.publish(f"{self._topic}/items", json.dumps(answer), qos=1, retain=True)
        await client.publish(f"{self._topic}/recommendation", state_of(self._items), qos=1, retain=True)

    async def _discover(self, client: Any) -> None:
        for topic, payload in discovery(self._thing, self._id).items():
            await client.publish(topic, json.dumps(payload), qos=1, retain=True)

    @property
    def _takes_feedback(self) -> bool:
        return "feedback" in self._thing.version.parts["actions"]


def _kind(error: BaseException) -> str:
    """Return the name of an error, or of the first one of a group."""
    return _kind(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else type(error).__name__


def state_of(items: list[Json]) -> str:
    """Return the state of the sensor: title or id of the best item. Unpaired surrogates, of which no message can have
    any, are escaped."""
    first = items[0] if items else {"item": "none"}
    return str(first.get("title", first["item"])).encode(errors="backslashreplace").decode()[:LONGEST_STATE]


def discovery(thing: Thing, id: str) -> dict[str, Json]:
    """Return what Home Assistant discovers of a Thing, by topic; a bundle with users has no buttons."""
    topic = f"edgerec/{id}"
    facts = thing.version.facts
    common: Json = {
        "availability_topic": f"{topic}/status",
        "device": {
            "identifiers": [f"edgerec_{id}"],
            "name": thing.title,
            "manufacturer": "EdgeRec",
            "model": f"{facts['items']} items, {facts['layout']} {facts['precision']}",
            "sw_version": facts["sha256"][:12],
        },
        "origin": {"name": "EdgeRec"},
    }
    sensor: Json = {
        "name": "Recommendation",
        "icon": "mdi:star",
        "state_topic": f"{topic}/recommendation",
        "json_attributes_topic": f"{topic}/items",
    }
    buttons: dict[str, Json] = {}
    if "feedback" in thing.version.parts["actions"]:
        buttons = {
            "like": {"name": "Like it", "icon": "mdi:thumb-up", "payload_press": '{"like": 1}'},
            "forget": {"name": "Forget what I liked", "icon": "mdi:delete", "payload_press": '{"forget": true}'},
        }
    entities = {
        ("sensor", "recommendation"): sensor,
        **{("button", name): {**one, "command_topic": f"{topic}/command"} for name, one in buttons.items()},
    }
    return {
        f"{DISCOVERY}/{kind}/{id}/{name}/config": {**one, **common, "unique_id": f"edgerec_{id}_{name}"}
        for (kind, name), one in entities.items()
    }

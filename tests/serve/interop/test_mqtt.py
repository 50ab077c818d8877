"""`--mqtt`: a real broker between the server and Home Assistant's own core."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from edgerec.serve.mqtt import state_of
from tests.serve.conftest import Serve, refused
from tests.serve.interop.clients import HomeAssistant, Mosquitto, awaited, need
from tests.serve.interop.conftest import best

SENSOR, LIKE, FORGET = "sensor.films_recommendation", "button.films_like_it", "button.films_forget_what_i_liked"


def options(broker: Mosquitto) -> list[str | Path]:
    return ["--mqtt", f"mqtt://{broker.user}@127.0.0.1:{broker.port}", "--mqtt-password-file", broker.password_file]


class Messages:
    """The messages of a broker, as mosquitto_sub writes them: the last one of each topic."""

    def __init__(self, broker: Mosquitto) -> None:
        need("mosquitto_sub", "mosquitto_pub", fix="apt install mosquitto-clients")
        place = ["-h", "127.0.0.1", "-p", str(broker.port), "-u", broker.user, "-P", broker.password]
        self._publish = ["mosquitto_pub", *place]
        command = ["mosquitto_sub", *place, "-t", "#", "-F", "%t %p"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.last: dict[str, str] = {}

    def until(self, topic: str, *, retained: bool = True) -> str:
        """Read on until there is a new message whose topic ends so, and return it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found, _, payload = line.rstrip("\n").partition(" ")
            self.last[found] = payload
            if found.endswith(topic):
                return payload
        raise AssertionError(self.last)

    def topic(self, end: str) -> str:
        return next(topic for topic in self.last if topic.endswith(end))

    def send(self, topic: str, payload: str) -> None:
        subprocess.run([*self._publish, "-t", topic, "-m", payload, "-q", "1"], check=True)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def messages(mosquitto: Mosquitto) -> Any:
    found = Messages(mosquitto)
    yield found
    found.close()


@pytest.mark.slow
def test_home_assistant_shows_recommendations_and_takes_feedback(
    serve: Serve, bundle: Path, films: Path, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Its own core validates what is discovered, and names the entities."""
    serve(bundle, "--name", "Films", *options(mosquitto))
    with HomeAssistant(tmp_path / "home", mosquitto) as home:
        home.until(lambda: home.states.keys() >= {SENSOR, LIKE, FORGET} and _shows(home))
        assert home.version == HomeAssistant.VERSION
        popular = _attributes(home)["items"]
        assert home.states[SENSOR]["state"] == popular[0]["title"]
        assert {home.states[button]["state"] for button in (LIKE, FORGET)} == {"unknown"}  # it was not pressed

        home.say("devices")
        home.until(lambda: bool(home.devices))
        ((name, manufacturer, model, _),) = home.devices
        assert (name, manufacturer) == ("Films", "EdgeRec")
        assert model == "120 items, mixed fp32"

        home.say(LIKE)
        home.until(lambda: _attributes(home)["items"] != popular)
        liked = [popular[0]["item"]]
        assert [one["item"] for one in _attributes(home)["items"]] == best(films / "old.bundle", liked, 10)

        home.say(FORGET)
        home.until(lambda: _attributes(home)["items"] == popular)
        errors = home.errors.read_text()
    assert "Error" not in errors
    assert "Invalid config" not in errors


def _shows(home: HomeAssistant) -> bool:
    return "items" in _attributes(home) and home.states[SENSOR]["state"] != "unknown"


def _attributes(home: HomeAssistant) -> dict[str, Any]:
    found: dict[str, Any] = home.states[SENSOR]["attributes"]
    return found


def test_commands_updates_and_a_broker_that_was_away(
    serve: Serve, bundle: Path, films: Path, tokens: Path, mosquitto: Mosquitto, messages: Messages
) -> None:
    served = serve(bundle, "--token-file", tokens, *options(mosquitto))
    assert messages.until("/status") == "online"
    config = json.loads(messages.last[messages.topic("recommendation/config")])
    assert config["state_topic"] == messages.topic("/recommendation")
    assert config["availability_topic"] == messages.topic("/status")
    command = json.loads(messages.last[messages.topic("like/config")])["command_topic"]

    def items() -> list[int | str]:
        return [one["item"] for one in json.loads(messages.until("/items"))["items"]]

    liked = Recommender.load(bundle).item_ids([5, 9])
    for n, one in enumerate(liked, 1):
        messages.send(command, json.dumps({"item": one}))
        assert items() == best(films / "old.bundle", liked[:n], 10)
    for nonsense in (
        "",
        "null",
        '{"like": 0}',
        '{"like": 1000000}',
        '{"item": -1}',
        '{"item": []}',
        "[" * 5000,
    ):
        messages.send(command, nonsense)
    with (films / "there.patch").open("rb") as stream:
        assert served.holding("everything-0123456789abcdef").patch(stream.read()).status == 200
    assert items() == best(films / "new.bundle", Recommender.load(films / "new.bundle").known(liked), 10)
    assert awaited(lambda: sum("command refused" in line for line in served.log) == 7)

    mosquitto.stop()
    mosquitto.start()  # without what it had stored
    again = Messages(mosquitto)
    assert again.until("/status") == "online"
    assert again.last.keys() >= {topic for topic in messages.last if topic.endswith("/config")}
    assert served.stop() == 0
    assert again.until("/status") == "offline"
    again.close()
    assert not [line for line in served.log if mosquitto.password in line]


def test_a_bundle_with_users_has_a_sensor_alone(
    serve: Serve, users: Path, bundle: Path, mosquitto: Mosquitto, messages: Messages
) -> None:
    served = serve(f"books={users}", f"films={bundle}", *options(mosquitto))
    assert {messages.until("/status"), messages.until("/status")} == {"online"}
    kinds = sorted(topic.split("/")[1] for topic in messages.last if topic.endswith("/config"))
    assert kinds == ["button", "button", "sensor", "sensor"]
    popular = served.act("/books/actions/recommend", {"k": 1}).value["items"][0]["item"]
    assert popular in [payload for topic, payload in messages.last.items() if topic.endswith("/recommendation")]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtt://films:secret@127.0.0.1", "write the broker's password into a file and give --mqtt-password-file FILE"),
        ("127.0.0.1:1883", "--mqtt is no URL of a broker; write mqtt://HOST:1883"),
        ("http://127.0.0.1", "--mqtt is no URL of a broker"),
        ("mqtt://127.0.0.1:port", "--mqtt is no URL of a broker"),
    ],
)
def test_a_broker_is_a_url_without_a_password(bundle: Path, tmp_path: Path, url: str, said: str) -> None:
    line = refused(bundle, "--mqtt", url, "--port", "0", "--state", tmp_path)
    assert said in line
    assert "secret" not in line


def test_a_state_is_a_text_that_a_message_can_have() -> None:
    assert state_of([{"item": 7, "title": "half \ud83d of it"}, {"item": 8}]) == "half \\ud83d of it"
    assert state_of([{"item": "x" * 300}]) == "x" * 255
    assert state_of([]) == "none"

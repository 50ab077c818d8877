"""A Home Assistant of its own packages, with the MQTT integration alone, which runs in an environment of its own.

It prints each state that an entity gets as a line of JSON, and takes the names of buttons to press, one a line.
"""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from homeassistant import bootstrap, loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.config_entries import ConfigEntries
from homeassistant.const import EVENT_STATE_CHANGED, __version__
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry
from homeassistant.setup import async_setup_component

ENTRY = {
    **{"entry_id": "mqtt", "version": 1, "minor_version": 1, "domain": "mqtt", "title": "broker", "options": {}},
    **{"pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user"},
    **{"unique_id": None, "disabled_by": None},
}


def say(**line) -> None:
    print(json.dumps(line, default=str), flush=True)


async def main(folder: Path, broker: int, user: str, password: str, port: int) -> None:
    place = {"broker": "127.0.0.1", "port": broker, "username": user, "password": password, "discovery": True}
    entry = {**ENTRY, "data": place}
    key = "core.config_entries"
    stored = {"version": 1, "minor_version": 1, "key": key, "data": {"entries": [entry]}}
    (folder / "configuration.yaml").touch()
    (folder / ".storage").mkdir()
    (folder / ".storage" / key).write_text(json.dumps(stored))

    hass = HomeAssistant(str(folder))
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth_manager_from_config(hass, [{"type": "homeassistant"}], [])

    @callback  # in this thread: lines of others would be mixed
    def changed(event) -> None:
        state = event.data["new_state"]
        if state is not None and state.domain in ("sensor", "button"):
            say(entity=state.entity_id, state=state.state, attributes=dict(state.attributes))

    hass.bus.async_listen(EVENT_STATE_CHANGED, changed)
    http = {"server_host": ["127.0.0.1"], "server_port": port}
    for component, config in {"homeassistant": {}, "http": {"http": http}, "mqtt": {}}.items():
        if not await async_setup_component(hass, component, config):
            sys.exit(f"{component} is not set up")
    await hass.async_start()
    say(running=__version__)

    while line := await hass.loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "devices":
            devices = device_registry.async_get(hass).devices.values()
            say(devices=[[one.name, one.manufacturer, one.model, one.sw_version] for one in devices])
        else:
            await hass.services.async_call("button", "press", {"entity_id": line.strip()}, blocking=True)
    await hass.async_stop(force=True)


if __name__ == "__main__":
    _, where, broker_port, name, word, http_port = sys.argv
    asyncio.run(main(Path(where), int(broker_port), name, word, int(http_port)))

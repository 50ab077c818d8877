"""The Web of Things, as others have built it: W3C's schema, the playground, node-wot and thingctx."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from thingctx import ThingClient
from thingctx.bindings import HttpBinding

from tests.serve.conftest import Serve, Served
from tests.serve.interop.clients import NodeWot
from tests.serve.interop.conftest import TOKEN, best

PROPERTIES = ["model", "stats"]
EVENTS = ["modelUpdated", "patchRefused"]
ACTIONS = ["recommend", "similar", "score", "feedback", "history", "forget", "applyPatch", "undo"]
UPDATES = ACTIONS[6:]
"""Actions that no Thing offers whose server has no tokens."""


def description(served: Served, path: str = "/.well-known/wot") -> dict[str, Any]:
    answer = served.get(path)
    assert answer.headers["content-type"] == "application/td+json"
    td: dict[str, Any] = answer.value
    return td


def inputs(td: dict[str, Any]) -> dict[str, Any]:
    """The example of each action, which its description gives."""
    given = {name: one.get("input", {}).get("examples") for name, one in td["actions"].items()}
    return {name: examples[0] for name, examples in given.items() if examples}


def items(answer: dict[str, Any]) -> list[int | str]:
    return [one["item"] for one in answer["items"]]


@pytest.mark.parametrize("secured", [False, True])
def test_the_schema_of_w3c(serve: Serve, bundle: Path, tokens: Path, secured: bool) -> None:
    schema = json.loads(resources.files("thingctx").joinpath("data/td-schema-1.1.json").read_text())
    td = description(serve(bundle, *(("--token-file", tokens) if secured else ())))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(td)] == []
    assert list(td["properties"]) == PROPERTIES
    assert list(td["events"]) == EVENTS
    assert list(td["actions"]) == (ACTIONS if secured else ACTIONS[:6])


@pytest.mark.slow
def test_the_assertions_of_the_playground(
    serve: Serve, bundle: Path, users: Path, films: Path, tokens: Path, node: Path
) -> None:
    """The playground checks descriptions of bundles with users and without, and of a server of both. It fetches the
    Thing Model too, and compares it with the descriptions that name it."""
    two = serve(f"films={bundle}", f"books={users}", "--token-file", tokens)
    one = serve(films / "new.bundle")
    lines: list[dict[str, Any]] = [{"td": description(two, "/films"), "assert": True}]
    lines += [{"td": one.get("/models/recommender").value, "model": True, "assert": True}]
    lines += [{"td": description(one)}, {"td": description(two)}, {"td": description(two, "/books")}]
    command = ["node", "playground.cjs"]
    given = "\n".join(map(json.dumps, lines))
    done = subprocess.run(command, cwd=node, input=given, capture_output=True, text=True, check=False)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == len(lines), done.stderr
    for report in reports:
        parts = {**report["report"], **report["details"]}
        assert parts["json"] == parts["schema"] == "passed"
        assert [name for name, how in parts.items() if how == "failed"] == []
        assert [one["ID"] for one in report["assertions"] if one["Status"] == "fail"] == []
    passed = [sum(one["Status"] == "pass" for one in report["assertions"]) for report in reports]
    assert passed[0] > 150
    assert passed[1] > 10


def test_node_wot_calls_every_action(serve: Serve, bundle: Path, films: Path, tokens: Path, node: Path) -> None:
    """A patch is sent as a string of JSON and, by the other form, as its bytes."""
    served = serve(bundle, "--token-file", tokens)
    td = description(served)
    patch = base64.b64encode((films / "there.patch").read_bytes()).decode()
    given = inputs(td)
    calls = [*given.items(), ("applyPatch", patch), ("recommend", given["recommend"]), ("undo", None)]
    plan = {"url": f"{served.url}.well-known/wot", "token": TOKEN, "invoke": calls, "binary": [("applyPatch", patch)]}
    client = NodeWot(node, plan)
    client.rest()
    assert client.failures() == []
    assert client.found("property").keys() == {*PROPERTIES}
    actions = [(line["action"], line["value"]) for line in client.lines if "action" in line]
    assert {name for name, _ in actions} == {*ACTIONS}
    before, after = (items(value) for name, value in actions if name == "recommend")
    history, k = given["recommend"]["history"], given["recommend"]["k"]
    assert before == best(films / "old.bundle", history, k)
    assert after == best(films / "new.bundle", history, k)


async def thingctx_calls(td: dict[str, Any], calls: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read, call and hear everything by thingctx; return what came, by property, action and event."""
    binding = HttpBinding(credentials={td["id"]: TOKEN})
    async with ThingClient(tds=[td], bindings=[binding], validate=True) as client:
        found = {name.rpartition("__")[2]: await client.read_property(name) for name in client.list_properties()}
        waiting = asyncio.Event()

        async def first(name: str) -> None:
            async for value in await client.subscribe(name):
                found[name.rpartition("__")[2]] = value
                return

        async def opened() -> None:
            async for _ in await client.subscribe(next(iter(client.list_properties()))):
                waiting.set()  # a property's value is sent at once

        events = [asyncio.create_task(first(name)) for name in client.list_events()]
        other = asyncio.create_task(opened())
        await asyncio.wait_for(waiting.wait(), 60)
        tools = {one["function"]["name"].rpartition("__")[2]: one["function"]["name"] for one in client.list_actions()}
        for action, given in calls:
            found[action] = await client.invoke(tools[action], given)
        await asyncio.wait_for(asyncio.gather(*events), 60)
        other.cancel()
    return found


def test_thingctx_reads_calls_and_hears_everything(serve: Serve, bundle: Path, films: Path, tokens: Path) -> None:
    td = description(serve(bundle, "--token-file", tokens))
    patch = base64.b64encode((films / "there.patch").read_bytes()).decode()
    given = inputs(td)
    calls = [
        *given.items(),
        ("applyPatch", "bm8="),
        ("applyPatch", patch),
        ("recommend", given["recommend"]),
        ("undo", {}),
    ]
    found = asyncio.run(thingctx_calls(td, calls))
    assert found.keys() == {*PROPERTIES, *ACTIONS, *EVENTS}
    history, k = given["recommend"]["history"], given["recommend"]["k"]
    assert items(found["recommend"]) == best(films / "new.bundle", history, k)
    assert found["modelUpdated"] == found["applyPatch"]
    assert found["undo"]["sha256"] == found["model"]["sha256"] != found["applyPatch"]["sha256"]
    assert found["patchRefused"]["error"] == "PatchError"


def test_node_wot_hears_every_event_with_its_token(
    serve: Serve, bundle: Path, films: Path, tokens: Path, node: Path
) -> None:
    # node-wot 0.9.2 leaves more and more polls open, in some runs more than 64 before it has heard everything.
    served = serve(bundle, "--token-file", tokens, "--concurrency", "4096")
    url = f"{served.url}.well-known/wot"
    client = NodeWot(node, {"url": url, "token": TOKEN, "hear": [*EVENTS, "model"]})
    client.until("ready")
    everything = served.holding(TOKEN)
    # It says that it polls once a server has answered HEAD, and polls a moment later: so it is sent more than one.
    for _ in range(100):
        everything.patch(b"no patch")
        everything.patch((films / "there.patch").read_bytes())
        everything.act("undo")
        if client.ended(0.1):
            break
    client.rest()
    assert client.failures() == []
    assert client.found("event").keys() == {*EVENTS}
    assert client.found("observed").keys() == {"model"}


def test_node_wot_hears_every_event(serve: Serve, bundle: Path, films: Path, node: Path, tmp_path: Path) -> None:
    """The server has no tokens, since node-wot's streams of events send none; it finds patches in a folder."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    served = serve(bundle, "--watch", inbox, "--watch-every", "0.2")
    td = description(served)
    plan = {"url": f"{served.url}.well-known/wot", "invoke": [*inputs(td).items()], "hear": [*EVENTS, *PROPERTIES]}
    client = NodeWot(node, plan)
    client.until("ready")
    (inbox / "1.patch").write_bytes(b"no patch")
    shutil.copy(films / "there.patch", inbox / "2.patch")
    client.rest()
    assert client.failures() == []
    assert client.found("action").keys() == {*ACTIONS} - {*UPDATES}
    assert client.found("observed").keys() == {*PROPERTIES}
    heard = client.found("event")
    assert heard["patchRefused"].keys() == {"error", "detail"}
    assert heard["modelUpdated"]["sha256"] != client.found("property")["model"]["sha256"]

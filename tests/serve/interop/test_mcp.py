"""`--mcp`: the official client of the Model Context Protocol starts the server, and uses its tools."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import Client, StdioServerParameters

from edgerec.runtime import Recommender
from edgerec.runtime.ids import id_hash
from edgerec_export import export
from tests.conftest import history_source
from tests.serve.conftest import refused
from tests.serve.interop.conftest import best

TOOLS = {"recommend", "similar", "score", "feedback", "history", "forget"}


def with_client(use: Callable[[Client], Awaitable[None]], *arguments: str | Path, state: Path) -> None:
    """Start a server as an agent does, and use it."""
    given = ["-m", "edgerec.serve", *map(str, arguments), "--mcp", "--state", str(state)]

    async def connected() -> None:
        async with Client(StdioServerParameters(command=sys.executable, args=given, cwd=Path.cwd())) as client:
            await use(client)

    asyncio.run(asyncio.wait_for(connected(), 120))


def test_an_agent_finds_and_calls_every_action(bundle: Path, films: Path, tmp_path: Path) -> None:
    model = Recommender.load(bundle)
    ids = model.item_ids(range(3))

    async def use(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == TOOLS
        read_only = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
        assert read_only == {"recommend", "similar", "score", "history"}

        async def call(name: str, given: dict[str, Any]) -> dict[str, Any]:
            jsonschema.validate(given, tools[name].input_schema)
            result = await client.call_tool(name, given)
            assert not result.is_error, result
            (text,) = result.content
            assert json.loads(text.text) == result.structured_content
            assert tools[name].output_schema is not None
            jsonschema.validate(result.structured_content, tools[name].output_schema)
            answer: dict[str, Any] = result.structured_content
            return answer

        for name, tool in tools.items():
            await call(name, tool.input_schema["examples"][0])
        for one in ids[:2]:
            assert one in (await call("feedback", {"session": "me", "item": one}))["items"]
        answer = await call("recommend", {"session": "me", "k": 5})
        assert [one["item"] for one in answer["items"]] == best(films / "old.bundle", ids[:2])
        for one in answer["items"]:
            described = {"attributes"} if model.attributes(one["item"]) else set()
            assert one.keys() == {"item", "score", "title"} | described

    with_client(use, bundle, state=tmp_path / "state")


@pytest.mark.slow
def test_a_wrong_call_is_answered_with_what_is_wrong(bundle: Path, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        for name, given, reason in (
            ("recommend", {"history": [-1]}, "item -1 is not among the bundle's 120 items"),
            ("recommend", {"k": 0}, "k must be 1 to 120, got 0"),
            ("recommend", {"taste": 1}, "the input has an unknown member"),
            ("applyPatch", {}, "there is no tool 'applyPatch'"),
        ):
            result = await client.call_tool(name, given)
            assert result.is_error
            assert reason in result.content[0].text

    with_client(use, bundle, state=tmp_path / "state")


@pytest.mark.slow
def test_several_bundles_are_told_apart(bundle: Path, users: Path, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"films-recommend", "films-feedback", "books-recommend"} <= tools
        assert "books-feedback" not in tools
        resources = (await client.list_resources()).resources
        assert [str(one.uri) for one in resources] == ["edgerec://films/model", "edgerec://books/model"]
        (content,) = (await client.read_resource("edgerec://books/model")).contents
        assert json.loads(content.text)["users"] == 30

    with_client(use, f"films={bundle}", f"books={users}", state=tmp_path / "state")


@pytest.mark.slow
def test_an_agent_reads_what_items_without_names_are_called(films: Path, tmp_path: Path) -> None:
    hashed, rows = (
        export(history_source(20), tmp_path / ids, verify=False, ids=ids).folder for ids in ("hash64", "none")
    )
    digits = f"{id_hash('film-3é') % 2**64:016x}"

    async def use(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for thing, name in (
            ("films", "Id of the item."),
            ("hashed", "Id of the item, or the hash of its id, 16 hexadecimal digits; answers have the hash."),
            ("rows", "Row of the item in this version of the bundle; the file of --id-map has the ids."),
        ):
            told = name if thing == "films" else f"{name} Answers have no titles."
            recommend, similar = tools[f"{thing}-recommend"], tools[f"{thing}-similar"]
            assert recommend.input_schema["properties"]["history"]["items"]["description"] == told
            assert similar.input_schema["properties"]["item"]["description"] == told
        for one in ("film-3é", digits):  # a hash that was answered is taken
            found = await client.call_tool("hashed-recommend", {"history": [one], "k": 19})
            assert len({item["item"] for item in found.structured_content["items"]} - {digits}) == 19
        found = await client.call_tool("rows-recommend", {"history": [3], "k": 19})
        assert [item["item"] for item in found.structured_content["items"]] == best(rows, [3], 19)

    with_client(use, f"hashed={hashed}", f"rows={rows}", f"films={films / 'old.bundle'}", state=tmp_path / "state")


def test_it_is_for_one_program(bundle: Path) -> None:
    assert "--mcp serves the program that started it alone" in refused(bundle, "--mcp", "--mdns")

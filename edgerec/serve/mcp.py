"""A recommender for agents: a server of the Model Context Protocol on standard input and output.

Its tools are the actions of the Thing Description, with their schemas and descriptions; its resources are the
properties `model`. Actions that change a bundle are no tools: whoever started the server is no holder of that right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgerec.errors import EdgeRecError
from edgerec.extras import require
from edgerec.serve.operations import log_failure
from edgerec.serve.thing import Thing
from edgerec.serve.tokens import LOCAL

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

Json = dict[str, Any]
INSTRUCTIONS = (
    "A recommender of {items} items. Ask 'recommend' with ids of items that the person liked, or with a session that "
    "'feedback' fills. Scores of one answer can be compared with each other only."
)


def mcp_server(things: Mapping[str, Thing]) -> Server[Any]:
    """Return a server whose tools are the actions of Things; 'films-recommend' where there are several.

    Raises MissingExtraError.
    """
    lowlevel, types = require("mcp.server.lowlevel", "mcp"), require("mcp_types", "mcp")
    tools = {f"{name}-{action}" if len(things) > 1 else action: (name, action) for name, action in _actions(things)}

    async def list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(
            tools=[_tool(types, tool, things[name], action) for tool, (name, action) in tools.items()]
        )

    async def call_tool(context: Any, params: Any) -> Any:
        if params.name not in tools:
            return _failed(types, f"there is no tool {params.name!r}; there are {', '.join(tools)}")
        name, action = tools[params.name]
        try:
            answer = await asyncio.to_thread(things[name].act, action, params.arguments or {}, LOCAL)
        except EdgeRecError as error:
            return _failed(types, str(error))
        except Exception as error:
            log_failure("failed", error, thing=name, action=action)
            return _failed(types, "the recommender failed; its log names the cause")
        text = types.TextContent(type="text", text=json.dumps(answer, ensure_ascii=False))
        return types.CallToolResult(content=[text], structured_content=answer)

    async def list_resources(context: Any, params: Any) -> Any:
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=_uri(name),
                    name=f"{name}-model",
                    title=f"{thing.title}: {thing.version.parts['properties']['model']['title']}",
                    description=thing.version.parts["properties"]["model"]["description"],
                    mime_type="application/json",
                )
                for name, thing in things.items()
            ]
        )

    async def read_resource(context: Any, params: Any) -> Any:
        for name, thing in things.items():
            if str(params.uri) == _uri(name):
                text = json.dumps(thing.version.facts)
                content = types.TextResourceContents(uri=_uri(name), mime_type="application/json", text=text)
                return types.ReadResourceResult(contents=[content])
        raise require("mcp", "mcp").MCPError(types.INVALID_PARAMS, "there is no such resource")

    items = sum(thing.version.facts["items"] for thing in things.values())
    server: Server[Any] = lowlevel.Server(
        "edgerec",
        version=next(iter(things.values())).version.parts["version"]["instance"],
        title=", ".join(thing.title for thing in things.values()),
        instructions=INSTRUCTIONS.format(items=items),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )
    return server


def serve_stdio(things: Mapping[str, Thing], tasks: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
    """Answer on standard input and output until the client closes them, or Ctrl-C.

    Args:
        tasks: what runs meanwhile, such as looking for patches.

    Raises MissingExtraError.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_run_stdio(mcp_server(things), tasks))


async def _run_stdio(server: Server[Any], tasks: Sequence[Callable[[], Awaitable[None]]]) -> None:
    running = [asyncio.ensure_future(one()) for one in tasks]
    try:
        async with require("mcp.server.stdio", "mcp").stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        for one in running:
            one.cancel()


def _actions(things: Mapping[str, Thing]) -> list[tuple[str, str]]:
    return [
        (name, action)
        for name, thing in things.items()
        for action in thing.version.parts["actions"]
        if action not in ("applyPatch", "undo")
    ]


def _tool(types: Any, tool: str, thing: Thing, action: str) -> Any:
    about: Json = thing.version.parts["actions"][action]
    return types.Tool(
        name=tool,
        title=about["title"],
        description=about["description"],
        input_schema={**about["input"], "additionalProperties": False},
        output_schema=about["output"],
        annotations=types.ToolAnnotations(
            read_only_hint=about["safe"],
            idempotent_hint=about["idempotent"],
            destructive_hint=action == "forget",
            open_world_hint=False,
        ),
    )


def _failed(types: Any, reason: str) -> Any:
    """Return a result that a model reads, and corrects its request by."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=reason)], is_error=True)


def _uri(name: str) -> str:
    return f"edgerec://{quote(name)}/model"

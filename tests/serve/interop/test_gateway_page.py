"""The page on gateways: its commands, its programs and its settings are used as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.docs.pages import ROOT, blocks
from tests.serve.interop.clients import HomeAssistant, Mosquitto, need
from tests.serve.interop.conftest import best

PAGE = (ROOT / "docs" / "guide" / "gateway.md").read_text()
ADDRESS = "http://127.0.0.1:8080/"
START, CALLS, HOME = blocks(PAGE, "console")
LIKED: list[int | str] = [17, 4]


def edgerec(line: str, *more: str | Path) -> list[str]:
    """The process of a command of the page."""
    words = shlex.split(line.removeprefix("$ "))
    assert words[0] == "edgerec"
    return [sys.executable, "-m", "edgerec.cli", *words[1:], *map(str, more)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's bundle is."""
    folder = tmp_path_factory.mktemp("gateway")
    for line in START.splitlines()[:2]:
        done = subprocess.run(edgerec(line), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def url(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the page's server, on a port that is free here."""
    _, _, line, address = START.splitlines()
    assert address == ADDRESS
    with running(edgerec(line, "--port", "0", "--state", tmp_path / "state"), folder) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def running(command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_any_program_and_node_wot(folder: Path, url: str, node: Path) -> None:
    need("curl", fix="apt install curl")
    *calls, shown = CALLS.splitlines()
    answers = []
    for line in calls:
        command = shlex.split(line.removeprefix("$ ").replace(ADDRESS, url))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout))
    assert answers[1]["items"] == LIKED
    wanted = best(folder / "films.bundle", LIKED, 2)
    assert [one["item"] for one in answers[2]["items"]] == wanted
    described = json.loads(shown)
    assert described.keys() == answers[2].keys()
    assert [one["item"] for one in described["items"]] == wanted
    assert [one["score"] for one in described["items"]] == pytest.approx(
        [one["score"] for one in answers[2]["items"]], rel=0.02
    )

    (program,) = blocks(PAGE, "js")
    (node / "program.mjs").write_text(program.replace(ADDRESS, url))
    done = subprocess.run(["node", "program.mjs"], cwd=node, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"item: (\d+)", done.stdout) == [str(one) for one in wanted]
    overrides = json.loads((Path(__file__).parent / "wot" / "package.json").read_text())["overrides"]
    assert f'"overrides": {json.dumps(overrides)}' in PAGE


@pytest.mark.slow
def test_home_assistant(folder: Path, mosquitto: Mosquitto, tmp_path: Path) -> None:
    (folder / "broker.txt").write_text(mosquitto.password)
    (line,) = HOME.splitlines()
    there = line.replace("@127.0.0.1", f"@127.0.0.1:{mosquitto.port}")
    (card,) = blocks(PAGE, "yaml")
    entities = set(re.findall(r"  - (\S+)", card))
    with running(edgerec(there, "--port", "0", "--state", tmp_path / "state"), folder) as process:
        with HomeAssistant(tmp_path / "home", mosquitto) as home:
            home.until(lambda: home.states.keys() >= entities)
            assert home.states.keys() == entities
        process.terminate()


@pytest.mark.slow
def test_an_agent(folder: Path, tmp_path: Path) -> None:
    settings, call = map(json.loads, blocks(PAGE, "json"))
    films = settings["mcpServers"]["films"]
    assert films["command"] == "python"
    arguments = [*films["args"], "--state", str(tmp_path / "state")]

    async def answer() -> Any:
        server = StdioServerParameters(
            command=sys.executable, args=arguments, cwd=folder, env={"PYTHONPATH": str(ROOT)}
        )
        async with Client(server) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert all(f"`{name}`" in PAGE for name in tools)
            return await client.call_tool(call["name"], call["arguments"])

    result = asyncio.run(asyncio.wait_for(answer(), 120))
    wanted = best(folder / "films.bundle", call["arguments"]["history"], call["arguments"]["k"])
    assert [one["item"] for one in result.structured_content["items"]] == wanted

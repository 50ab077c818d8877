"""Clients of others: their programs, and a broker between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgerec.runtime import Recommender
from tests.serve.interop.clients import Mosquitto, node_folder

TOKEN = "everything-0123456789abcdef"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of one token, with every right."""
    path = tmp_path / "tokens"
    path.write_text(f"read,feedback,update {TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder with the programs of `wot/` and their packages."""
    folder = tmp_path / "node"
    folder.mkdir()
    return node_folder(folder)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of MQTT for one test."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


def best(bundle: Path, history: list[int | str], k: int = 5) -> list[int | str]:
    """Python's answer."""
    return [one.item for one in Recommender.load(bundle).recommend(history=history, k=k)]

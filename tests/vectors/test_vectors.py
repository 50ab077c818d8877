"""The test vectors: Python's runtime answers them, and they are what the exporter makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgerec_export.layouts import LAYOUTS
from tests.vectors.answers import OTHER, TRUSTED
from tests.vectors.cases import ONCE
from tests.vectors.check import failures, names, ranking_failure, values_failure
from tests.vectors.folding import of_tables_alone
from tests.vectors.make import FOLDER, make

COMMAND = "python -m tests.vectors.make"
ANSWERS = ("tolerance", "ranking", "scores", "vector")
MOST_BYTES = 2_100_000
"""They are copied with every clone."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors, made now."""
    folder = tmp_path_factory.mktemp("vectors")
    make(folder)
    return folder


def requests(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "requests" / f"{name}.json").read_text())["requests"]
    return found


@pytest.mark.parametrize("name", names())
def test_the_runtime_answers_them(name: str) -> None:
    assert not failures(name)


def test_every_form_of_a_bundle_is_among_them() -> None:
    for layout in LAYOUTS:
        for precision in ONCE:
            assert f"{layout}-{precision}-users" in names()
            assert {f"{layout}-{precision}-linear", f"{layout}-{precision}-ials"} & set(names())
        assert {f"{layout}-{precision}-ncf" for precision in ONCE} & set(names())
    files = [path for part in ("bundles", "requests", "keys") for path in (FOLDER / part).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_they_are_what_the_command_makes(fresh: Path) -> None:
    assert names(fresh) == names(), COMMAND
    for key in (TRUSTED, OTHER):
        assert (fresh / key).read_bytes() == (FOLDER / key).read_bytes()
    for name in names():
        asked = [
            [{part: value for part, value in one.items() if part not in ANSWERS} for one in requests(folder, name)]
            for folder in (FOLDER, fresh)
        ]
        assert asked[0] == asked[1], f"{name}: {COMMAND}"


@pytest.mark.slow
def test_what_the_exporter_makes_now_answers_them(fresh: Path, tmp_path: Path) -> None:
    """Graphs may differ by onnx's version, answers may not."""
    shutil.copytree(fresh / "bundles", tmp_path / "bundles")
    shutil.copytree(FOLDER / "requests", tmp_path / "requests")
    shutil.copytree(FOLDER / "keys", tmp_path / "keys")
    assert not [line for name in names() for line in failures(name, tmp_path)], COMMAND


@pytest.mark.parametrize("name", names())
def test_nothing_is_made_of_tables_at_load(name: str) -> None:
    for path in (FOLDER / "bundles" / name).glob("*.onnx"):
        assert not of_tables_alone(path)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ([("a", 3.0), ("c", 2.0), ("b", 2.0)], True),
        ([("a", 3.05), ("b", 2.0), ("d", 1.95)], True),
        ([("a", 3.0), ("b", 2.0)], False),
        ([("a", 3.0), ("b", 2.0), ("b", 2.0)], False),
        ([("b", 2.0), ("a", 3.0), ("c", 2.0)], False),
        ([("a", 3.2), ("b", 2.0), ("c", 2.0)], False),
        ([("a", 3.0), ("b", float("nan")), ("c", 2.0)], False),
        ([("a", 3.0), ("x", 2.0), ("c", 2.0)], False),
    ],
)
def test_rankings_are_compared_group_by_group(answer: list[tuple[Any, float]], right: bool) -> None:
    groups = [[["a", 3.0]], [["b", 2.0], ["c", 2.0], ["d", 1.95]]]
    request = {"k": 3, "tolerance": 0.1, "ranking": groups}
    assert (ranking_failure(answer, request) is None) == right


def test_numbers_that_are_none_are_not_close() -> None:
    request = {"call": "score", "tolerance": 0.1, "scores": [1.0]}
    assert values_failure([1.05], request) is None
    for wrong in ([float("nan")], [], [1.0, 1.0], [1.2]):
        assert values_failure(wrong, request) is not None

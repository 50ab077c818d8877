"""JSON of our own is read strictly: what is wrong is a ValueError that says where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from edgerec.cli import app
from edgerec.errors import StorageError
from edgerec.files import to_json
from edgerec.json_records import MOST_DEEP, checked, parse_json, parse_toml, record


@dataclass(frozen=True)
class Point:
    at: tuple[int, float]
    name: str | None = None
    more: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.at[0] < 0:
            raise ValueError("at is below 0")


class Shape(TypedDict):
    kind: Literal["line", "ring"]
    points: list[Point]
    marks: NotRequired[Mapping[str, dict[str, bool]]]


@dataclass(frozen=True)
class Drawing:
    shapes: list[Shape]
    about: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b'{"a": NaN}', "nan is no finite number"),
        (b"[-Infinity]", "inf is no finite number"),
        (b"[1e999]", "inf is no finite number"),
        (b'{"a": %d}' % 2**64, "more than 64 bits"),
        (b"[-%d]" % (2**63 + 1), "more than 64 bits"),
        (b"9" * 5000, "digits"),
        (b'["\\ud800"]', "surrogates"),
        (b'{"\\udfff": 1}', "surrogates"),
        (b"[" * 100_000, "64 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "64 levels"),
        (b"[" * (MOST_DEEP + 2) + b"]" * (MOST_DEEP + 2), "64 levels"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_no_file_of_ours_holds_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(content)


def test_what_is_written_is_read() -> None:
    value = {"a": [1, 2**64 - 1, -(2**63), 0.5, True, None, "Bjørn 🎬"], "b": {"c": [[]]}}
    assert parse_json(to_json(value)) == value
    assert parse_json(to_json({"name": "\udcff.csv"})) == {"name": "?.csv"}


@pytest.mark.parametrize("content", [b"a = nan", b"a = -inf", b"a = " + b"9" * 400, b"a = " + b"[" * 5000, b"a = \xff"])
def test_toml_is_held_to_the_same(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"finite|64|utf-8"):
        parse_toml(content)


GOOD: dict[str, Any] = {
    "shapes": [{"kind": "ring", "points": [{"at": [1, 2]}, {"at": [3, 0.5], "name": "x", "more": ["y"]}], "other": 1}]
}


def test_an_object_becomes_its_classes() -> None:
    drawing = record(Drawing, GOOD)
    assert drawing.shapes[0]["points"] == [Point((1, 2)), Point((3, 0.5), "x", ("y",))]
    assert drawing.about == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ([], "it must be an object, got []"),
        ({}, "it has no shapes"),
        ({**GOOD, "x": 1}, "it has an unknown 'x'"),
        ({"shapes": {}}, "it.shapes must be a list"),
        ({"shapes": [3]}, "it.shapes[0] must be an object, got 3"),
        ({"shapes": [{"kind": "ring"}]}, "it.shapes[0] has no points"),
        ({"shapes": [{"kind": "dot", "points": []}]}, "it.shapes[0].kind must be 'line' or 'ring', got 'dot'"),
        ({"shapes": [{"kind": [], "points": []}]}, "it.shapes[0].kind must be"),
        ({"shapes": [{"kind": "line", "points": [{"at": [1]}]}]}, "points[0].at must have 2 entries, got 1"),
        ({"shapes": [{"kind": "line", "points": [{"at": [True, 1]}]}]}, "at[0] must be a whole number, got True"),
        ({"shapes": [{"kind": "line", "points": [{"at": [1.0, 1]}]}]}, "at[0] must be a whole number, got 1.0"),
        ({"shapes": [{"kind": "line", "points": [{"at": [1, "2"]}]}]}, "at[1] must be a finite number, got '2'"),
        ({"shapes": [{"kind": "line", "points": [{"at": [1, float("nan")]}]}]}, "at[1] must be a finite number"),
        ({"shapes": [{"kind": "line", "points": [{"at": [-1, 2]}]}]}, "at is below 0"),
        ({"shapes": [{"kind": "line", "points": [{"at": [1, 2], "name": 3}]}]}, "name must be text, got 3"),
        ({"shapes": [{"kind": "line", "points": [], "marks": {"a": {"b": 1}}}]}, "marks.a.b must be true or false"),
        ({"shapes": "x" * 1000}, "got '" + "x" * 39 + "..."),
    ],
)
def test_what_is_wrong_is_named(change: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        record(Drawing, change)
    assert says in str(caught.value)


def test_an_annotation_that_json_has_not_is_the_programmers_error() -> None:
    with pytest.raises(TypeError, match="cannot be read"):
        checked(set[int], [1])


def test_the_command_line_hides_no_programming_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **more: Any) -> None:
        raise TypeError("a fault of the program")

    monkeypatch.setattr(app.group, "main", broken)
    with pytest.raises(TypeError, match="a fault of the program"):
        app.run(["train"])


def test_what_the_system_refuses_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any, **more: Any) -> None:
        raise OSError(36, "File name too long", "nnn")

    monkeypatch.setattr(app.group, "main", refused)
    with pytest.raises(StorageError, match="cannot use nnn: File name too long"):
        app.run(["train"])

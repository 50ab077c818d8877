"""Keywords of the Python API: each entry point takes exactly the settings of its request, with the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import edgerec
from edgerec.request import TrainRequest
from edgerec.streaming import StreamRequest
from edgerec_bench import Settings, bench
from edgerec_export import ExportRequest, export


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Every parameter that may be given by name, and its default."""
    parameters = inspect.signature(function).parameters
    return {name: one.default for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}


def defaults(request: type) -> dict[str, Any]:
    """Every field of a dataclass, and its default."""
    return {field.name: field.default for field in fields(request)}


@pytest.mark.parametrize(
    ("function", "request_settings", "others"),
    [
        (
            edgerec.train,
            keywords(TrainRequest.make),
            {"interactions", "out", "resume", "overwrite", "progress", "workers"},
        ),
        (
            edgerec.train_stream,
            keywords(StreamRequest.make),
            {"interactions", "out", "resume", "overwrite", "progress"},
        ),
        (export, defaults(ExportRequest), {"source", "out", "overwrite", "progress"}),
        (bench, defaults(Settings), {"bundle", "device", "progress"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_entry_point_has_the_settings_of_its_request(
    function: Callable[..., Any], request_settings: dict[str, Any], others: set[str]
) -> None:
    own, inner = keywords(function), ("previous", "one_file", "stated_limit")
    assert {name: default for name, default in own.items() if name not in others} == {
        name: default for name, default in request_settings.items() if name not in inner
    }


@pytest.mark.parametrize("function", [edgerec.train, edgerec.train_stream, export, bench])
def test_every_keyword_is_typed_and_documented(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    documented = text[text.index("Args:") : text.index("Raises:")]
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD
        assert f" {name}: " in documented or f" {name}, " in documented or f", {name}: " in documented

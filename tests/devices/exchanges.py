"""Requests to agents and their answers, compared with protocol.schema.json."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from edgerec_devices import Local
from edgerec_devices.protocol import Request
from edgerec_devices.web.node import Node


@cache
def schema() -> Any:
    return json.loads((files("edgerec_devices.agent") / "protocol.schema.json").read_text())


@cache
def _validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


def faults_of(request: Request, answer: Any) -> list[str]:
    """What of an exchange is not as the protocol says, in lines; none where all is."""
    exchange = json.loads(json.dumps({"request": request, "answer": answer}))
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(exchange)]


def checked(request: Request, answer: Any) -> Any:
    """The answer, which follows the protocol."""
    assert faults_of(request, answer) == []
    return answer


class CheckedLocal(Local):
    """This machine, each of whose answers follows the protocol."""

    def run(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = checked(request, super().run(request))
        return answer


class CheckedNode(Node):
    """Node, each of whose answers follows the protocol."""

    def run(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = checked(request, super().run(request))
        return answer

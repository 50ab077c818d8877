"""Devices for tests: this machine with a part of its answers changed, as other agents and clocks answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgerec_devices import Local

Answer = dict[str, Any]


class Changed(Local):
    """This machine, whose answers and facts a test changes.

    Attributes:
        asked: every request.
    """

    def __init__(
        self, change: Callable[[Answer, Answer], Answer] = lambda request, answer: answer, **facts: object
    ) -> None:
        super().__init__()
        self._change, self._facts = change, facts
        self.asked: list[Answer] = []

    def info(self) -> Answer:
        return {**super().info(), **self._facts}

    def run(self, request: Answer) -> Answer:
        self.asked.append(request)
        return self._change(request, super().run(request))

"""What every device can do: say what it is, take files, measure, give files back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edgerec_devices import agent

Request = dict[str, Any]
"""What the agent is asked to measure: JSON, described in `edgerec_devices.agent`."""

AGENT = agent.__name__
"""The module that measures; it needs the standard library, numpy, onnxruntime and edgerec.runtime."""


class Device(Protocol):
    """A machine, near or far. Every verb raises BenchError where it cannot be done.

    Attributes:
        name: its address, as --device takes it.
        timeout: seconds that one request may take.
    """

    name: str
    timeout: float

    @property
    def memory(self) -> int | None:
        """Bytes that it was given where it was opened with so many."""

    def info(self) -> dict[str, Any]:
        """What the machine is: JSON; a fact that cannot be read is absent."""

    def push(self, folder: Path) -> str:
        """Bring a bundle's folder there and return its path on the device."""

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of the device and return the agent's answer."""

    def pull(self, place: str, folder: Path) -> None:
        """Fetch what lies at `place` on the device into the folder `folder` here."""

"""The interface of every device, and of every kind of device: how it is written, opened, set up and found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgerec.errors import BenchError
from edgerec.files import cache_folder, storage_failure
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


Tell = Callable[[str], None]
"""Called with what takes long now: 'sending 3 files'."""


def silent(_: str) -> None:
    """The Tell of those who do not listen."""


@dataclass(frozen=True)
class Options:
    """How a device is opened.

    Attributes:
        offline: the device fetches nothing itself.
        memory: bytes of memory of a device that is started here; None for its own default.
    """

    offline: bool = False
    memory: int | None = None
    tell: Tell = silent


@dataclass(frozen=True)
class Lack:
    """A part that is missing here, and the command that brings it."""

    what: str
    mend: str


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Attributes:
        name: what an address begins with, up to a colon.
        form: how an address is written.
        about: what it is, in a line.
        open: the device of an address, as a context; raises BenchError.
        lacks: what this machine needs for it and has not; nothing is changed, nothing fetched.
        set_up: brings what `edgerec devices setup NAME` can bring, to `place`, as a whole or not at all, and
            does nothing where it is there; None where nothing is to be set up.
        here: addresses of devices of this kind that are there now, attached to this machine; asked where nothing is
            lacking.
        place: what set_up makes; None for `kept(NAME)`.
    """

    name: str
    form: str
    about: str
    open: Callable[[str, Options], AbstractContextManager[Device]]
    lacks: Callable[[], list[Lack]] = list
    set_up: Callable[[Tell], None] | None = None
    here: Callable[[], list[str]] = list
    place: Callable[[], Path] | None = None


def kept(name: str) -> Path:
    """Where a kind keeps what it was set up with; it can be made again."""
    return cache_folder("devices") / name


def set_up(kind: Kind, tell: Tell, *, again: bool = False) -> None:
    """Bring what a kind of device needs.

    Args:
        again: even if it is there; where that fails, what was there stays.

    Raises:
        BenchError: it has nothing that is set up, or could not be.
        StorageError: the file system refuses.
    """
    if kind.set_up is None:
        raise BenchError(f"for {kind.name} nothing is set up; what it needs: edgerec devices list")
    place = kind.place() if kind.place else kept(kind.name)
    aside = place.with_name(f".{place.name}.before")
    try:
        if again and place.exists():
            shutil.rmtree(aside, ignore_errors=True)
            place.rename(aside)
        kind.set_up(tell)
    except OSError as error:
        storage_failure(place, error, "make")
    finally:
        if not place.exists():
            with suppress(OSError):
                aside.rename(place)
        shutil.rmtree(aside, ignore_errors=True)

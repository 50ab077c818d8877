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
class Missing:
    """A part that is missing on this machine, and the command that installs it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Attributes:
        name: the part of an address before the first colon.
        form: the syntax of an address.
        about: a one-line description.
        open: opens the device of an address as a context manager; raises BenchError.
        missing: lists the requirements that this machine does not meet. It changes nothing and fetches nothing.
        set_up: installs what `edgerec devices setup NAME` can install into `place`, completely or not at all, and
            does nothing if it is installed already; None if there is nothing to set up.
        discover: lists the addresses of the devices of this kind that are attached to this machine; called only if
            nothing is missing.
        place: the path that `set_up` creates; None for `setup_folder(NAME)`.
    """

    name: str
    form: str
    about: str
    open: Callable[[str, Options], AbstractContextManager[Device]]
    missing: Callable[[], list[Missing]] = list
    set_up: Callable[[Tell], None] | None = None
    discover: Callable[[], list[str]] = list
    place: Callable[[], Path] | None = None


def setup_folder(name: str) -> Path:
    """Return the cache folder of a kind's installed files; `set_up` can create it again."""
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
    place = kind.place() if kind.place else setup_folder(kind.name)
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

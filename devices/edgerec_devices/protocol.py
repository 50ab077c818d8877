"""Interfaces of devices and of kinds of devices: their addresses, how they are opened, set up and discovered."""

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
"""A request to the agent: a JSON object, described in `edgerec_devices.agent`."""

AGENT = agent.__name__
"""Name of the module that measures; it needs numpy, onnxruntime and edgerec.runtime."""


class Device(Protocol):
    """A local or remote machine. Every method raises BenchError if it cannot be done.

    Attributes:
        name: the address, as --device takes it.
        timeout: maximum seconds of one request.
    """

    name: str
    timeout: float

    @property
    def memory(self) -> int | None:
        """The memory limit in bytes that the device was opened with; None without a limit."""

    def info(self) -> dict[str, Any]:
        """Return facts about the machine as JSON values; facts that cannot be read are absent."""

    def push(self, folder: Path) -> str:
        """Copy a bundle's folder to the device and return its path there."""

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh process of the device and return the agent's answer."""

    def pull(self, place: str, folder: Path) -> None:
        """Copy the folder `place` of the device into the local folder `folder`."""


Tell = Callable[[str], None]
"""A callback for progress messages of long steps: 'sending 3 files'."""


def silent(_: str) -> None:
    """Ignore progress messages."""


@dataclass(frozen=True)
class Options:
    """Options for opening a device.

    Attributes:
        offline: the device downloads nothing itself.
        memory: bytes of memory of a device that is started on this machine; None for the device's default.
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
    """Install what a kind of device needs.

    Args:
        again: install even if it is installed already; if that fails, the existing files stay.

    Raises:
        BenchError: this kind has nothing to set up, or the setup failed.
        StorageError: a file system operation failed.
    """
    if kind.set_up is None:
        raise BenchError(f"{kind.name} has nothing to set up; `edgerec devices list` shows what it needs")
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

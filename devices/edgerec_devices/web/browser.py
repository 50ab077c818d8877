"""A browser as a device: headless Chromium, or any browser that opens the printed address.

Each request runs in a fresh page, and with headless Chromium in a fresh browser. The page gets it from a local server.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, Self

from edgerec.errors import BenchError
from edgerec_devices.local import Local
from edgerec_devices.protocol import Kind, Missing, Options, Request, Tell, silent
from edgerec_devices.web import chromium, files
from edgerec_devices.web.agent import KERNEL, answer_in, facts_here, refuse_others, runtime_facts
from edgerec_devices.web.local_http import LOOPBACK
from edgerec_devices.web.server import WebServer

CHROMIUM = "wasm:chromium"
"""The address of headless Chromium with the kernel."""
FORM = "browser[:webgpu][:open[@host[:port]]]"
START_S = 60.0
"""Seconds for a started browser to open the page."""
OPEN_S = 900.0
"""Seconds for a person to open the page."""


class Address(NamedTuple):
    """The parts of a browser's address."""

    webgpu: bool = False
    opened: bool = False
    host: str = LOOPBACK
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address. Raises BenchError if it is invalid."""
        found = re.fullmatch(r"browser(:webgpu)?(:open(?:@([^\s:/@]+)(?::(\d{1,5}))?)?)?", text)
        if found is None:
            raise BenchError(f"{text!r} is no address of a browser; give {FORM}")
        webgpu, opened, host, port = found.groups()
        if host is not None and _anywhere(host):
            raise BenchError(
                f"{host} is no address that a browser can open; give this machine's address in its network"
            )
        return cls(webgpu is not None, opened is not None, host or LOOPBACK, int(port or 0))


def _anywhere(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


class Browser:
    """A browser with onnxruntime-web. As a context manager it stops its server at the end.

    Example:
        >>> with Browser() as device:
        ...     bench("films.bundle", device=device)

    Attributes:
        name: the address.
        timeout: maximum seconds of one request.
        server: the server of the page.
    """

    def __init__(
        self,
        address: str = "browser",
        *,
        heap: int | None = None,
        timeout: float = 600.0,
        flags: Sequence[str] = (),
        tell: Tell | None = None,
        kernel: bool = False,
    ) -> None:
        """
        Args:
            kernel: measure the kernel instead of onnxruntime-web; `name` is then 'wasm:chromium'.
            heap: maximum bytes of WebAssembly's memory; None for the browser's own limit.
            flags: additional command line options of a started browser.

        Raises:
            BenchError: the address is invalid, onnxruntime-web is not set up, or the port is in use.
        """
        self.name, self.timeout = CHROMIUM if kernel else address, timeout
        self._address = Address.parse(address)
        self._flags, self._tell = list(flags), tell or silent
        if self._address.webgpu:
            self._flags.append("--enable-unsafe-webgpu")
        self._provider, self.memory = KERNEL if kernel else "webgpu" if self._address.webgpu else "wasm", heap
        self._folders: dict[str, Path] = {}
        runtime = [] if kernel else [files.installed() / name for name in files.RUNTIME]
        if not self._address.opened:
            chromium.find_chromium()
        self.server = WebServer(self._address.host, self._address.port)
        self.server.serve([*files.PAGE.glob("*.html"), *files.DIST.glob("*.mjs"), *files.KERNELS])
        self.server.serve(runtime, "ort/", lasting=True)
        if self._address.opened:
            # Printed, because a message of `tell` may be truncated, or replaced before it is read.
            print(f"open {self.server.address} in the browser that is to be measured", file=sys.stderr, flush=True)
            self._tell("waiting for a browser")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def info(self) -> dict[str, Any]:
        """Return the page's facts about the browser; for a started browser, the facts about this machine too."""
        return ({} if self._address.opened else facts_here()) | self._page_facts

    def push(self, folder: Path) -> str:
        """Serve the files of a bundle to the page without copying them, and return their place on the server."""
        place = f"bundles/{len(self._folders)}"
        self._folders[place] = folder
        self.server.serve([path for path in folder.glob("*") if path.is_file()], f"{place}/")
        return place

    def run(self, request: Request) -> dict[str, Any]:
        """Measure in a fresh page.

        Raises:
            DoesNotFitError: the bundle needs more memory than WebAssembly can have.
            BenchError: no browser, the browser crashed, the page was closed or ran longer than `timeout`, or it cannot
                do the request.
        """
        refuse_others(request, "a browser")
        message = {**request, "provider": self._provider, "heap": self.memory}
        # A browser that a person opened is not started or stopped.
        started = nullcontext() if self._address.opened else chromium.launch(self.server.address, self._flags)
        with started as browser:
            answer = self.server.request(
                message,
                connect=START_S if browser else OPEN_S,
                seconds=self.timeout,
                ended=browser.ended if browser else lambda: None,
                same=browser is None,
            )
        complaints = {"complaints": answer["complaints"]} if answer.get("complaints") else {}
        return answer_in(answer, self.name) | complaints

    def pull(self, place: str, folder: Path) -> None:
        """Copy a pushed bundle to `folder`. Raises BenchError if it was not pushed, StorageError."""
        if place not in self._folders:
            raise BenchError(f"{self.name} has no folder {place!r}; push one first")
        Local().pull(str(self._folders[place]), folder)

    @cached_property
    def _page_facts(self) -> dict[str, Any]:
        return {
            **self.run({"task": "facts"}),
            **runtime_facts("browser", self._provider, self.memory),
            "isolation": "fresh page" if self._address.opened else "fresh browser",
        }


def _open(address: str, options: Options) -> Browser:
    if options.offline:
        raise BenchError("a browser fetches nothing from elsewhere; leave --offline out")
    return Browser(address, heap=options.memory, tell=options.tell)


def missing() -> list[Missing]:
    """List the browser and onnxruntime-web if they are missing."""
    return [*chromium.missing(), *files.missing()]


KIND = Kind(
    "browser",
    FORM,
    "headless Chromium, or any browser that opens the printed page",
    _open,
    missing,
    files.set_up,
    place=files.runtime_folder,
)

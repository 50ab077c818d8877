"""The announcement of Things in the local network, as W3C's WoT Discovery describes it: DNS-SD with `_wot._tcp`."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any

from edgerec.errors import ServeError
from edgerec.extras import require
from edgerec.serve.operations import log
from edgerec.serve.settings import LOOPBACK

SERVICE = "_wot._tcp.local."
_LONGEST = 63
"""Maximum number of bytes of a label of DNS."""


class Announcement:
    """The announcement of a server's Things, in the networks of the address that it listens on."""

    def __init__(self, things: Mapping[str, str], host: str, port: int, scheme: str) -> None:
        """
        Args:
            things: paths of the descriptions by title.
            scheme: 'http' or 'https'.

        Raises:
            MissingExtraError
            ServeError: the host is a name.
        """
        self._zeroconf, self._asyncio = require("zeroconf", "mdns"), require("zeroconf.asyncio", "mdns")
        self._things, self._port, self._scheme = things, port, scheme
        try:
            self._address = ipaddress.ip_address(LOOPBACK if host == "localhost" else host.strip("[]"))
        except ValueError:
            raise ServeError(f"--mdns announces an address, and --host {host} is a name; give its address") from None

    async def run(self) -> None:
        """Announce the Things until cancelled. A network that refuses is named in the log: HTTP needs none of this."""
        unspecified = self._address.is_unspecified
        try:
            interfaces = self._zeroconf.InterfaceChoice.All if unspecified else [str(self._address)]
            network = self._asyncio.AsyncZeroconf(interfaces=interfaces)
        except OSError as error:
            log("not announced", reason=error.strerror)
            return
        try:
            for title, path in self._things.items():
                await network.async_register_service(self._service(title, path), allow_name_change=True)
            log("announced", service=SERVICE, things=len(self._things))
            await asyncio.get_running_loop().create_future()
        finally:
            await network.async_unregister_all_services()
            await network.async_close()

    def _service(self, title: str, path: str) -> Any:
        addresses = [str(self._address)]
        if self._address.is_unspecified:
            addresses = [one for one in self._zeroconf.get_all_addresses() if one != LOOPBACK] or [LOOPBACK]
        label = title.replace(".", " ").encode()[:_LONGEST].decode(errors="ignore")
        return self._zeroconf.ServiceInfo(
            SERVICE,
            f"{label}.{SERVICE}",
            port=self._port,
            properties={"td": path, "type": "Thing", "scheme": self._scheme},
            parsed_addresses=addresses,
        )

"""Files on an Android device, named by their content and kept from run to run."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec.runtime.manifest import FILE_NAME
from edgerec_devices.android_bridge import ROOT, Bridge
from edgerec_devices.kinds import Tell


class Store:
    """What is kept on a device, in folders below `/data/local/tmp/edgerec`."""

    def __init__(self, bridge: Bridge, tell: Tell) -> None:
        self._bridge, self._tell = bridge, tell

    def send(self, kind: str, paths: list[Path]) -> str:
        """Those of the files that are not there, whole, yet.

        Args:
            kind: the folder that the files' own folder is made in.

        Returns:
            Their folder; it is named by all their contents.

        Raises:
            BenchError: no connection, no space there, or a damaged arrival.
            StorageError: a file cannot be read here.
        """
        content = {path: sha256(path) for path in paths}
        named = sorted((path.name, digest) for path, digest in content.items())
        place = f"{ROOT}/{kind}/{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"
        wanted = self._missing(place, content)
        if wanted:
            nbytes = sum(path.stat().st_size for path in wanted)
            self._tell(f"sending {len(wanted)} file{'s' * (len(wanted) > 1)}, {format_bytes(nbytes)}")
            self._put(place, {path: content[path] for path in wanted})
        return place

    def _put(self, place: str, content: Mapping[Path, str]) -> None:
        part = f"{ROOT}/parts/{secrets.token_hex(8)}"
        # Without a manifest a folder is no bundle: it comes last.
        paths = sorted(content, key=lambda path: (path.name == FILE_NAME, path))
        try:
            self._bridge.shell(f"mkdir -p {part} {place}")
            self._bridge.push(paths, part)
            if damaged := self._missing(part, content):
                raise BenchError(f"{self._bridge.name}: {damaged[0].name} arrived damaged or in part; try again")
            self._bridge.shell(" && ".join(f"mv -f {part}/{shlex.quote(path.name)} {place}/" for path in paths))
        finally:
            with suppress(BenchError):  # what went wrong has been told, or will be the next time
                self._bridge.shell(f"rm -rf {part}")

    def _missing(self, folder: str, content: Mapping[Path, str]) -> list[Path]:
        """Those that are not in a folder there with these bytes; of this size, where it has no sha256sum."""
        script = (
            f"cd {folder} 2>/dev/null || exit 0; if command -v sha256sum >/dev/null; then sha256sum *; else wc -c *; fi"
        )
        lines = (
            line.split(maxsplit=1) for line in self._bridge.shell(f"{{ {script}; }} 2>/dev/null; true").splitlines()
        )
        seen = {words[1]: words[0] for words in lines if len(words) == 2}
        return [
            path for path, digest in content.items() if seen.get(path.name) not in (digest, str(path.stat().st_size))
        ]

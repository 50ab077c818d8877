"""Looking for patches and bundles: files in a folder, or one file at a URL.

A patch names the version that it is for, so that of many patches those that lead from the current version are applied,
in their order, whatever their names. Each is taken once: a patch that was undone is not applied again, unless it is
posted. A bundle in one file is installed if its rollback index is not smaller than the current one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import anyio

from edgerec.errors import EdgeRecError, PatchError, StorageError, reason_of
from edgerec.files import open_plain, read_if_there, write_json
from edgerec.runtime.manifest import LIMITS
from edgerec.runtime.patch.patchfile import MAGIC as PATCH
from edgerec.runtime.patch.patchfile import PatchFile, most_inflated, most_result_bytes
from edgerec.serve.operations import log, log_failure
from edgerec.serve.settings import is_url
from edgerec.serve.updates import Updater, most_patch_bytes

SUFFIXES = (".patch", ".edgerec")
FETCH_S = 30.0
_SETTLED_S = 1.0
"""A file that was written to more recently may not be whole yet."""
_TAKEN = 1000
"""Updates that are remembered: the latest ones."""


@dataclass(frozen=True)
class Found:
    """A patch or a bundle.

    Attributes:
        digest: sha256 of its content.
        base: sha256 of the version that a patch is for; None for a bundle, and for a damaged patch.
    """

    content: bytes
    digest: str
    base: str | None


async def _apart(fetch: Callable[[], Found | None]) -> Found | None:
    """Return what a function returns, in a thread that a stopping server does not wait for: a site may never answer."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Found | None] = loop.create_future()

    def tell(found: Found | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(found)
        else:
            done.set_exception(error)

    def run() -> None:
        found, failed = None, None
        try:
            found = fetch()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, found, failed)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _remembered(memory: Path) -> list[str]:
    try:
        found = json.loads(read_if_there(memory) or b"[]")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise StorageError(f"{memory} is damaged; remove it, and what the place of --watch holds is looked at again")
    return found


class Watch:
    """Looks for the updates of one Thing."""

    def __init__(self, updater: Updater, place: str, every_s: float, memory: Path) -> None:
        """Watch a folder or a URL.

        Args:
            memory: file in which the taken updates are remembered.

        Raises StorageError if the memory cannot be read.
        """
        self._updater, self._place, self._every_s, self._memory = updater, place, every_s, memory
        self._taken = _remembered(memory)
        self._etags: dict[str, str] = {}
        """The ETag of the URL whose file was taken last."""
        self._fault = ""
        self._looked: dict[str, tuple[tuple[int, int], str, str | None]] = {}
        """The time and size of each file, with its digest and base, so that it is read once."""

    async def run(self) -> None:
        """Look again and again."""
        while True:
            try:
                while await self.look():
                    pass
                self._fault = ""
            except (EdgeRecError, OSError, ValueError, HTTPException) as error:
                self._etags.clear()  # an ETag that the site refuses would keep all updates away
                self._report(reason_of(error))
            except Exception as error:
                log_failure("watch failed", error, thing=self._updater.thing.name)
            await asyncio.sleep(self._every_s)

    async def look(self) -> bool:
        """Look once, and return True if an update was applied: another may follow it.

        Raises EdgeRecError, OSError, ValueError if the place cannot be read.
        """
        found = await (_apart(self._fetched) if is_url(self._place) else anyio.to_thread.run_sync(self._from_folder))
        if found is None:
            return False
        before = self._updater.thing.version
        try:
            await self._updater.take(found.content, patch=found.content.startswith(PATCH))
        except StorageError:
            self._etags.clear()
            raise  # it is taken when there is space
        except EdgeRecError:
            pass  # refused, and logged
        self._taken = [*self._taken, found.digest][-_TAKEN:]
        await anyio.to_thread.run_sync(write_json, self._memory, self._taken)
        return self._updater.thing.version is not before

    def _report(self, fault: str) -> None:
        """Log a place that cannot be read, once."""
        if fault != self._fault:
            self._fault = fault
            log("watch failed", thing=self._updater.thing.name, detail=fault)

    def _most_bytes(self) -> int:
        """Return the maximum size of a bundle: the current one may grow as much as by a patch."""
        return most_result_bytes(self._updater.thing.version.facts["bytes"], 0) + LIMITS["head_bytes"]

    def _from_folder(self) -> Found | None:
        """Return the first file of the folder that is for the current version."""
        paths = sorted(path for path in Path(self._place).iterdir() if path.suffix in SUFFIXES)
        self._looked = {path.name: self._looked[path.name] for path in paths if path.name in self._looked}
        for path in paths:
            status = path.lstat()
            identity = status.st_mtime_ns, status.st_size
            known = self._looked.get(path.name)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._most_bytes():
                continue
            if time.time() - status.st_mtime < _SETTLED_S:
                continue
            if known is not None and known[0] == identity and not self._is_due(known[1], known[2]):
                continue
            with suppress(FileNotFoundError), open_plain(path) as stream:
                found = self._found(stream.read())
                self._looked[path.name] = identity, found.digest, found.base
                if self._is_due(found.digest, found.base):
                    return found
        return None

    def _is_due(self, digest: str, base: str | None) -> bool:
        return digest not in self._taken and base in (None, self._updater.thing.version.sha256)

    def _fetched(self) -> Found | None:
        """Return the file at the URL, unless it is the one of the last time, or there is none (204, 404, 410)."""
        version = self._updater.thing.version
        url = self._place.replace("{model}", version.sha256)
        request = urllib.request.Request(url, headers={"If-None-Match": self._etags[url]} if url in self._etags else {})
        most = max(self._most_bytes(), most_patch_bytes(self._updater.thing))
        try:
            with urllib.request.urlopen(request, timeout=FETCH_S) as response:
                if not isinstance(response, HTTPResponse):
                    raise PatchError("--watch was redirected to what is no HTTP; name another URL")
                content, missing, etag = response.read(most + 1), response.length, response.headers.get("ETag")
        except urllib.error.HTTPError as error:
            if error.code in (304, 404, 410):
                return None
            raise
        if not content:
            return None
        if len(content) > most:
            raise PatchError(f"the file at --watch has more than {most} bytes, and no update of this bundle has")
        if missing:  # read() returns what came before the connection ended
            raise PatchError(f"the file at --watch ended {missing} bytes early; it is fetched again")
        self._etags = {url: etag} if etag else {}
        found = self._found(content)
        return found if self._is_due(found.digest, found.base) else None

    def _found(self, content: bytes) -> Found:
        """Return an update with the version that it is for; a damaged one is refused when it is taken."""
        base = None
        if content.startswith(PATCH):
            with suppress(PatchError, KeyError, TypeError, ValueError):
                most = most_inflated(self._updater.thing.version.facts["bytes"])
                base = str(PatchFile(content).open(most).header["base"]["manifest"])
        return Found(content, hashlib.sha256(content).hexdigest(), base)

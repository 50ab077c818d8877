"""Updates of a Thing under running requests: patches that are posted, or found by looking into a folder or at a URL."""

from __future__ import annotations

import asyncio
import ctypes
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio

from edgerec.errors import EdgeRecError, StorageError
from edgerec.files import locked, read_bytes, write_bytes
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import FILE_NAME, PREVIOUS_NAME, manifest_bytes, read_manifest
from edgerec.runtime.patch.patchfile import most_inflated
from edgerec.runtime.patch.updates import clean, restore
from edgerec.runtime.stored import unpack
from edgerec.serve.operations import log
from edgerec.serve.settings import Settings
from edgerec.serve.thing import Json, Thing, Version

_ROOM = 1 << 16
"""Data that cannot be deflated takes slightly more than its bytes."""


def most_patch_bytes(thing: Thing) -> int:
    """Return the maximum size of a patch for the bundle of a Thing."""
    most = most_inflated(thing.version.facts["bytes"])
    return int(most + most // 1000 + _ROOM)


class Updater:
    """Changes a Thing's bundle, one change after the other."""

    def __init__(self, thing: Thing, settings: Settings, scratch: Path) -> None:
        """Prepare the updates of a Thing; bundles are unpacked in a folder of their own in `scratch`."""
        self._scratch = scratch
        self.thing, self._changing = thing, asyncio.Lock()
        self._trusted, self._threads = settings.trusted or None, settings.threads
        self._allow_rollback = settings.allow_rollback

    async def apply(self, patch: bytes) -> Json:
        """Apply a patch, and return the property 'model'. Raises PatchError, SignatureError, BundleError, StorageError;
        nothing was changed then, and observers hear of it."""
        return await self._change(lambda: self.thing.live.apply(patch), "patch")

    async def undo(self) -> Json:
        """Return to the bundle before the last patch. Raises as `apply` does."""
        return await self._change(self.thing.live.undo, "undo")

    async def take(self, content: bytes, *, patch: bool) -> Json:
        """Apply a patch or install a bundle that was found. Raises as `apply` does."""
        return await (self.apply(content) if patch else self._change(lambda: self._install(content), "bundle"))

    def _restore(self, manifest: bytes) -> None:
        """Install the version before again if a new one was installed whose graphs do not open, or fail."""
        thing = self.thing
        if restore(thing.folder, manifest):
            thing.live = Recommender.load(thing.folder, threads=self._threads, trusted=self._trusted)

    def _install(self, content: bytes) -> None:
        """Replace the bundle by one in one file, if its rollback index is not smaller than the current one."""
        thing = self.thing
        least = 0 if self._allow_rollback else thing.live.manifest.rollback_index
        with locked(self._scratch), tempfile.TemporaryDirectory(prefix=".update-", dir=self._scratch) as scratch:
            for one in self._scratch.iterdir():
                if one != Path(scratch):  # of a killed server
                    shutil.rmtree(one, ignore_errors=True)
            file, folder = Path(scratch, "bundle"), Path(scratch, "folder")
            write_bytes(file, content)
            found = Recommender.load(file, trusted=self._trusted, min_rollback_index=least)
            if found.sha256 == thing.live.sha256:
                return
            if thing.folder.is_file():
                thing.opened(found)
                write_bytes(thing.folder, content)
            else:
                unpack(file, folder)
                install(folder, thing.folder)
        thing.live = Recommender.load(thing.folder, threads=self._threads, trusted=self._trusted)

    async def _change(self, change: Callable[[], None], of: str) -> Json:
        thing = self.thing

        def changed() -> Version:
            # An undone version was removed, and answered before.
            before = b"" if of == "undo" or thing.folder.is_file() else manifest_bytes(thing.folder)
            try:
                change()
                return thing.version if thing.live.sha256 == thing.version.sha256 else thing.opened()
            except EdgeRecError:
                if before:
                    self._restore(before)
                raise

        async with self._changing:
            try:
                version = await anyio.to_thread.run_sync(changed)
            except EdgeRecError as error:
                thing.refuse(type(error).__name__, public(thing, error, self._scratch))
                log("update refused", thing=thing.name, of=of, error=type(error).__name__, detail=str(error))
                raise
            if version is not thing.version:
                log("model updated", thing=thing.name, of=of, sha256=version.sha256)
                thing.replace(version)
                await anyio.to_thread.run_sync(_return_memory)
            return version.facts


def _return_memory() -> None:
    """Return to the system what the old version and the patch took.

    glibc holds it otherwise, in pieces between the memory of running requests: 50 MB after 80 patches (glibc 2.36).
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)


def install(new: Path, folder: Path) -> None:
    """Install the bundle in the folder `new` in `folder`, as a patch does: the old one can be restored by `undo`.

    Files are named by their content, so that those of both versions stand together, and renaming the manifest installs
    the bundle. Raises StorageError; the old bundle is whole then.
    """
    manifest = read_manifest(new)
    with locked(folder):
        try:
            for entry in manifest.files:
                write_bytes(folder / entry.name, read_bytes(new / entry.name))
            write_bytes(folder / PREVIOUS_NAME, manifest_bytes(folder))
            write_bytes(folder / FILE_NAME, manifest_bytes(new))
        finally:
            clean(folder)


def public(thing: Thing, error: EdgeRecError, scratch: Path | None = None) -> str:
    """Return an error's message without the paths of this machine: those of the bundle, and of what is unpacked."""
    if isinstance(error, StorageError):
        return "the disk of the server failed; its log says how"
    text = str(error)
    if scratch is not None:
        text = re.sub(rf"{re.escape(str(scratch))}/\.update-\w+/\w+", "the bundle", text)
    places = {str(thing.folder), str(thing.folder.absolute()), str(thing.folder.resolve())}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, thing.name)
    return text

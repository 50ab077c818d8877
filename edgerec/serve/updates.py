"""Updates of a Thing under running requests: patches that are posted, or found by looking into a folder or at a URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from edgerec.errors import EdgeRecError
from edgerec.runtime.patch.patchfile import most_inflated
from edgerec.serve.operations import log
from edgerec.serve.thing import Json, Thing, Version

_ROOM = 1 << 16
"""Data that cannot be deflated takes slightly more than its bytes."""


def most_patch_bytes(thing: Thing) -> int:
    """Return the maximum size of a patch for the bundle of a Thing."""
    most = most_inflated(thing.version.facts["bytes"])
    return int(most + most // 1000 + _ROOM)


class Updater:
    """Changes a Thing's bundle, one change after the other."""

    def __init__(self, thing: Thing) -> None:
        self.thing, self._changing = thing, asyncio.Lock()

    async def apply(self, patch: bytes) -> Json:
        """Apply a patch, and return the property 'model'. Raises PatchError, SignatureError, BundleError, StorageError;
        nothing was changed then, and observers hear of it."""
        return await self._change(lambda: self.thing.live.apply(patch), "patch")

    async def undo(self) -> Json:
        """Return to the bundle before the last patch. Raises as `apply` does."""
        return await self._change(self.thing.live.undo, "undo")

    async def _change(self, change: Callable[[], None], of: str) -> Json:
        thing = self.thing

        def changed() -> Version:
            change()
            return thing.version if thing.live.sha256 == thing.version.sha256 else thing.opened()

        async with self._changing:
            try:
                version = await anyio.to_thread.run_sync(changed)
            except EdgeRecError as error:
                thing.refuse(type(error).__name__, public(thing, error))
                log("update refused", thing=thing.name, of=of, error=type(error).__name__, detail=str(error))
                raise
            if version is not thing.version:
                log("model updated", thing=thing.name, of=of, sha256=version.sha256)
                thing.replace(version)
            return version.facts


def public(thing: Thing, error: EdgeRecError) -> str:
    """Return an error's message without the paths of this machine."""
    text = str(error)
    places = {str(thing.folder), str(thing.folder.absolute()), str(thing.folder.resolve())}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, thing.name)
    return text

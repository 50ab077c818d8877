"""Sessions of a server: the histories of people, each readable by the token that began it alone.

A session is a file of the runtime's own format (`edgerec.runtime.Session`) in state/sessions/THING/OWNER, whose names
are hashes: of the token, and of the name that the client chose. Folders and files are their owner's alone.
"""

from __future__ import annotations

import hashlib
import os
from http import HTTPStatus
from pathlib import Path

from edgerec.files import storage_failure
from edgerec.runtime import Recommender, Session
from edgerec.serve.limits import RefusedError
from edgerec.serve.tokens import Holder

MOST_SESSIONS = 10_000
"""Maximum number of sessions of one token and Thing."""


class Sessions:
    """The sessions of one Thing.

    A session is read from its file for each request: nothing of it stays in memory, and processes may share the files.
    """

    def __init__(self, folder: Path, limit: int, most: int = MOST_SESSIONS) -> None:
        self._folder, self._limit, self._most = folder, limit, most

    def open(self, model: Recommender, holder: Holder, name: str) -> Session:
        """Return a session, which is empty if it is not there. Raises StorageError."""
        return model.session(self._path(holder, name), limit=self._limit)

    def add(self, model: Recommender, holder: Holder, name: str, item: int | str) -> Session:
        """Add an item to a session, which begins with it if it is not there.

        Raises:
            RequestError: the bundle does not know the item.
            RefusedError: the token has too many sessions (409).
            StorageError: the file system refuses.
        """
        path = self._path(holder, name)
        self._make(path.parent)
        if not path.exists() and sum(1 for _ in os.scandir(path.parent)) >= self._most:
            raise RefusedError(HTTPStatus.CONFLICT, f"a token has at most {self._most} sessions; forget some")
        session = self.open(model, holder, name)
        session.add(item)
        return session

    def _path(self, holder: Holder, name: str) -> Path:
        key = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
        return self._folder / holder.digest[:32] / f"{key}.json"

    def _make(self, folder: Path) -> None:
        """Make a folder; those above it are the state folder's, which is there."""
        try:
            folder.mkdir(0o700, exist_ok=True)
        except OSError as error:
            storage_failure(folder, error, "make")

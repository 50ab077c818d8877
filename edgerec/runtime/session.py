"""A history that grows on the device and never leaves it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RequestError, StorageError
from edgerec.files import locked, open_plain, remove, storage_failure, to_json, write_bytes
from edgerec.runtime.ids import OnUnknown, RawId
from edgerec.runtime.inputs import shown, whole

if TYPE_CHECKING:
    from edgerec.runtime.recommender import Recommendation, Recommender

FORMAT, VERSION = "edgerec.history", 1
EXACT = 1 << 53
"""Smallest integer that is stored as text, since JavaScript, which shares the format, would round it."""


class Session:
    """The history of one person, and recommendations from it. It is thread-safe.

    Example:
        >>> session = Recommender.load("films.bundle").session("~/.local/share/films/history.json")
        >>> session.add(50)
        >>> session.recommend(k=10)
    """

    def __init__(self, model: Recommender, path: str | Path | None, limit: int) -> None:
        if not whole(limit, 1):
            raise RequestError(f"a history remembers at least one item, a whole number, got a limit of {shown(limit)}")
        self._model, self._limit = model, limit
        self._path = None if path is None else Path(path).expanduser()
        self._changing = threading.Lock()
        self._items = self._stored()[-limit:]

    @property
    def items(self) -> tuple[RawId, ...]:
        """Raw ids, the latest last, at most `limit`. Ids that the bundle does not know are stored, but not used."""
        return self._items

    def add(self, item: RawId) -> None:
        """Remember an item, once.

        Raises:
            RequestError: the bundle does not know it.
            StorageError: the history cannot be written.
        """
        self._model.item_rows([item])
        one = item.item() if isinstance(item, np.generic) else item
        self._change(lambda items: items if one in items else (*items, one))

    def forget(self, item: RawId | None = None) -> None:
        """Forget one item, or all items and the file.

        Raises:
            RequestError: what is given is no id.
            StorageError: the history cannot be written.
        """
        if isinstance(item, bool) or not isinstance(item, (int, str, np.integer, type(None))):
            raise RequestError(f"an item is one id, a whole number or text, got {item!r}")
        self._change(lambda items: () if item is None else tuple(one for one in items if one != item))

    def recommend(
        self,
        k: int = 10,
        *,
        exclude: Iterable[RawId] = (),
        allow: Iterable[RawId] | None = None,
        rarity: float = 0,
        on_unknown: OnUnknown = "error",
    ) -> list[Recommendation]:
        """Recommend as `Recommender.recommend`, with the items so far as the history."""
        model = self._model.snapshot()  # a patch may change the known items
        history = model.known(self._items)
        return model.recommend(history=history, k=k, exclude=exclude, allow=allow, rarity=rarity, on_unknown=on_unknown)

    def score(self, items: Iterable[RawId]) -> NDArray[np.float32]:
        """Return (len(items),) float32 scores as `Recommender.score`, with the items so far as the history."""
        model = self._model.snapshot()
        return model.score(history=model.known(self._items), items=items)

    def _change(self, change: Callable[[tuple[RawId, ...]], tuple[RawId, ...]]) -> None:
        """Change the items and the file, from the file's current content, which other processes may have changed."""
        with self._changing:
            if self._path is None:
                self._items = change(self._items)[-self._limit :]
                return
            folder = self._path.parent
            try:
                folder.mkdir(0o700, parents=True, exist_ok=True)
            except OSError as error:
                storage_failure(folder, error, "make")
            with locked(folder):
                before = self._stored()
                self._items = change(before[-self._limit :])[-self._limit :]
                if not self._items:
                    remove(self._path)
                elif self._items != before:
                    write_bytes(self._path, _written(self._items), private=True)

    def _stored(self) -> tuple[RawId, ...]:
        if self._path is None:
            return ()
        try:
            with open_plain(self._path) as stream:
                return _parsed(stream.read(), self._path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            storage_failure(self._path, error, "read")


def _written(items: tuple[RawId, ...]) -> bytes:
    plain = [{"int": str(one)} if isinstance(one, int) and abs(one) >= EXACT else one for one in items]
    history = {"format": FORMAT, "version": VERSION, "items": plain}
    return to_json(history, compact=True, surrogates="backslashreplace")  # ids may have unpaired surrogates


def _parsed(content: bytes, path: Path) -> tuple[RawId, ...]:
    try:
        fields = json.loads(content)
        if fields["format"] == FORMAT and fields["version"] == VERSION:
            return tuple(map(_id, fields["items"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # reported below
    raise StorageError(f"{path} is no history of EdgeRec; remove it or name another file")


def _id(value: Any) -> RawId:
    found = int(value["int"]) if isinstance(value, dict) else value
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise TypeError(value)
    return found

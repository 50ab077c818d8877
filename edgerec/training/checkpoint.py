"""Checkpoints, from which a fit resumes after a kill, each one file, and the state of a command's output folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError, TableError
from edgerec.files import atomic_write, remove, remove_leftovers, torn_files
from edgerec.json_records import parse_json, record
from edgerec.models import State, Vectors
from edgerec.ranks import ALONE, Ranks
from edgerec.tables import load_arrays
from edgerec.tables.texts import storable

FILE_NAME = "checkpoint.npz"
SEARCH = "search"
"""The folder in a run's folder that stores a search's results until the run is finished."""
_SERIAL = "serial"
"""Name of the number of the save in a shard."""


@dataclass
class Snapshot:
    """The state of a fit.

    Attributes:
        loop: phase, candidate, epoch, scores and history, as JSON.
        trainer: state of the trainer; of several ranks, each saves its rows of tables, and loads those of all.
        best: the vectors with the best validation score so far; their users as in `trainer`.
    """

    loop: dict[str, Any]
    trainer: State = field(default_factory=dict)
    best: Vectors | None = None


class _Shards(TypedDict):
    """The files of several ranks that belong to a checkpoint.

    `serial` is the number of the save; every second one replaces the same files, so that those of the last complete
    save stay whole until the next one is complete.
    """

    serial: int
    count: int


class _File(TypedDict):
    """The content of a checkpoint in addition to its arrays."""

    key: str
    loop: dict[str, Any]
    shards: NotRequired[_Shards]


class Checkpoint:
    """The checkpoints of one run, one a fit; they are valid for the command that wrote them alone.

    Several ranks write one each, a shard with their rows, and rank 0 the file that makes them valid together. Any
    number of ranks resumes from them.
    """

    def __init__(
        self, folder: Path, command: dict[str, Any], *, fresh: bool = False, number: int = 0, ranks: Ranks = ALONE
    ) -> None:
        """Create the checkpoint of the run in `folder`.

        Args:
            command: everything that decides the result: data, split, backbone, method, budget, seed, settings.
            fresh: ignore an existing file, which the first save replaces.
            number: number of the fit, for methods that fit more than once.
            ranks: the processes that save and load together, in one folder that all of them see.
        """
        self.path = folder / (f"checkpoint-{number}.npz" if number else FILE_NAME)
        self.folder = folder
        self._command, self._fresh, self._number, self._ranks, self._serial = command, fresh, number, ranks, 0
        text = json.dumps({**command, "fit": number}, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()

    def of_fit(self, number: int) -> Checkpoint:
        """Return the checkpoint of the run's fit of a number."""
        return Checkpoint(self.folder, self._command, fresh=self._fresh, number=number, ranks=self._ranks)

    def of_search(self) -> Checkpoint:
        """Return the checkpoint of the run's search, in a folder of its own."""
        return Checkpoint(self.folder / SEARCH, self._command)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint. Raises StorageError."""
        arrays = {f"trainer.{name}": value for name, value in snapshot.trainer.items()}
        if snapshot.best is not None:
            arrays |= {f"best.{name}": value for name, value in snapshot.best.arrays().items()}
        fields: dict[str, Any] = {"key": self._key, "loop": snapshot.loop}
        if self._ranks.count == 1:
            self._write(fields, arrays)
        else:
            self._save_shard(fields, arrays)

    def _write(self, fields: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        text = np.frombuffer(json.dumps(fields).encode(), np.uint8)
        with atomic_write(self.path) as stream:
            np.savez(stream, **storable({"loop": text, **arrays}))

    def _save_shard(self, fields: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Save the rank's rows; when those of all ranks are on the disk, rank 0 replaces the checkpoint."""
        self._serial += 1
        shards = _Shards(serial=self._serial, count=self._ranks.count)
        own = {name: value for name, value in arrays.items() if _is_in_shards(name, value)}
        with atomic_write(self._shard(shards, self._ranks.rank)) as stream:
            np.savez(stream, **storable({_SERIAL: np.array(self._serial), **own}))
        self._ranks.wait()
        if self._ranks.rank == 0:
            self._write({**fields, "shards": shards}, {name: arrays[name] for name in arrays.keys() - own.keys()})
        self._ranks.wait()

    def _shard(self, shards: _Shards, rank: int) -> Path:
        return self.path.with_suffix(f".{'ab'[shards['serial'] % 2]}.{rank}-of-{shards['count']}.npz")

    def _loaded_shards(self, shards: _Shards) -> State:
        """Return the rows of all ranks that saved. Raises ValueError if a shard is of another save; TableError."""
        found = [load_arrays(self._shard(shards, rank)) for rank in range(shards["count"])]
        self._serial = shards["serial"]
        if any(int(shard.pop(_SERIAL)) != shards["serial"] for shard in found):
            raise ValueError("its shards are of different epochs")
        return {name: np.concatenate([shard[name] for shard in found]) for name in found[0]}

    def load(self, form: type[Any] | None = None) -> Snapshot | None:
        """Return the last snapshot, or None.

        Args:
            form: TypedDict to check the snapshot's loop against; None for no check.

        Raises RunError if it is damaged or was written by another command; StorageError.
        """
        if self._fresh or not self.path.exists():
            return None
        try:
            arrays = load_arrays(self.path)
            fields = record(_File, parse_json(arrays.pop("loop").tobytes()))
            key, loop = fields["key"], fields["loop"]
            if "shards" in fields and key == self._key:
                arrays |= self._loaded_shards(fields["shards"])
            parts: dict[str, dict[str, Any]] = {"trainer": {}, "best": {}}
            for name, value in arrays.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = value
            best = Vectors.from_arrays(parts["best"]) if parts["best"] and key == self._key else None
        except (TableError, KeyError, ValueError, TypeError, IndexError) as error:
            raise RunError(f"{self.path} is damaged ({error}); train again with --overwrite") from error
        if key != self._key:
            raise RunError(
                f"{self.path} was written by another command, or for other data; give the same options to resume, "
                "or --overwrite"
            )
        try:
            checked = loop if form is None else record(form, loop, "the loop")
        except ValueError as error:
            raise RunError(f"{self.path} is damaged ({error}); train again with --overwrite") from error
        return Snapshot(checked, parts["trainer"], best)

    def check(self) -> None:
        """Check that the checkpoints of every fit and of the search belong to this command.

        Raises RunError if one is damaged or another command's; StorageError.
        """
        for folder in (self.folder, self.folder / SEARCH):
            for path in sorted(folder.glob("checkpoint*.npz")):
                if (named := re.fullmatch(r"checkpoint(?:-(\d+))?\.npz", path.name)) is not None:
                    Checkpoint(folder, self._command, number=int(named[1] or 0)).load()

    def remove(self) -> None:
        """Delete the checkpoints of all fits and of the search. Raises StorageError."""
        for path in self.folder.glob("checkpoint*.npz"):
            remove(path)
        shutil.rmtree(self.folder / SEARCH, ignore_errors=True)


def _is_in_shards(name: str, value: NDArray[Any]) -> bool:
    part, _, rest = name.partition(".")
    return value.ndim == 2 if part == "trainer" else rest.endswith("users")


FolderState = Literal["new", "begun", "done"]


def state_of(folder: Path, what: str, *, done: bool, begun: bool, resume: bool, overwrite: bool) -> FolderState:
    """Return the state of a folder: 'done', 'begun' or 'new'; remove the temporary files of a killed command.

    Args:
        what: the artefact of the folder, for messages: 'run' or 'stream'.
        done: True if it holds a finished one.
        begun: True if it holds an unfinished one.
        resume: continue from either.
        overwrite: start from scratch; `resume` has priority for an unfinished one, so that a command with both can be
            repeated.

    Raises RunError if something would be overwritten without the option.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, and a {what} is a folder; choose another --out")
    torn = set(torn_files(folder))
    if folder.is_dir() and not done and not begun and any(path not in torn for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no {what}; choose another --out")
    if done and not (resume or overwrite):
        raise RunError(f"{folder} holds a finished {what}; choose another --out, or --overwrite it")
    if begun and not (resume or overwrite):
        raise RunError(f"{folder} holds an unfinished {what}; continue with --resume, or start again with --overwrite")
    remove_leftovers(folder)
    if begun and resume:
        return "begun"
    return "done" if done and not overwrite else "new"

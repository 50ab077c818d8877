"""Checkpoints, from which a fit resumes after a kill, each one file, and the state of a command's output folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError, TableError
from edgerec.files import atomic_write, remove, remove_leftovers, torn_files
from edgerec.json_records import parse_json, record
from edgerec.models import State, Vectors
from edgerec.tables import load_arrays
from edgerec.tables.texts import storable

FILE_NAME = "checkpoint.npz"
SEARCH = "search"
"""The folder in a run's folder that stores a search's results until the run is finished."""


@dataclass
class Snapshot:
    """The state of a fit.

    Attributes:
        loop: phase, candidate, epoch, scores and history, as JSON.
        trainer: state of the trainer.
        best: the vectors with the best validation score so far.
    """

    loop: dict[str, Any]
    trainer: State = field(default_factory=dict)
    best: Vectors | None = None


class _File(TypedDict):
    """The content of a checkpoint in addition to its arrays."""

    key: str
    loop: dict[str, Any]


class Checkpoint:
    """The checkpoints of one run, one a fit; they are valid for the command that wrote them alone."""

    def __init__(self, folder: Path, command: dict[str, Any], *, fresh: bool = False, number: int = 0) -> None:
        """Create the checkpoint of the run in `folder`.

        Args:
            command: everything that decides the result: data, split, backbone, method, budget, seed, settings.
            fresh: ignore an existing file, which the first save replaces.
            number: number of the fit, for methods that fit more than once.
        """
        self.path = folder / (f"checkpoint-{number}.npz" if number else FILE_NAME)
        self.folder = folder
        self._command, self._fresh, self._number = command, fresh, number
        text = json.dumps({**command, "fit": number}, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()

    def of_fit(self, number: int) -> Checkpoint:
        """Return the checkpoint of the run's fit of a number."""
        return Checkpoint(self.folder, self._command, fresh=self._fresh, number=number)

    def of_search(self) -> Checkpoint:
        """Return the checkpoint of the run's search, in a folder of its own."""
        return Checkpoint(self.folder / SEARCH, self._command)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint. Raises StorageError."""
        text = json.dumps({"key": self._key, "loop": snapshot.loop}).encode()
        arrays: dict[str, NDArray[Any]] = {"loop": np.frombuffer(text, np.uint8)}
        arrays |= {f"trainer.{name}": value for name, value in snapshot.trainer.items()}
        if snapshot.best is not None:
            arrays |= {f"best.{name}": value for name, value in snapshot.best.arrays().items()}
        with atomic_write(self.path) as stream:
            np.savez(stream, **storable(arrays))

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
            parts: dict[str, dict[str, Any]] = {"trainer": {}, "best": {}}
            for name, value in arrays.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = value
            best = Vectors.from_arrays(parts["best"]) if parts["best"] else None
        except (TableError, KeyError, ValueError, TypeError) as error:
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

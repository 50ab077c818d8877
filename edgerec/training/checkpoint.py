"""Checkpoints: everything a fit needs to go on after a kill, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.errors import RunError
from edgerec.files import atomic_write, storage_failure
from edgerec.models import State, Vectors

FILE_NAME = "checkpoint.npz"


@dataclass
class Snapshot:
    """Where a fit stands.

    Attributes:
        loop: phase, candidate, epoch, scores and history, as JSON.
        trainer: the trainer's own state.
        best: the vectors with the best validation score so far.
    """

    loop: dict[str, Any]
    trainer: State = field(default_factory=dict)
    best: Vectors | None = None


class Checkpoint:
    """The checkpoint file of one run; it fits only the command that wrote it."""

    def __init__(self, folder: Path, command: dict[str, Any]) -> None:
        """`command` is everything that decides the result: data, split, backbone, method, budget, seed, settings."""
        self.path = folder / FILE_NAME
        self._key = hashlib.sha256(json.dumps(command, sort_keys=True).encode()).hexdigest()

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint. Raises StorageError."""
        text = json.dumps({"key": self._key, "loop": snapshot.loop}).encode()
        arrays: dict[str, Any] = {"loop": np.frombuffer(text, np.uint8)}
        arrays |= {f"trainer.{name}": value for name, value in snapshot.trainer.items()}
        if snapshot.best is not None:
            arrays |= {f"best.{name}": value for name, value in vars(snapshot.best).items() if value is not None}
        with atomic_write(self.path) as stream:
            np.savez(stream, **arrays)

    def load(self) -> Snapshot | None:
        """The last snapshot, or None where there is no checkpoint.

        Raises RunError where it is damaged or was written by another command; StorageError.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            fields = json.loads(arrays.pop("loop").tobytes())
        except FileNotFoundError:
            return None
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{self.path} is damaged ({error}); train again with --overwrite") from error
        except OSError as error:
            storage_failure(self.path, error, "read")
        if fields["key"] != self._key:
            raise RunError(
                f"{self.path} was written by another command, or for other data; give the same options to resume, "
                "or --overwrite"
            )
        parts: dict[str, dict[str, Any]] = {"trainer": {}, "best": {}}
        for name, value in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        return Snapshot(fields["loop"], parts["trainer"], Vectors(**parts["best"]) if parts["best"] else None)

    def remove(self) -> None:
        """Forget the checkpoint: the run is finished, or starts anew."""
        self.path.unlink(missing_ok=True)

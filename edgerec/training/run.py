"""Runs, the second artefact: tables with their ids, and the record of their training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError, SettingError
from edgerec.files import atomic_write, filling, read_if_there, remove, write_json
from edgerec.json_records import parse_json, record
from edgerec.models.base import SCORER_PREFIX, scorer_of
from edgerec.models.encoder import Encoder, LinearEncoder, encoder_from
from edgerec.models.scorer import NeuMFScorer
from edgerec.tables import CodedTable, Table, load_arrays, load_table, save_table
from edgerec.tables.texts import Texts, storable
from edgerec.training.checkpoint import FILE_NAME as CHECKPOINT
from edgerec.training.checkpoint import SEARCH

FORMAT, VERSION = "edgerec.run", 4
"""Version 2 has runs with a scorer, which readers of version 1 would take for inner products; version 3 has runs whose
texts are stored as bytes and offsets; version 4 has tables of codes. A run has the lowest version that can represent
it."""
FILE_NAME = "run.json"
OPTIONAL_ARRAYS = ("titles", "user_counts", "item_counts")
"""Optional attributes that are stored with the ids."""
ENCODER_PREFIX = "encoder_"
"""Prefix of the encoder's array names among the ids."""


class _Config(TypedDict):
    """The entries of every run's config; there may be more."""

    data: str
    backbone: str
    method: str
    budget: str | None
    split: dict[str, Any]
    precision: str
    seed: int
    epochs: int
    chosen_settings: dict[str, Any]
    method_settings: NotRequired[dict[str, Any]]
    chosen_method_settings: NotRequired[dict[str, Any]]


class _Encoder(TypedDict):
    kind: str
    settings: dict[str, Any]


class _File(TypedDict):
    """The content of `run.json`."""

    version: int
    has_users: bool
    encoder: NotRequired[_Encoder | None]
    config: _Config
    metrics: dict[str, dict[str, float]]
    data_fingerprint: str
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """The result of a training, which the exporter reads; stored at the tables' own size.

    Attributes:
        items: (n_items, d).
        users: (n_users, d), or None if a user's vector is computed from a history.
        encoder: encoder of histories; None if there is none, and in runs of older versions with users.
        scorer: scorer of NCF's rows; None for inner products.
        user_ids, item_ids: raw ids of the rows.
        titles: (n_items,) str or None.
        config: data, backbone, method, budget, seed, split and settings, as JSON.
        metrics: metrics by part ('validation', 'test') and name ('ndcg@20'); 'encoder' is the test part with users
            encoded from their histories, each by an encoder that was fitted without that user; 'training' holds
            figures of the last epoch ('kept', 'weights'); 'uncut' is the test part before rows were truncated to their
            sizes after training.
        data_fingerprint: fingerprint of the training interactions.
        history: one entry an epoch, or a trial of the method's search.
        user_counts, item_counts: (n,) uint32 interactions that each row was trained on; None for users without a
            table, and in runs of older versions.
    """

    items: Table
    users: Table | None
    encoder: Encoder | None
    user_ids: NDArray[Any]
    item_ids: NDArray[Any]
    titles: Texts | None
    config: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    data_fingerprint: str
    history: list[dict[str, Any]] = field(default_factory=list)
    user_counts: NDArray[np.uint32] | None = None
    item_counts: NDArray[np.uint32] | None = None
    scorer: NeuMFScorer | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tables and a scorer's weights, without ids."""
        arrays = {} if self.scorer is None else self.scorer.arrays()
        if self.users is None and self.encoder is not None:
            arrays = self.encoder.arrays()
        tables = [self.items] if self.users is None else [self.items, self.users]
        return sum(table.nbytes for table in tables) + sum(array.nbytes for array in arrays.values())

    @property
    def method_settings(self) -> dict[str, Any]:
        """Settings of the method, with its own choices."""
        settings: dict[str, Any] = self.config.get("chosen_method_settings") or self.config.get("method_settings", {})
        return settings

    def about(self) -> dict[str, Any]:
        """Return the provenance that a bundle records."""
        return {**self.config, "metrics": self.metrics, "data_fingerprint": self.data_fingerprint}

    def save(self, folder: Path) -> None:
        """Write the run; replace an existing one.

        Raises InUseError if another process writes a run there, StorageError.
        """
        with filling(folder):
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the run as `save` does, into a folder that the caller has locked with `filling`.

        `run.json` is removed first and written last, so that an incomplete run is never read.

        Raises StorageError.
        """
        remove(folder / FILE_NAME)
        remove(folder / "users.npz")
        save_table(self.items, folder / "items.npz")
        if self.users is not None:
            save_table(self.users, folder / "users.npz")
        ids: dict[str, NDArray[Any]] = {"users": self.user_ids, "items": self.item_ids}
        optional = {name: getattr(self, name) for name in OPTIONAL_ARRAYS}
        ids |= {name: array for name, array in optional.items() if array is not None}
        if self.encoder is not None:
            ids |= {ENCODER_PREFIX + name: array for name, array in self.encoder.arrays().items()}
        if self.scorer is not None:
            ids |= {SCORER_PREFIX + name: array for name, array in self.scorer.arrays().items()}
        with atomic_write(folder / "ids.npz") as stream:
            np.savez_compressed(stream, **storable(ids))
        write_json(
            folder / FILE_NAME,
            {
                "format": FORMAT,
                "version": self._version(ids),
                "has_users": self.users is not None,
                "encoder": None
                if self.encoder is None
                else {"kind": self.encoder.kind, "settings": self.encoder.settings()},
                "config": self.config,
                "metrics": self.metrics,
                "data_fingerprint": self.data_fingerprint,
                "history": self.history,
            },
        )

    def _version(self, ids: dict[str, NDArray[Any]]) -> int:
        if isinstance(self.items, CodedTable):
            return 4
        if any(array.dtype.kind == "O" for array in ids.values()):
            return 3
        return 1 if self.scorer is None else 2

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a finished run.

        Raises:
            RunError: there is no run, or it is unfinished, damaged or of a newer version.
            TableError, StorageError: a table is damaged or cannot be read.
        """
        stamp = _stamp(folder)
        fields = _read_json(folder)
        ids = load_arrays(folder / "ids.npz")
        try:
            run = cls(
                items=load_table(folder / "items.npz"),
                users=load_table(folder / "users.npz") if fields["has_users"] else None,
                encoder=_encoder(fields, ids),
                user_ids=ids["users"],
                item_ids=ids["items"],
                config=fields["config"],
                metrics=fields["metrics"],
                data_fingerprint=fields["data_fingerprint"],
                history=fields["history"],
                scorer=scorer_of(ids),
                **{name: ids.get(name) for name in OPTIONAL_ARRAYS},
            )
            run.check_rows()
        except (KeyError, ValueError, TypeError, SettingError) as error:
            raise RunError(f"the run in {folder} is damaged ({error!r}); train it again") from error
        if _stamp(folder) != stamp:
            raise RunError(f"the run in {folder} was replaced while it was read; read it again")
        return run

    def check_rows(self) -> None:
        """Raise ValueError if the parts differ in rows or dimensions."""
        rows = {"items": (self.items.n_rows, self.item_ids, self.titles, self.item_counts)}
        if self.users is not None:
            rows["users"] = (self.users.n_rows, self.user_ids, None, self.user_counts)
            if self.users.d != self.items.d:
                raise ValueError(f"the users have {self.users.d} dimensions and the items {self.items.d}")
        for side, (count, *parts) in rows.items():
            if any(part is not None and part.shape != (count,) for part in parts):
                raise ValueError(f"the table, the ids and the counts of the {side} are of different rows")


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Return the identity of `run.json`, which changes when it is replaced, even by the same content."""
    try:
        found = (folder / FILE_NAME).stat()
    except (OSError, ValueError):
        return None  # its reader reports the error
    return found.st_ino, found.st_mtime_ns


def _encoder(fields: dict[str, Any], ids: dict[str, NDArray[Any]]) -> Encoder | None:
    if "history_weights" in ids:  # as runs were before 0.1.0
        return LinearEncoder(ids["history_weights"])
    if fields.get("encoder") is None:
        return None
    arrays = {name.removeprefix(ENCODER_PREFIX): ids[name] for name in ids if name.startswith(ENCODER_PREFIX)}
    return encoder_from(fields["encoder"]["kind"], fields["encoder"]["settings"], arrays)


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    if (content := read_if_there(path)) is None:
        if any((folder / name).exists() for name in (CHECKPOINT, SEARCH)):
            raise RunError(f"the run in {folder} is unfinished; give its 'edgerec train' command again with --resume")
        missing = f"there is no {FILE_NAME} in it" if folder.exists() else "it does not exist"
        raise RunError(f"{folder} is no run: {missing}; make one with 'edgerec train'")
    try:
        fields = parse_json(content)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise RunError(f"{path} is not an EdgeRec run")
        if type(version := fields.get("version")) is int and version > VERSION:
            raise RunError(f"{path} was written by a newer EdgeRec; upgrade: pip install -U 'edgerec[all]'")
        return dict(record(_File, fields))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); train the run again") from error

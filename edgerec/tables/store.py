"""Tables on disk: one uncompressed npz file a table, without pickle, of about the table's own size."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import TableError
from edgerec.files import atomic_write, storage_failure
from edgerec.tables.coded import CodedTable
from edgerec.tables.dense import DenseTable
from edgerec.tables.prefix import PrefixTable
from edgerec.tables.sparse import SparseTable
from edgerec.tables.texts import restored

Table = DenseTable | PrefixTable | SparseTable
"""Any table; a `CodedTable` is a prefix table."""

_KINDS: dict[str, type[DenseTable] | type[PrefixTable] | type[SparseTable]] = {
    kind.kind: kind for kind in (DenseTable, PrefixTable, CodedTable, SparseTable)
}


def save_table(table: Table, path: Path) -> None:
    """Write a table atomically. Raises StorageError."""
    with atomic_write(path) as stream:
        arrays: dict[str, Any] = {"kind": np.array(table.kind), "d": np.array(table.d), **table.arrays()}
        np.savez(stream, **arrays)


def load_table(path: Path) -> Table:
    """Read a table. Raises StorageError if it cannot be read, TableError if it is damaged."""
    arrays = load_arrays(path)
    try:
        kind, d = str(arrays.pop("kind")), int(arrays.pop("d"))
        return _KINDS[kind].from_arrays(arrays, d)
    except (KeyError, ValueError, TypeError) as error:
        raise TableError(f"{path} is no table or is damaged ({error!r}); train again") from error


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file by name.

    Raises StorageError if it cannot be read, TableError if it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return restored({name: archive[name] for name in archive.files})
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise TableError(f"{path} is damaged ({error}); train again") from error
    except OSError as error:
        storage_failure(path, error, "read")

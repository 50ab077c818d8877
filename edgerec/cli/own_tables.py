"""Readers of a user's own tables, ids and titles, for `edgerec export`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.cli.help import F, option
from edgerec.data.attributes import read_attributes, read_titles
from edgerec.data.ids import is_id, to_ids
from edgerec.data.readers import Reading
from edgerec.errors import RequestError
from edgerec.files import storage_failure
from edgerec.tables.texts import Texts, text_array


def read_array(path: Path) -> NDArray[Any]:
    """Memory-map an .npy file. Raises StorageError, RequestError."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        storage_failure(path, error, "read")
    except (ValueError, EOFError) as error:
        raise RequestError(f"{path} is not an .npy file of numbers ({error}); write it with numpy.save") from error
    if not isinstance(values, np.ndarray):
        raise RequestError(f"{path} is an archive of several arrays; give an .npy file with one")
    return values


def read_ids(path: Path | None) -> NDArray[Any] | None:
    """Return the ids of a file, one per line, as numbers if all are whole ones. Raises StorageError, RequestError."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        storage_failure(path, error, "read")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error}); write one id per line as UTF-8") from error
    lines = text.removesuffix("\n").split("\n")
    bad = next((number for number, line in enumerate(lines, 1) if not is_id(line)), None)
    if bad is not None:
        raise RequestError(f"{path}, line {bad}: expected an id, found {lines[bad - 1]!r}; write one id per line")
    return to_ids(lines)


def attributes_option(command: F) -> F:
    """Add --attributes, whose names `attribute_names` returns."""
    return option(
        "--attributes",
        metavar="NAMES",
        help="Columns of --item-attributes to include as attributes of items, separated by commas, such as "
        "category,price.",
    )(command)


def attribute_names(options: Mapping[str, Any]) -> list[str]:
    """Return the names of --attributes. Raises RequestError for empty or repeated ones, or without a file of them."""
    names = [] if options["attributes"] is None else [name.strip() for name in options["attributes"].split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise RequestError(f"--attributes is {options['attributes']!r}; write different names separated by commas")
    if names and options["item_attributes"] is None:
        raise RequestError(
            "--attributes takes columns of --item-attributes FILE, a table of items, which may be the data; give it too"
        )
    return names


def read_item_titles(path: Path, ids: Iterable[int | str], encoding: str | None) -> Texts:
    """Return the title of each item in a table of items, '' without one.

    Raises DataError for a malformed table, RequestError if it has no title of these items, and StorageError.
    """
    return _by_row(path, "titles", read_titles(path, Reading(encoding)), ids)


def read_item_attributes(options: Mapping[str, Any], item_ids: NDArray[Any]) -> dict[str, Texts]:
    """Return the text of each item in the columns of --attributes, '' without one; {} without this option.

    Raises as `attribute_names` and `read_item_titles`.
    """
    names, path, ids = attribute_names(options), options["item_attributes"], item_ids.tolist()
    found = read_attributes(path, Reading(options["encoding"]), names) if names else {}
    return {name: _by_row(path, f"texts of {name}", known, ids) for name, known in found.items()}


def _by_row(path: Path, what: str, known: dict[Any, str], ids: Iterable[int | str]) -> Texts:
    by_text = {str(item): text for item, text in known.items()}
    texts = [by_text.get(str(item), "") for item in ids]
    if not any(texts):
        raise RequestError(
            f"{path} has {what} of none of the items: its ids are such as {next(iter(by_text), '')!r}; give a table "
            "with the ids of the data, the run or --ids"
        )
    return text_array(texts)

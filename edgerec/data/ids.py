"""Raw ids of users and items: whole numbers from 0 up, or any text."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables.texts import is_text, text_array

MISSING_IDS = frozenset({"nan", "NaN", "NAN", "<NA>", "NaT", "null", "NULL", "None"})
"""Texts that programs write for a missing value, which are no ids."""


def to_ids(fields: list[str]) -> NDArray[Any]:
    """Return (n,) int64 if every field is a plain integer, else str. Raises ValueError for one that `is_id` refuses.

    An integer with leading zeros, such as an ISBN, stays text: as a number it could not be written back.
    """
    fields = [field.strip() for field in fields]
    if not all(map(is_id, fields)):
        raise ValueError("id")
    if all(map(_is_plain, fields)):
        with contextlib.suppress(OverflowError):
            return np.array(list(map(int, fields)), dtype=np.int64)
    return text_array(fields)


def is_id(field: str) -> bool:
    """Return True for a valid id: no negative integer, no empty or missing value, without NUL."""
    text = field.strip()
    return bool(text) and text not in MISSING_IDS and "\0" not in text and not re.fullmatch(r"-\d+", text)


def _is_plain(field: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,19}", field) is not None


def rows_of(ids: NDArray[Any], known: NDArray[Any]) -> NDArray[np.int64]:
    """Return the (len(ids),) rows of ids among the known ones, which are in any order; -1 for unknown ids."""
    if is_text(known):
        places = {one: row for row, one in enumerate(known.tolist())}
        return np.array([places.get(one, -1) for one in ids.tolist()], np.int64)
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, ids, sorter=order), known.size - 1)]
    return np.where(known[at] == ids, at, -1)

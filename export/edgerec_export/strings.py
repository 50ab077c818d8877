"""Raw ids and titles as arrays of the tables file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import ExportError
from edgerec.tables.texts import Texts, is_text


def pack_ids(side: str, ids: NDArray[Any], order: NDArray[np.int64]) -> tuple[str, dict[str, NDArray[Any]]]:
    """Ids in the bundle's row order: whole numbers in the narrowest type, text as a blob and offsets.

    Returns:
        The kind for the manifest, and the arrays by section name.
    """
    if is_text(ids):
        return "str", pack_strings(f"{side}_ids", f"{side}_id_offsets", ids[order])
    low, high = int(ids.min()), int(ids.max())
    for name in ("uint8", "uint16", "uint32", "int64"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return "int", {f"{side}_ids": ids[order].astype(name)}
    raise ExportError(f"{side} ids from {low} to {high} do not fit 64 bits")


def pack_strings(blob: str, offsets: str, texts: Texts) -> dict[str, NDArray[Any]]:
    """n texts as UTF-8, one after the other, and n + 1 offsets into them."""
    encoded = [text.encode() for text in texts.tolist()]
    ends = np.concatenate([[0], np.cumsum([len(piece) for piece in encoded], dtype=np.int64)])
    kind = np.uint32 if ends[-1] < 2**32 else np.int64
    return {blob: np.frombuffer(b"".join(encoded), np.uint8), offsets: ends.astype(kind)}


def id_order(ids: NDArray[Any]) -> NDArray[np.int64]:
    """The rows in ascending order of their ids (text by code point, which is UTF-8's order of bytes too)."""
    return np.argsort(ids, kind="stable")

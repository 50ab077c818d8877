"""Attributes of the items of a bundle: the different texts of each are stored once, and a number for each item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import StringArray


def attributes_of(bundle: Bundle, row: int) -> dict[str, str]:
    """Return the attributes of the item in a row by name, without those that it has no text of. Raises BundleError."""
    found = {name: texts_of(bundle, number, row)[0] for number, name in enumerate(bundle.manifest.item_attributes)}
    return {name: text for name, text in found.items() if text}


def texts_of(bundle: Bundle, number: int, row: int | None = None) -> list[str]:
    """Return the texts of an attribute, of all items by row or of one. Raises BundleError."""
    texts, codes = _stored(bundle, number, slice(None) if row is None else slice(row, row + 1))
    known = {code: texts.text(code) for code in np.unique(codes).tolist()}
    return [known[code] for code in codes.tolist()]


def rows_with(bundle: Bundle, name: str, value: str) -> NDArray[np.int64]:
    """Return the rows of items of which `value` is the text of an attribute, or one of its parts separated by `|`.

    Raises:
        RequestError: the bundle has no attribute of this name, or the value is empty or not text.
        BundleError: the attribute is damaged.
    """
    names = bundle.manifest.item_attributes
    if name not in names:
        raise RequestError(f"the bundle has no attribute {name!r} of items; it has {', '.join(names) or 'none'}")
    if not isinstance(value, str) or not value:
        raise RequestError(f"the value of {name!r} must be a text that is not empty, got {value!r}")
    texts, codes = _stored(bundle, names.index(name), slice(None))
    wanted = value.encode(errors="surrogatepass")
    matches = np.array([text == wanted or wanted in text.split(b"|") for text in texts], bool)
    return np.flatnonzero(matches[codes])


def _stored(bundle: Bundle, number: int, rows: slice) -> tuple[StringArray, NDArray[np.unsignedinteger]]:
    """Return the different texts of an attribute, and the numbers of those of some rows. Raises BundleError."""
    stem = f"attribute_{number}"
    texts, codes = bundle.strings(f"{stem}_texts", f"{stem}_text_offsets"), bundle.section(stem)[rows]
    if codes.max(initial=0) >= len(texts):
        raise BundleError(f"the attributes of {bundle.folder} are damaged; get the bundle again")
    return texts, codes

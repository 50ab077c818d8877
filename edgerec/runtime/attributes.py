"""Attributes of the items of a bundle: the different texts of each are stored once, and a number for each item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, RequestError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.ids import StringArray


def attributes_of(bundle: Bundle, row: int) -> dict[str, str]:
    """Return the attributes of the item in a row by name, without those that it has no text of. Raises BundleError."""
    found = {}
    for number, name in enumerate(bundle.manifest.item_attributes):
        texts, codes = _stored(bundle, number)
        found[name] = texts.text(_checked(bundle, codes[row : row + 1], texts).item())
    return {name: text for name, text in found.items() if text}


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
    texts, codes = _stored(bundle, names.index(name))
    wanted = value.encode(errors="surrogatepass")
    matches = np.array([text == wanted or wanted in text.split(b"|") for text in texts], bool)
    return np.flatnonzero(matches[_checked(bundle, codes, texts)])


def _stored(bundle: Bundle, number: int) -> tuple[StringArray, NDArray[np.unsignedinteger]]:
    stem = f"attribute_{number}"
    return bundle.strings(f"{stem}_texts", f"{stem}_text_offsets"), bundle.section(stem)


def _checked(bundle: Bundle, codes: NDArray[np.unsignedinteger], texts: StringArray) -> NDArray[np.unsignedinteger]:
    if codes.size and int(codes.max()) >= len(texts):
        raise BundleError(f"the attributes of {bundle.folder} are damaged; export it again")
    return codes

"""The attributes of the items of an older bundle, which the next export keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgerec.runtime.bundle import Bundle
from edgerec.tables.texts import Texts, text_array


class PreviousAttributes:
    """The attributes of the items of a bundle."""

    def __init__(self, folder: str | Path) -> None:
        """Open the bundle in `folder`. Raises BundleError if it is missing or damaged."""
        self._bundle = Bundle(folder, verify=False)

    def of(self, item_ids: NDArray[Any]) -> dict[str, Texts]:
        """Return the (n,) texts of items, '' of items that the bundle does not know; no attribute if it has no ids.

        Raises BundleError if they are damaged.
        """
        bundle = self._bundle
        if bundle.manifest.items.ids == "none":
            return {}
        rows = bundle.ids("item", bundle.manifest.items).rows(item_ids.tolist()).tolist()
        found = {name: texts.of(slice(None)) for name, texts in bundle.attributes().items()}
        return {name: text_array([texts[row] if row >= 0 else "" for row in rows]) for name, texts in found.items()}

    def texts(self) -> dict[str, Texts]:
        """Return the different texts of each attribute, by their numbers. Raises BundleError if they are damaged."""
        stored = {name: texts.texts for name, texts in self._bundle.attributes().items()}
        return {name: text_array([texts.text(code) for code in range(len(texts))]) for name, texts in stored.items()}

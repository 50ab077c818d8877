"""Optional packages: imported on use; the error of a missing one names the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from edgerec.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError with the pip command for the `extra` that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{error.name} is not installed; this needs the '{extra}' extra: pip install 'edgerec[{extra}]'"
        ) from None

"""EdgeRec: recommenders under a strict memory budget, from training to the device.

Names are resolved on first use, so that `import edgerec` costs nothing and the runtime never loads the trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgerec.errors import EdgeRecError, MissingExtraError

if TYPE_CHECKING:
    from edgerec.api import evaluate, train
    from edgerec.budget import Budget
    from edgerec.data import Interactions, load_data
    from edgerec.fitting import fit
    from edgerec.runtime import Recommender, metadata
    from edgerec.streaming import train_stream
    from edgerec.training import Run

__version__: str
"""That of the installed distribution."""

_HOME = {
    "Budget": "edgerec.budget",
    "Interactions": "edgerec.data",
    "Recommender": "edgerec.runtime",
    "Run": "edgerec.training",
    "evaluate": "edgerec.api",
    "fit": "edgerec.fitting",
    "load_data": "edgerec.data",
    "metadata": "edgerec.runtime",
    "train": "edgerec.api",
    "train_stream": "edgerec.streaming",
}

__all__ = [
    "Budget",
    "EdgeRecError",
    "Interactions",
    "Recommender",
    "Run",
    "evaluate",
    "fit",
    "load_data",
    "metadata",
    "train",
    "train_stream",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOME:
        try:
            return getattr(import_module(_HOME[name]), name)
        except ModuleNotFoundError as error:
            if error.name != _HOME[name]:
                raise
            raise MissingExtraError(
                f"edgerec.{name} is not in edgerec-runtime, the runtime alone; replace it with the whole package: "
                "pip uninstall edgerec-runtime; pip install 'edgerec[all]'"
            ) from None
    raise AttributeError(f"module 'edgerec' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for distribution in ("edgerec", "edgerec-runtime"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "0.1.dev0"  # files without their distribution, as a phone has them


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

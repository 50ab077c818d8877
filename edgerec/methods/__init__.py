"""Methods: how a table is kept under its budget. Adding one to the registry is all it takes to be tested."""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec.methods.base import VARIANT, FitWithin, Job, Method, Workers, variants_of
from edgerec.methods.bet.search import BET
from edgerec.methods.ciess.config import CIESS
from edgerec.methods.magnitude import Magnitude
from edgerec.methods.rules import Dense, Popularity, Random, Uniform
from edgerec.methods.sparse.dst import SET, RigL
from edgerec.methods.sparse.pep import PEP
from edgerec.methods.sparse.sparserec import SparseRec

_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Dense(),
        Uniform(),
        Random(),
        Popularity(),
        Magnitude(),
        SET(),
        RigL(),
        PEP(),
        SparseRec(),
        BET(),
        CIESS(),
    )
}

METHODS: tuple[str, ...] = tuple(sorted(_METHODS))
"""Names that `method` knows."""

__all__ = ["METHODS", "VARIANT", "FitWithin", "Job", "Method", "Workers", "method", "variants_of"]


def method(name: str, backbone: str) -> Method:
    """The method of that name, for that backbone.

    Raises UnsupportedError where there is no such method, or it does not work with the backbone; lists what does.
    """
    if name not in _METHODS:
        raise UnsupportedError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    found = _METHODS[name]
    if backbone not in found.backbones:
        raise UnsupportedError(
            f"the method {name!r} does not work with the backbone {backbone!r}; "
            f"it works with: {', '.join(sorted(found.backbones))}"
        )
    return found

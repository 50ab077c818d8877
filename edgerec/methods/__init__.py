"""Methods: how a table is kept under its budget. Adding one to the registry is all it takes to be tested."""

from __future__ import annotations

from dataclasses import fields

from edgerec.errors import UnsupportedError
from edgerec.methods.base import FitWithin, Job, Method, Workers
from edgerec.methods.bet import BET
from edgerec.methods.ciess import CIESS
from edgerec.methods.dense import Dense
from edgerec.methods.magnitude import Magnitude
from edgerec.methods.popularity import Popularity
from edgerec.methods.random import Random
from edgerec.methods.sparse.dst import SET, RigL
from edgerec.methods.sparse.pep import PEP
from edgerec.methods.sparse.sparserec import SparseRec
from edgerec.methods.uniform import Uniform

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

__all__ = ["METHODS", "FitWithin", "Job", "Method", "Workers", "method", "methods_with"]


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


def methods_with(setting: str) -> list[str]:
    """Names of the methods that have that setting."""
    return [name for name in METHODS if setting in {field.name for field in fields(_METHODS[name].config)}]

"""Methods that fit tables into a budget, by name. The contract suite tests every method of the registry."""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec.methods.base import VARIANT, FitWithin, Job, Method, Workers
from edgerec.methods.bet.cuts import BETOnSVD
from edgerec.methods.bet.search import BET
from edgerec.methods.ciess.config import CIESS, CIESSOnSVD
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

_ON_BACKBONE: dict[tuple[str, str], Method] = {("bet", "svd"): BETOnSVD(), ("ciess", "svd"): CIESSOnSVD()}
"""Methods that work in another way on a backbone."""

METHODS: tuple[str, ...] = tuple(sorted(_METHODS))
"""Names of all methods."""

_DEFAULT_BACKBONES = ("ials", "mf")

__all__ = ["METHODS", "VARIANT", "FitWithin", "Job", "Method", "Workers", "backbones_of", "default_backbone", "method"]


def backbones_of(name: str) -> frozenset[str]:
    """Return the names of the backbones that a method works with."""
    return _METHODS[name].backbones | {backbone for method, backbone in _ON_BACKBONE if method == name}


def default_backbone(name: str) -> str:
    """Return the backbone that a method trains if none is given: ials, or mf where ials is not supported."""
    found = _METHODS.get(name)
    return next(backbone for backbone in _DEFAULT_BACKBONES if found is None or backbone in found.backbones)


def method(name: str, backbone: str) -> Method:
    """Return the method of that name, for a backbone.

    Raises UnsupportedError, which lists the alternatives, for an unknown method or one that does not work with the
    backbone.
    """
    if name not in _METHODS:
        raise UnsupportedError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    found = _ON_BACKBONE.get((name, backbone), _METHODS[name])
    if backbone not in found.backbones:
        raise UnsupportedError(
            f"the method {name!r} does not work with the backbone {backbone!r}; "
            f"it works with: {', '.join(sorted(backbones_of(name)))}"
        )
    return found

"""Methods for streams, which size all rows again at each segment, within one budget."""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec.methods.rules import PopularityStream, UniformStream
from edgerec.methods.stream.policy import DecisionContext, SizePolicy, StreamMethod
from edgerec.methods.stream.scall import SCALL
from edgerec.methods.stream.static import StaticStream

_METHODS: dict[str, StreamMethod] = {
    method.name: method for method in (SCALL(), UniformStream(), PopularityStream(), StaticStream())
}

STREAM_METHODS: tuple[str, ...] = tuple(_METHODS)
"""Names of all methods for streams."""

__all__ = ["STREAM_METHODS", "DecisionContext", "SizePolicy", "StreamMethod", "stream_method"]


def stream_method(name: str) -> StreamMethod:
    """Return the method of that name. Raises UnsupportedError, which lists the names, for an unknown one."""
    if name not in _METHODS:
        raise UnsupportedError(f"there is no method {name!r} for streams; there are: {', '.join(STREAM_METHODS)}")
    return _METHODS[name]

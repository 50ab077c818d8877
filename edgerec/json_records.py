"""Strict reading of EdgeRec's JSON files and TOML plans, checked against the types that they become.

A file may be truncated, edited or foreign. Every fault is a ValueError of one line, which a reader turns into its own
error together with the name of the file.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")

MOST_DEEP = 64
"""Maximum nesting of lists and objects; files of EdgeRec have fewer than ten levels."""


def parse_json(content: bytes | str) -> Any:
    """Parse a JSON document as EdgeRec writes it.

    Raises ValueError for text that is not JSON, NaN and infinities, integers of more than 64 bits, unpaired surrogates
    and more than `MOST_DEEP` levels.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEEP} levels deep") from None
    _check_values(value, 0)
    return value


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse a TOML document as `parse_json` parses JSON. Raises ValueError."""
    try:
        value = tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEEP} levels deep") from None
    _check_values(value, 0)
    return value


def _check_values(value: Any, depth: int) -> None:
    if depth > MOST_DEEP:
        raise ValueError(f"it is nested more than {MOST_DEEP} levels deep")
    if isinstance(value, str):
        if not value.isascii():
            value.encode()  # UnicodeEncodeError is a ValueError
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError("a number has more than 64 bits")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _check_values(key, depth)
            _check_values(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _check_values(entry, depth + 1)


def record(kind: type[T], value: Any, where: str = "it") -> T:
    """Build a dataclass, or check a TypedDict, from a JSON object whose values have the annotated types.

    Annotations may be plain types, `Any`, `Literal`, unions, lists, tuples, mappings by text, and other such classes.
    A TypedDict may hold more names than it declares; a dataclass may not.

    Args:
        where: name of the value in messages.

    Raises ValueError for a value that is missing, unknown or of another type, and the class's own errors.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be an object, got {_shown(value)}")
    hints, required, closed = _form(kind)  # type: ignore[arg-type]  # every type is hashable
    for name in required:
        if name not in value:
            raise ValueError(f"{where} has no {name}")
    if closed and (unknown := next((name for name in value if name not in hints), None)) is not None:
        raise ValueError(f"{where} has an unknown {_shown(unknown)}")
    known = {
        name: checked(hints[name], entry, f"{where}.{name}") if name in hints else entry
        for name, entry in value.items()
    }
    return kind(**known)


@cache
def _form(kind: Any) -> tuple[dict[str, Any], tuple[str, ...], bool]:
    """Return the annotations of a class, its required names, and True if it takes no others."""
    hints = get_type_hints(kind)
    if is_typeddict(kind):
        # Annotations are text here, so that the class itself does not see NotRequired.
        marked = get_type_hints(kind, include_extras=True)
        return hints, tuple(name for name in hints if get_origin(marked[name]) is not NotRequired), False
    own = {field.name: hints[field.name] for field in fields(kind)}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return own, tuple(needed), True


def checked(hint: Any, value: Any, where: str = "it") -> Any:
    """Return a JSON value as the type that `hint` annotates. Raises ValueError as `record` does."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _of_union(arguments, value, where)
    if origin is Literal:
        fits = value in arguments
    elif is_dataclass(hint) or is_typeddict(hint):
        return record(hint, value, where)
    elif origin is list:
        return [checked(arguments[0], one, f"{where}[{n}]") for n, one in enumerate(_listed(value, where))]
    elif origin is tuple:
        return _tuple(arguments, value, where)
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be an object, got {_shown(value)}")
        return {name: checked(arguments[1], one, f"{where}.{name}") for name, one in value.items()}
    elif hint is float:
        fits = type(value) is int or (type(value) is float and math.isfinite(value))
    elif hint in (int, str, bool, NoneType):
        fits = type(value) is hint
    else:
        raise TypeError(f"JSON cannot be read as {hint}")
    if not fits:
        raise ValueError(f"{where} must be {_named(hint)}, got {_shown(value)}")
    return value


def _of_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in options:
        return None
    options = tuple(option for option in options if option is not NoneType)
    for option in options[:-1]:
        try:
            return checked(option, value, where)
        except ValueError:
            continue
    return checked(options[-1], value, where)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    entries = _listed(value, where)
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = (arguments[0],) * len(entries)
    if len(arguments) != len(entries):
        raise ValueError(f"{where} must have {len(arguments)} entries, got {len(entries)}")
    pairs = enumerate(zip(arguments, entries, strict=True))
    return tuple(checked(hint, one, f"{where}[{n}]") for n, (hint, one) in pairs)


def _listed(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list, got {_shown(value)}")
    return value


def _named(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", NoneType: "null"}
    return names.get(hint) or " or ".join(map(repr, get_args(hint)))


def _shown(value: Any) -> str:
    """Return a value as text of at most 40 characters and dots."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."

"""Checks of an ONNX file before onnxruntime opens it, since a graph from an untrusted source is a program.

Allowed are the ONNX operators that the exporter uses, tables at the places in the manifest, and the fields of
onnx.proto that these need. They cannot run other code, name another file or loop without end. A file with a duplicate
field is refused, since readers differ in the one they use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from edgerec.errors import reason_of
from edgerec.runtime.manifest import LIMITS, OPERATORS, SPEC, Section

LOOPS = ("Loop", "Scan")
_TYPED_AS_ALL, _TYPED_AS_FIRST = frozenset(SPEC["typed_as_all"]), frozenset(SPEC["typed_as_first"])
"""Operators whose output has the type of all inputs, or of the first one."""
_FLOATS = (1, 10, 11)
_INT64, _EXTERNAL = 7, 1
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
_ITEM_BYTES = {kind: np.dtype(name).itemsize for kind, name in _DTYPES.items()}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class _Field(NamedTuple):
    """The encoding of a field: wire type, if it repeats, the kind of its message, and if it is text."""

    wire: int
    many: bool = False
    kind: str | None = None
    text: bool = False


_NUMBER, _NUMBERS, _RAW = _Field(_VARINT), _Field(_VARINT, many=True), _Field(_BYTES)
_TEXT, _TEXTS = _Field(_BYTES, text=True), _Field(_BYTES, many=True, text=True)


def _one(kind: str) -> _Field:
    return _Field(_BYTES, kind=kind)


def _some(kind: str) -> _Field:
    return _Field(_BYTES, many=True, kind=kind)


MESSAGES: dict[str, dict[int, _Field]] = {
    "model": {1: _NUMBER, 2: _TEXT, 7: _one("graph"), 8: _some("opset")},
    "opset": {1: _TEXT, 2: _NUMBER},
    "graph": {
        1: _some("node"), 2: _TEXT, 5: _some("tensor"), 11: _some("value"), 12: _some("value"), 13: _some("value"),
    },
    "node": {1: _TEXTS, 2: _TEXTS, 3: _TEXT, 4: _TEXT, 5: _some("attribute")},
    "attribute": {
        1: _TEXT, 2: _Field(_FIXED32), 3: _NUMBER, 4: _RAW, 6: _one("graph"), 7: _Field(_FIXED32, many=True),
        8: _NUMBERS, 20: _NUMBER,
    },
    "tensor": {1: _NUMBERS, 2: _NUMBER, 8: _TEXT, 9: _RAW, 13: _some("entry"), 14: _NUMBER},
    "entry": {1: _TEXT, 2: _TEXT},
    "value": {1: _TEXT, 2: _one("type")},
    "type": {1: _one("tensor type")},
    "tensor type": {1: _NUMBER, 2: _one("shape")},
    "shape": {1: _some("dimension")},
    "dimension": {1: _NUMBER, 2: _TEXT},
}  # fmt: skip
"""Every message and field of a bundle's graphs. Others are refused: functions, training, tensors in attributes, sparse
tensors, types other than tensors, operator domains."""

Message = dict[int, list[Any]]
"""Values of a message, by field number: integers, bytes, or messages."""


def graph_fault(content: bytes, tables: str, tensors: Mapping[str, Section], rows: int) -> str | None:
    """Return the reason why an ONNX file is not a graph of a bundle; None if it is one.

    Args:
        tables: name of the tables file, the only external file of its tensors.
        tensors: the tensors in the manifest, which must be those of the file.
        rows: number of items, the maximum number of iterations of a loop.
    """
    try:
        model = _read("model", content, [LIMITS["graph_messages"]])
        for opset in model.get(8, []):
            if _text(opset, 1):
                raise ValueError(f"it takes operators of {_text(opset, 1)!r}")
        (graph,) = model[7]
        _check_tensors(graph.get(5, []), tables, tensors)
        constants = _constants(graph)
        _check_nodes(graph, constants, rows)
        _check_divisions(graph, constants)
    except (ValueError, KeyError, IndexError) as error:
        return f"{error} is missing" if isinstance(error, KeyError) else reason_of(error)
    return None


def _check_tensors(found: list[Message], tables: str, tensors: Mapping[str, Section]) -> None:
    """Raise ValueError for a tensor that is neither whole in the file nor at its place in the manifest."""
    external = {}
    for tensor in found:
        name, kind, shape = _text(tensor, 8), _number(tensor, 2), tuple(tensor.get(1, []))
        if kind not in _DTYPES or any(size >> 62 for size in shape):
            raise ValueError(f"the tensor {name!r} is of a type or shape that no bundle has")
        size = math.prod(shape) * _ITEM_BYTES[kind]
        if 13 not in tensor and 14 not in tensor:
            if len(tensor[9][0]) != size:
                raise ValueError(f"the tensor {name!r} has {len(tensor[9][0])} bytes where {size} are promised")
            continue
        places = [(_text(entry, 1), _text(entry, 2)) for entry in tensor[13]]
        section = tensors.get(name)
        wanted = None if section is None else [str(section.offset), str(section.nbytes)]
        entries = dict(places)
        if (
            section is None
            or len(entries) != len(places)
            or 9 in tensor
            or _number(tensor, 14) != _EXTERNAL
            or set(entries) != {"location", "offset", "length"}
            or entries["location"] != tables
            or [entries["offset"], entries["length"]] != wanted
            or (_DTYPES[kind], shape) != (section.dtype, section.shape)
        ):
            raise ValueError(f"its table {name!r} lies elsewhere than the manifest says")
        external[name] = section
    if len({_text(tensor, 8) for tensor in found}) != len(found):
        raise ValueError("two of its tensors have one name")
    if external.keys() != tensors.keys():
        raise ValueError("its tables are not those that the manifest names")


def _constants(graph: Message) -> dict[bytes, int]:
    """Return int64 scalars of the file by name, without names that a node or a body defines again."""
    found = {}
    for tensor in graph.get(5, []):
        if _number(tensor, 2) == _INT64 and not tensor.get(1) and 9 in tensor:
            found[tensor[8][0]] = int.from_bytes(tensor[9][0], "little", signed=True)
    for one in _graphs(graph):
        outputs = [output for node in one.get(1, []) for output in node.get(2, [])]
        for name in [*outputs, *(value[1][0] for value in one.get(11, []) if 1 in value)]:
            found.pop(name, None)
    return found


def _graphs(graph: Message) -> Iterator[Message]:
    """Yield a graph and all graphs inside it."""
    yield graph
    for node in graph.get(1, []):
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: Message) -> list[Message]:
    return [body for attribute in node.get(5, []) for body in attribute.get(6, [])]


def _check_nodes(graph: Message, constants: Mapping[bytes, int], rows: int, within: str = "") -> None:
    """Raise ValueError for nodes that are not allowed, at any depth.

    Args:
        within: the innermost loop around the graph. A Loop may contain a Scan, over users that a network scores one
            at a time; other nested loops are refused.
    """
    for node in graph.get(1, []):
        operator = _text(node, 4)
        if operator not in OPERATORS:
            raise ValueError(f"it calls {operator!r}, which no bundle does")
        if within and operator in LOOPS and (operator, within) != ("Scan", "Loop"):
            raise ValueError("it has a loop inside a loop")
        if operator == "Loop" and not 0 <= constants.get(node[1][0], -1) <= rows:
            raise ValueError("it has a loop without a known end")
        for body in _bodies(node):
            if 5 in body:
                raise ValueError("it has tensors inside a loop or a branch")
            _check_nodes(body, constants, rows, operator if operator in LOOPS else within)


def _check_divisions(graph: Message, constants: Mapping[bytes, int]) -> None:
    """Raise ValueError for integer divisions by anything but positive constants of the file.

    Division by 0, and of INT64_MIN by -1, ends the process, at load as in a run.
    """
    named = Counter[bytes](tensor[8][0] for tensor in graph.get(5, []))
    for one in _graphs(graph):
        named.update(output for node in one.get(1, []) for output in node.get(2, []))
        named.update(value[1][0] for value in one.get(11, []) if 1 in value)
    floats = {tensor[8][0] for tensor in graph.get(5, []) if _number(tensor, 2) in _FLOATS}
    floats |= {value[1][0] for value in graph.get(11, []) if 1 in value and _element(value) in _FLOATS}
    # A name that is defined twice has no known type: readers differ in the definition that they use.
    known = {name for name in floats if named[name] == 1}
    for one in _graphs(graph):
        for node in one.get(1, []):
            operator, taken = _text(node, 4), node.get(1, [])
            of_floats = any(name in known for name in _of_the_type(operator, taken))
            divided = operator == "Mod" or (operator == "Div" and not of_floats)
            if divided and constants.get(taken[1], 0) < 1:
                raise ValueError("it divides whole numbers by something else than a positive constant")
            outputs = node.get(2, [])[:1]  # TopK's second output is integers
            if (of_floats or _casts_to_float(node, operator)) and outputs and named[outputs[0]] == 1:
                known.add(outputs[0])


def _of_the_type(operator: str, taken: list[bytes]) -> list[bytes]:
    """Return the inputs of a node that have the type of its first output."""
    if operator in _TYPED_AS_ALL:
        return taken
    if operator == "Where":
        return taken[1:]
    return taken[:1] if operator in _TYPED_AS_FIRST or operator == "TopK" else []


def _casts_to_float(node: Message, operator: str) -> bool:
    """Return True if the output of a node has floats for all inputs."""
    if operator == "DequantizeLinear":
        return True
    kinds = [_number(attribute, 3) for attribute in node.get(5, []) if _text(attribute, 1) == "to"]
    return operator == "Cast" and len(kinds) == 1 and kinds[0] in _FLOATS


def _element(value: Message) -> int:
    """Return the element type of an input; 0 without one."""
    for kind in value.get(2, []):
        for tensor in kind.get(1, []):
            return _number(tensor, 1)
    return 0


def _text(message: Message, field: int) -> str:
    """Return a text field; empty without one."""
    content: bytes = message.get(field, [b""])[0]
    return content.decode()


def _number(message: Message, field: int) -> int:
    number: int = message.get(field, [0])[0]
    return number


def _read(kind: str, content: bytes, left: list[int], depth: int = 0) -> Message:
    """Read a message with all messages inside it. Raises ValueError or IndexError if it is invalid or truncated.

    Args:
        left: number of messages that are still allowed, counted down.
    """
    if depth == LIMITS["graph_levels"]:
        raise ValueError("it is nested too deeply")
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"it holds more than {LIMITS['graph_messages']} messages")
    known, found, at = MESSAGES[kind], Message(), 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        field = known.get(number)
        if field is None or field.wire != wire:
            raise ValueError(f"it holds a field {number} of a {kind}, which no bundle has")
        value: Any
        if wire == _VARINT:
            value, at = _varint(content, at)
        else:
            size, at = _varint(content, at) if wire == _BYTES else (_SIZES[wire], at)
            value, at = content[at : at + size], at + size
            if at > len(content):
                raise ValueError("it is cut")
        if field.text and not value.isascii():
            raise ValueError(f"it holds a name {value[:40]!r}, and no bundle has one like it")
        if field.kind is not None:
            value = _read(field.kind, value, left, depth + 1)
        if number in found and not field.many:
            raise ValueError(f"it says field {number} of a {kind} twice")
        found.setdefault(number, []).append(value)
    return found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Read an integer of up to 64 bits, and return it with its end."""
    byte = content[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte > 127:
        at += 1
        byte = content[at]
        value |= (byte & 127) << shift
        shift += 7
        if shift > 70:
            raise ValueError("it holds a number of more than 64 bits")
    return value, at + 1

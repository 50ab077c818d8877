"""The worker process of `fuzz`: opens corrupted bundles and queries them.

usage: python -m bench.experiments.fuzz_worker SEED FIRST END STEP SCRATCH BUNDLE...

It writes a line of JSON before and after each mutant. Mutants are bundles with random damage to bytes, files, the
manifest's JSON or the fields of a graph, determined by the seed and the number of the mutant. Even numbers have the
original manifest, so that sizes and sha256 do not match; odd numbers have them recomputed, as an attacker would, or a
damaged manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgerec.errors import EdgeRecError
from edgerec.runtime import Recommender, metadata
from edgerec.runtime.graph_check import MESSAGES
from edgerec.runtime.manifest import FILE_NAME, OPERATORS, read_manifest

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    -1,
    -2,
    16,
    64,
    255,
    256,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    -(1 << 63),
)
TEXTS = (
    b"", b"/etc/passwd", b"../../../etc/passwd", b"/proc/self/mem", b"/dev/zero", b"C:\\windows", b"*/_ORT_MEM_ADDR_/*",
    b"com.microsoft", b"ai.onnx.ml", b"\xff\xfe", b"\0", b"%s%n", b"x" * 5000,
)  # fmt: skip
FOREIGN = ("RandomNormal", "ConstantOfShape", "Constant", "PyOp", "MatMulNBits", "StringNormalizer", "ImageDecoder")
"""Operators that bundles do not use."""
VALUES: tuple[Any, ...] = (
    *NUMBERS, 10**30, 1.5, float("nan"), float("inf"), True, None, "", "0", "../x", "/etc/passwd", "\0", "x" * 5000, [],
    {}, [0], [1 << 40], [[1, 1]], {"file": "x"}, "float32", "uint8", "int64", "object", "fp32", "none", "str", "user",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A corrupted bundle.

    Attributes:
        base: index of the original bundle.
        way: name of the corruption.
        rehashed: True if sizes and sha256 were recomputed, or the manifest itself was edited.
    """

    folder: Path
    base: int
    way: str
    rehashed: bool


def mutant(number: int, seed: int, bundles: list[Path], folder: Path) -> Mutant:
    """Create the mutant with a number in `folder`, which is replaced."""
    rng = np.random.default_rng([seed, number])
    base = int(rng.integers(len(bundles)))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundles[base], folder)
    rehashed = number % 2 == 1
    ways = REHASHED if rehashed else UNHASHED
    way = list(ways)[int(rng.integers(len(ways)))]
    ways[way](folder, rng, bundles)
    if rehashed and way not in _OF_THE_MANIFEST:
        rehash(folder)
    return Mutant(folder, base, way, rehashed)


def rehash(folder: Path) -> None:
    """Set the sizes and sha256 of the manifest to those of the files."""
    path = folder / FILE_NAME
    fields = json.loads(path.read_bytes())
    for entry in (fields["tables"], *fields["graphs"].values(), *fields["other_files"]):
        file = folder / entry["file"]
        if file.is_file():
            content = file.read_bytes()
            entry |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    path.write_text(json.dumps(fields))


def _names(folder: Path) -> list[str]:
    """Return the names of the tables and the graphs."""
    manifest = read_manifest(folder)
    return [manifest.tables.name, *(graph.file.name for graph in manifest.graphs.values())]


T = TypeVar("T")


def _any(rng: np.random.Generator, of: Sequence[T]) -> T:
    return of[int(rng.integers(len(of)))]


def _bytes_of(change: Callable[[bytes, np.random.Generator], bytes]) -> Way:
    def changed(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
        path = folder / _any(rng, _names(folder))
        content = path.read_bytes()
        mutated = change(content, rng)
        while mutated == content:
            mutated = change(content, rng)
        path.write_bytes(mutated)

    return changed


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    corrupted = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        corrupted[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(corrupted)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _longer(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 200)))


def _noisy(content: bytes, rng: np.random.Generator) -> bytes:
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    return content[:at] + _any(rng, (rng.bytes(length), bytes(length), b"\xff" * length)) + content[at + length :]


def _swapped(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
    """Swap two files of the bundle."""
    one, other = rng.permutation(_names(folder))[:2].tolist()
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def _of_another(folder: Path, rng: np.random.Generator, bundles: list[Path]) -> None:
    """Replace a file by the corresponding one of another bundle."""
    name = _any(rng, _names(folder))
    alike = [
        path
        for bundle in bundles
        for path in bundle.glob(f"{name.partition('-')[0]}-*")
        if path.read_bytes() != (folder / name).read_bytes()
    ]
    (folder / name).write_bytes(_any(rng, alike).read_bytes())


def _no_file(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
    """Remove a file, or replace it by a link, a pipe or a folder."""
    path = folder / _any(rng, [*_names(folder), FILE_NAME])
    path.unlink()
    kind = int(rng.integers(4))
    if kind == 1:
        path.symlink_to(_any(rng, ("/etc/passwd", "/dev/zero", "/dev/stdin", str(path.parent / FILE_NAME))))
    elif kind == 2 and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif kind in (2, 3):
        path.mkdir()


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _leaves(value[key])


def _json(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
    """Replace, remove or move a few values of the manifest."""
    path = folder / FILE_NAME
    fields = json.loads(path.read_bytes())
    for _number in range(int(rng.integers(1, 3))):
        container, key = _any(rng, list(_leaves(fields)))
        kind = int(rng.integers(4))
        if kind == 0:
            container.pop(key)
        elif kind == 1:
            other, place = _any(rng, list(_leaves(fields)))
            container[key] = json.loads(json.dumps(other[place]))
        elif kind == 2 and isinstance(container[key], int):
            container[key] += _any(rng, (-64, -2, -1, 1, 2, 64, 1 << 33))
        else:
            container[key] = _any(rng, VALUES)
        if not list(_leaves(fields)):
            break
    path.write_text(json.dumps(fields))


def _json_bytes(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
    path = folder / FILE_NAME
    path.write_bytes(_any(rng, (_flipped, _cut, _longer, _noisy))(path.read_bytes(), rng))


Fields = list[list[Any]]
"""The fields of a message: [number, wire type, value] each; the value of an inner message is its fields."""


def parse(kind: str, content: bytes) -> Fields:
    """Parse the fields of a graph's message and of its inner messages."""
    found: Fields = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        key = varint()
        wire, value = key & 7, None
        if wire == 0:
            found.append([key >> 3, wire, varint()])
            continue
        size = varint() if wire == 2 else 4
        value, at = content[at : at + size], at + size
        inside = MESSAGES[kind][key >> 3].kind
        found.append([key >> 3, wire, value if inside is None else parse(inside, value)])
    return found


def dump(fields: Fields) -> bytes:
    """Serialise a message to bytes."""
    pieces = []
    for number, wire, value in fields:
        pieces.append(_varint(number << 3 | wire))
        if wire == 0:
            pieces.append(_varint(value & (1 << 64) - 1))
        else:
            content = dump(value) if isinstance(value, list) else value
            pieces += [_varint(len(content)), content] if wire == 2 else [content]
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _messages(fields: Fields) -> Iterator[Fields]:
    """Yield a message and all messages inside it."""
    yield fields
    for _, _, value in fields:
        if isinstance(value, list):
            yield from _messages(value)


def _graph_of(change: Callable[[Fields, np.random.Generator], None]) -> Way:
    def changed(folder: Path, rng: np.random.Generator, _: list[Path]) -> None:
        path = folder / _any(rng, _names(folder)[1:])
        content = mutated = path.read_bytes()
        while mutated == content:
            model = parse("model", content)
            change(model, rng)
            mutated = dump(model)
        path.write_bytes(mutated)

    return changed


def _edited(model: Fields, rng: np.random.Generator) -> None:
    """Change, remove, duplicate or move a few fields of a graph."""
    for _ in range(int(rng.integers(1, 3))):
        fields = _any(rng, [one for one in _messages(model) if one])
        at = int(rng.integers(len(fields)))
        kind = int(rng.integers(6))
        if kind == 0:
            fields.pop(at)
        elif kind == 1:
            fields.insert(int(rng.integers(len(fields) + 1)), _copied(fields[at]))
        elif kind == 2:
            others = [field for one in _messages(model) for field in one if field[:2] == fields[at][:2]]
            fields[at] = _copied(_any(rng, others))
        else:
            _corrupt(fields[at], rng)


def _other_operator(model: Fields, rng: np.random.Generator) -> None:
    """Replace the operator of a node by another one, known or unknown."""
    names = [field for one in _messages(model) for field in one if field[:2] == [4, 2] and _is_name(field[2])]
    _any(rng, names)[2] = _any(rng, (*sorted(OPERATORS), *FOREIGN)).encode()


def _is_name(value: Any) -> bool:
    return isinstance(value, bytes) and value.decode(errors="replace") in OPERATORS


def _copied(field: list[Any]) -> list[Any]:
    number, wire, value = field
    return [number, wire, [_copied(one) for one in value] if isinstance(value, list) else value]


def _corrupt(field: list[Any], rng: np.random.Generator) -> None:
    """Replace the number, text or value of a field; in a message, that of one of its fields."""
    _, wire, value = field
    if isinstance(value, list):
        if value:
            _corrupt(_any(rng, value), rng)
    elif wire == 0:
        field[2] = _any(rng, (*NUMBERS, value + 1, value - 1, value * 2))
    elif wire == 2:
        number = np.int64(_any(rng, NUMBERS[:-1])).tobytes()
        field[2] = _any(
            rng, (*TEXTS, number, number * 2, value * 2, value[:-1], _flipped(value, rng) if value else b"a")
        )
    else:
        field[2] = rng.bytes(4)


Way = Callable[[Path, np.random.Generator, list[Path]], None]
UNHASHED: dict[str, Way] = {
    "bits flipped": _bytes_of(_flipped),
    "cut": _bytes_of(_cut),
    "longer": _bytes_of(_longer),
    "noise": _bytes_of(_noisy),
    "files swapped": _swapped,
    "a file of another bundle": _of_another,
    "no file": _no_file,
    "graph edited": _graph_of(_edited),
}
"""Corruptions of mutants with the original manifest."""
_OF_THE_MANIFEST = ("manifest edited", "manifest's bytes")
REHASHED: dict[str, Way] = {
    **{name: way for name, way in UNHASHED.items() if name != "no file"},
    "operator replaced": _graph_of(_other_operator),
    "manifest edited": _json,
    "manifest's bytes": _json_bytes,
}
"""Corruptions of mutants whose manifest is recomputed or damaged itself."""


MEMORY = 4 << 30
"""Limit of the address space in bytes, as on small devices."""


def main(seed: int, first: int, end: int, step: int, scratch: Path, bundles: list[Path]) -> None:
    """Try the mutants first, first + step, ... below end."""
    with suppress(ImportError, ValueError):  # Windows, or the limit is lower already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    known = [answers(bundle) for bundle in bundles]
    for number in range(first, end, step):
        _report({"begin": number})
        one = mutant(number, seed, bundles, scratch / "mutant.bundle")
        outcome: dict[str, Any] = {"end": number, "way": one.way, "rehashed": one.rehashed}
        try:
            found = answers(one.folder)
        except EdgeRecError as error:
            _report({**outcome, "refused": type(error).__name__, "lines": str(error).count("\n") + 1})
        except BaseException as error:
            _report({**outcome, "unnamed": f"{type(error).__name__}: {error}"[:300]})
        else:
            _report({**outcome, "answers": "the same" if found == known[one.base] else "others"})


def answers(folder: Path) -> list[Any]:
    """Query a bundle in every way about its first items and users; return the answers as one comparable value.

    Raises EdgeRecError if the bundle or a query is refused.
    """
    about = metadata(folder)
    with Recommender.load(folder) as model:
        items = model.item_ids(range(min(12, model.n_items)))
        if model.n_users:
            who: list[Any] = [{"user": user} for user in USERS]
        else:
            who = [{"history": []}, {"history": items[:1]}, {"history": items[3:9]}]
        found: list[Any] = [about.items, about.users, items, [model.title(item) for item in items]]
        for one in who:
            filters: list[dict[str, Any]] = [{}, {"exclude": items[:5]}, {"allow": items[2:8], "exclude": items[4:5]}]
            for limits in filters:
                best = model.recommend(**one, k=min(7, model.n_items), **limits)
                found.append([(item, repr(score)) for item, score in best])
            found.append(list(map(repr, model.score(**one, items=items).tolist())))
        if "similar" in about.graphs:
            found.append([(item, repr(score)) for item, score in model.similar(items[1], min(5, model.n_items))])
    return found


USERS = (7, 8, 19)
"""Ids of users in the original bundles."""


def _report(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _seed, _first, _end, _step, _scratch, *_bundles = sys.argv[1:]
    main(int(_seed), int(_first), int(_end), int(_step), Path(_scratch), list(map(Path, _bundles)))

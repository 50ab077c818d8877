"""The ids of bundles of version 2 in JavaScript, and what is refused of them."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.runtime import Recommender
from edgerec.runtime.ids import BucketedIds, GroupedTexts, HashedIds, IdIndex, StrIds, id_hash
from edgerec.runtime.manifest import RowsEntry
from tests.devices.javascript import format2
from tests.devices.javascript.test_javascript import module
from tests.devices.web import BUNDLES, need

PLAIN = BUNDLES / "mixed-int8-linear"
HALF = "'\\ud800'"


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    need("node")


def numbers(rng: random.Random, count: int, low: int, high: int) -> list[int]:
    return sorted(rng.sample(range(low, high), count))


def number_cases() -> dict[str, tuple[list[list[int]], int]]:
    """Return blocks of whole numbers, and the number of low bytes."""
    rng = random.Random(0)
    ends = [-(2**63), -1, 0, 5, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1]
    return {
        "a bitmap and lists": ([[*range(-40, 60, 2), 300, 301, 5000], [7]], 1),
        "bitmaps that are full": ([list(range(1000)), list(range(2000, 2032))], 1),
        "31 and 32 ids": ([list(range(0, 62, 2)), list(range(1, 65, 2))], 1),
        "two bytes": ([numbers(rng, 500, 0, 10**7), numbers(rng, 20, -(10**6), -1)], 2),
        "four bytes": ([numbers(rng, 300, -(10**9), 10**9), [2**40, 2**40 + 1]], 4),
        "beyond 2^53": ([[2**60 + 1, 2**60 + 2, 2**60 + 2**50], [-(2**61), -5]], 6),
        "all of 64 bits": ([ends, [1, 2]], 7),
    }


TEXTS = {
    "ascii": [[f"item {n:04d}" for n in range(0, 300, 3)], [f"item {n:04d}" for n in range(1, 60, 3)]],
    "parts of letters": [["", "a", "a\u00e8", "a\u00e9", "a\u00ea\u20ac", "\U0001f600", "\U0001f601"]],
    "long": [["x" * 200, "x" * 300 + "a", "x" * 300 + "b", "y" * 20_000]],
}


def told_of(folder: Path, cases: dict[str, list[Any]]) -> dict[str, tuple[list[Any], list[int]]]:
    """Return, of the bundle of each case, all ids, and the places of those queries that it knows."""
    queries = {
        name: [f"{value}n" if isinstance(value, int) else json.dumps(value) for value in asked]
        for name, asked in cases.items()
    }
    asked = ", ".join(f"{json.dumps(name)}: [{', '.join(one)}]" for name, one in queries.items())
    told = module(
        f"const queries = {{ {asked} }};\n"
        "for (const [name, asked] of Object.entries(queries)) {\n"
        f"  const model = await edgerec.load({json.dumps(str(folder))} + '/' + name, {{ runtime }});\n"
        f"  if (model.has({HALF}) || model.has(0.5) || model.has(null) || model.has(true)) throw Error(name);\n"
        "  tell([model.items(), asked.map((id, n) => model.has(id) ? n : -1).filter((n) => n >= 0)]);\n"
        "}\n"
    )
    return dict(zip(cases, map(json.loads, told.splitlines()), strict=True))


def python(blocks: list[list[Any]], kind: str, section: bytes) -> IdIndex:
    """Return Python's index of a section."""
    entry = RowsEntry(sum(map(len, blocks)), tuple((8, len(ids)) for ids in blocks), kind)  # type: ignore[arg-type]
    content = np.frombuffer(section, np.uint8)
    if kind == "str":
        return StrIds(entry, GroupedTexts(entry, content))
    return HashedIds(BucketedIds(entry, content)) if kind == "hash64" else BucketedIds(entry, content)


def test_whole_numbers(tmp_path: Path) -> None:
    cases, known = number_cases(), {}
    for name, (blocks, low) in cases.items():
        section = format2.whole_numbers(blocks, low)
        format2.with_ids(PLAIN, tmp_path / name, {"item": ("int", section)}, [len(ids) for ids in blocks])
        ids = [number for block in blocks for number in block]
        near = {number + change for number in ids for change in (-1, 0, 1)}
        known[name] = sorted(near | {0, 2**63, -(2**64)})
        index = python(blocks, "int", section)
        assert index.rows(ids).tolist() == list(range(len(ids)))
    for name, (items, found) in told_of(tmp_path, known).items():
        ids = [number for block in cases[name][0] for number in block]
        assert items == [number if abs(number) < 2**53 else f"{number}n" for number in ids], name
        assert [known[name][n] for n in found] == sorted(set(ids)), name


@pytest.mark.parametrize("rows_a_group", [(1,), (255,), (3, 1, 7)])
def test_texts(tmp_path: Path, rows_a_group: tuple[int, ...]) -> None:
    known = {}
    for name, blocks in TEXTS.items():
        section = format2.texts(blocks, rows_a_group)
        format2.with_ids(PLAIN, tmp_path / name, {"item": ("str", section)}, [len(ids) for ids in blocks])
        ids = [text for block in blocks for text in block]
        known[name] = sorted({near for text in ids for near in (text, text[:-1], text + "!", text + "\0")} | {"\uffff"})
        assert python(blocks, "str", section).rows(ids).tolist() == list(range(len(ids)))
    for name, (items, found) in told_of(tmp_path, known).items():
        ids = [text for block in TEXTS[name] for text in block]
        assert items == ids
        assert [known[name][n] for n in found] == sorted(ids)


def hashed() -> tuple[list[str], list[list[int]], bytes]:
    """Return text ids of 60 rows, the hashes of each block, and their section."""
    ids = sorted((f"caf\u00e9 {n}" for n in range(60)), key=lambda text: (format2.fnv(text) + 2**63) % 2**64)
    signed = [number - (number >> 63 << 64) for number in map(format2.fnv, ids)]
    assert signed == sorted(signed) == list(map(id_hash, ids))
    blocks = [signed[:33], signed[33:50], signed[50:]]
    return ids, blocks, format2.whole_numbers(blocks, 7)


def test_hashes(tmp_path: Path) -> None:
    ids, blocks, section = hashed()
    format2.with_ids(PLAIN, tmp_path / "hashes", {"item": ("hash64", section)})
    ((items, found),) = told_of(tmp_path, {"hashes": [*ids, "none", "", 7]}).values()
    assert items == [f"{format2.fnv(text):016x}" for text in ids]
    assert items == python(blocks, "hash64", section).raw(np.arange(60))
    assert found == list(range(60))
    known = json.loads(module("tell(['', 'a', 'foobar'].map(edgerec.idHash));"))
    assert known == ["cbf29ce484222325", "af63dc4c8601ec8c", "85944171f73967e8"]  # the author's test vectors


@pytest.mark.slow
def test_answers_have_hashes(tmp_path: Path) -> None:
    ids, _, section = hashed()
    bundle = format2.with_ids(PLAIN, tmp_path / "hashes", {"item": ("hash64", section)})
    told = module(
        f"const model = await edgerec.load({json.dumps(str(bundle))}, {{ runtime }});\n"
        f"const ids = {json.dumps(ids)}; const best = await model.recommend({{ history: [ids[3], ids[9]], k: 5 }});\n"
        "const items = new Map(ids.map((id) => [edgerec.idHash(id), id]));\n"
        "tell([best.map(({ item }) => items.get(item)),"
        f" await fails(model.recommend({{ history: [{HALF}] }}))]);"
    )
    best, unknown = json.loads(told)
    expected = Recommender.load(bundle).recommend(history=[ids[3], ids[9]], k=5)
    assert [f"{format2.fnv(text):016x}" for text in best] == [one.item for one in expected]
    assert unknown.startswith("RequestError: item")


NUMBERS = [[*range(40), 300, 700], [5, 6, 7]]
WORDS = [["a", "ab", "abc", "b", "ba"], ["c"]]


def hostile_sections() -> dict[str, tuple[str, bytes]]:
    """Return sections of ids that are refused when a bundle is loaded, and their kinds."""
    numbers, words = format2.whole_numbers(NUMBERS, 1), format2.texts(WORDS, (2,))
    wide = format2.whole_numbers(NUMBERS, 2)
    # Where the first block has its counts of ids, its bitmap, its rows of groups, and its bytes of groups.
    counts, bitmap, rows, sizes = 13, 13 + 6, 4, 4 + 3

    def changed(section: bytes, at: int, content: bytes) -> bytes:
        return section[:at] + content + section[at + len(content) :]

    found = {
        "no low bytes": changed(numbers, 0, b"\0"),
        "8 low bytes": changed(wide, 0, b"\x08"),
        "other low bytes": changed(wide, 0, b"\3"),
        "too many buckets": changed(numbers, counts - 4, b"\xff" * 4),
        "a bucket of 65,535 ids": changed(numbers, counts, b"\xff\xff"),
        "an id of another block": changed(wide, counts, struct.pack("<H", len(NUMBERS[0]) - 1)),
        "a bit too many": changed(numbers, bitmap + 31, b"\1"),
        "a bit too few": changed(numbers, bitmap, b"\xfe"),
        "one byte more": numbers + b"\0",
        **{f"{n} bytes": numbers[:n] for n in range(len(numbers))},
    }
    found_texts = {
        "too many groups": changed(words, 0, b"\xff" * 4),
        "a group without rows": changed(words, rows, b"\0\4\1"),
        "rows of another block": changed(words, rows, b"\3"),
        "a group of too many bytes": changed(words, sizes, b"\xff" * 4),
        "a group of a byte more": changed(words, sizes, bytes([words[sizes] + 1])),
        "one byte more": words + b"\0",
        **{f"{n} bytes": words[:n] for n in range(len(words))},
    }
    return {f"numbers: {name}": ("int", section) for name, section in found.items()} | {
        f"texts: {name}": ("str", section) for name, section in found_texts.items()
    }


def hostile_groups() -> dict[str, tuple[str, bytes]]:
    """Return sections of texts whose groups are damaged, which is found when one is decoded."""

    def section(body: bytes) -> bytes:
        other = format2.texts([["c"]], (1,))
        return struct.pack("<IBI", 1, 3, len(body)) + body + other

    first = b"\0\1a"
    found = {
        "the first one shares": b"\1\1a" + b"\1\1b" * 2,
        "more shared than there is": first + b"\2\1b" + b"\1\1b",
        "longer than the section": first + b"\1\xff\xff\xff\xff\x0f",
        "a number of six bytes": first + b"\x81\x80\x80\x80\x80\0\1b",
        "a number without end": first + b"\xff" * 40,
        "no UTF-8": b"\0\1\xff" + b"\0\1\xfe" * 2,
    }
    return {name: ("str", section(body)) for name, body in found.items()}


OPENED = (
    "const whole = edgerec.folder(`${vectors}/mixed-int8-linear`);\n"
    "const text = (value) => new TextEncoder().encode(JSON.stringify(value));\n"
    "/** Open a bundle whose ids are a section, of blocks of rows. */\n"
    "const opened = (ids, section, rows) => {\n"
    "  const read = async (file, ...rest) => {\n"
    "    const content = await whole.read(file, ...rest);\n"
    "    if (file.startsWith('tables')) return Uint8Array.from([...content, ...section]);\n"
    "    if (file !== 'manifest.json') return content;\n"
    "    const m = JSON.parse(new TextDecoder().decode(content));\n"
    "    m.version = '2.0'; delete m.sections.item_id_offsets;\n"
    "    m.items = { ...m.items, ids, rows: rows.reduce((a, b) => a + b), blocks: rows.map((n) => [8, n]) };\n"
    "    m.sections.item_ids = [m.tables.bytes, 'uint8', [section.length]]; m.tables.bytes += section.length;\n"
    "    return text(m);\n"
    "  };\n"
    "  return edgerec.load({ read }, { runtime, verify: false });\n"
    "};\n"
)


def test_ids_that_are_damaged(tmp_path: Path) -> None:
    cases = hostile_sections()
    rows = {"int": [len(ids) for ids in NUMBERS], "str": [len(ids) for ids in WORDS]}
    groups = hostile_groups()
    whole = {"int": format2.whole_numbers(NUMBERS, 1), "str": format2.texts(WORDS, (2,))}
    told = module(
        OPENED + f"const rows = {json.dumps(rows)};\n"
        f"const cases = {json.dumps([[kind, list(section)] for kind, section in cases.values()])};\n"
        "for (const [kind, section] of cases) tell(await fails(opened(kind, section, rows[kind])));\n"
        f"for (const [kind, section] of {json.dumps([[kind, list(section)] for kind, section in whole.items()])})"
        " tell((await opened(kind, section, rows[kind])).items().length);\n"
        f"for (const section of {json.dumps([list(section) for _, section in groups.values()])}) {{\n"
        "  const model = await opened('str', section, [3, 1]);\n"
        "  tell([await fails((async () => model.items())()), await fails((async () => model.has('zz'))())]);\n"
        "}\n"
    )
    lines = [json.loads(line) for line in told.splitlines()]
    refused, counts, decoded = lines[: len(cases)], lines[len(cases) : len(cases) + 2], lines[len(cases) + 2 :]
    wanted = "BundleError: the section 'item_ids' is damaged; copy the bundle again"
    assert {name: said for name, said in zip(cases, refused, strict=True) if said != wanted} == {}
    assert counts == [sum(map(len, NUMBERS)), sum(map(len, WORDS))]
    for name, (listed, found) in zip(groups, decoded, strict=True):
        assert listed.startswith("BundleError: "), name
        assert found == (wanted if name not in ("no UTF-8",) else "no error"), name


REFUSED = "ids|buckets|bucket|groups"


def test_python_refuses_the_same_ids() -> None:
    for kind, section in hostile_sections().values():
        blocks: Any = NUMBERS if kind == "int" else WORDS
        with pytest.raises(ValueError, match=REFUSED):
            python(blocks, kind, section)

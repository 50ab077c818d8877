"""Attributes of items in JavaScript, by the graphs and by the kernel; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.runtime import Recommender
from edgerec_devices.web import files as web_files
from edgerec_export import export, from_arrays
from tests.devices.javascript.test_javascript import LIBRARY, module_of
from tests.devices.javascript.test_kernel import LIBRARY as KERNEL
from tests.devices.web import need

N_ITEMS = 600
GENRES = ("Drama|Film", "Film", "", "Dramatic", "a|Fi|Drama|Film", "|", "Œuvre|映画")
TEXTS = {
    "genre": [GENRES[n % 7] for n in range(N_ITEMS)],
    "__proto__": [f"{n:x}" for n in range(N_ITEMS)],
    'ye"ar\nœ😀': [""] * N_ITEMS,
}
ASKED = [("genre", value) for value in ("Drama", "Film", "Drama|Film", "Dra", "Drama|", "|", "映画", "Fi|Drama")]
ASKED += [("__proto__", "ff"), ("__proto__", "no"), ('ye"ar\nœ😀', "1999")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with numbers of one byte and of two."""
    rows = np.random.default_rng(0).standard_normal((N_ITEMS, 8), np.float32)
    source = from_arrays(rows, item_ids=[f"item {n}" for n in range(N_ITEMS)], attributes=TEXTS)
    return export(source, tmp_path_factory.mktemp("attributes") / "b", verify=False).folder


@pytest.fixture(params=["onnxruntime", "kernel"])
def module(request: pytest.FixtureRequest, folder: Path) -> Any:
    """Returns the JSON values that a module prints; `load(change)` opens the bundle with its files changed."""
    need("node")
    by_kernel = request.param == "kernel"
    runtime = (web_files.installed() / "ort.node.min.mjs").as_uri()
    head = (
        "const options = { verify: false };\n"
        if by_kernel
        else (f"import * as runtime from {json.dumps(runtime)};\nconst options = {{ verify: false, runtime }};\n")
    )
    head += (
        f"const whole = edgerec.folder({json.dumps(str(folder))});\n"
        f"const load = (change = '') => edgerec.load({{ async read(file, ...rest) {{\n"
        "  const m = JSON.parse(new TextDecoder().decode(await whole.read('manifest.json', 1 << 22, true)));\n"
        "  const t = Uint8Array.from(await whole.read(m.tables.file, m.tables.bytes, true));\n"
        "  new Function('m', 't', change)(m, t);\n"
        "  if (file === m.tables.file) return t;\n"
        "  return file === 'manifest.json' ? new TextEncoder().encode(JSON.stringify(m)) : whole.read(file, ...rest);\n"
        "} }, options);\n"
        "const said = (act) => fails((async () => act())());\n"
    )
    return lambda code: [
        json.loads(line) for line in module_of(KERNEL if by_kernel else LIBRARY, head + code).splitlines()
    ]


def test_they_are_those_of_the_export(module: Any, folder: Path) -> None:
    names, items, records, *found, best = module(
        "const model = await load(); const items = model.items();\n"
        "tell(model.metadata.attributes); tell(items); tell(items.map(model.attributes));\n"
        f"for (const [name, value] of {json.dumps(ASKED)}) tell(model.itemsWith(name, value));\n"
        "const allow = model.itemsWith('genre', 'Film');\n"
        "tell((await model.recommend({ history: [items[0]], allow, k: 5 })).map(({ item }) => item));\n"
    )
    model = Recommender.load(folder)
    assert names == list(TEXTS)
    wanted = {f"item {n}": {name: text[n] for name, text in TEXTS.items() if text[n]} for n in range(N_ITEMS)}
    assert dict(zip(items, records, strict=True)) == wanted
    assert [list(one) for one in records] == [list(wanted[item]) for item in items]
    assert found == [model.items_with(*one) for one in ASKED]
    assert best == [
        one.item for one in model.recommend(history=items[:1], allow=model.items_with("genre", "Film"), k=5)
    ]


def test_requests_that_make_no_sense(module: Any) -> None:
    unknown, half, name, empty, number, metadata, none, without = module(
        "const model = await load(); const plain = await load('delete m.item_attributes');\n"
        "tell(await said(() => model.attributes('nobody knows')));\n"
        "tell(await said(() => model.attributes('\\ud800')));\n"
        "tell(await said(() => model.itemsWith('title', 'x'))); tell(await said(() => model.itemsWith('genre', '')));\n"
        "tell(await said(() => model.itemsWith('genre', 1999)));\n"
        "tell(plain.metadata.attributes); tell(plain.attributes('item 0'));\n"
        "tell(await said(() => plain.itemsWith('genre', 'x')));\n"
    )
    assert unknown.startswith("RequestError: item 'nobody knows' is not in the bundle")
    assert half.startswith("RequestError: ")
    assert name.startswith("RequestError: this bundle has no attribute 'title' of items; it has genre, __proto__, ye")
    assert empty == number == "RequestError: the value of an attribute must be a text that is not empty"
    assert (metadata, none) == ([], {})
    assert without == "RequestError: this bundle has no attribute 'genre' of items; it has none"


NAMES = ("null", "'a'", "{}", "[]", "['a', 1]", "['a', null]", "['a', '']", "['a', 'b', 'a']", "[['a']]")
DAMAGED = (
    *(f"m.item_attributes = {names}" for names in NAMES),
    "m.item_attributes = Array.from({ length: 65 }, (_, n) => `a${n}`)",
    "m.item_attributes = Array.from({ length: 64 }, (_, n) => `a${n}`)",
    *(
        f"{change}m.sections.attribute_1{suffix}{rest}"
        for suffix in ("", "_texts", "_text_offsets")
        for change, rest in (("delete ", ""), ("", "[1] = 'float32'"), ("", "[2].push(1)"), ("", "[2] = [2 ** 40]"))
    ),
    *(f"m.sections.attribute_1[1] = '{dtype}'" for dtype in ("int8", "int16")),
    "m.sections.attribute_1_texts[1] = 'int8'",
    "m.sections.attribute_1[2] = [599]",
    "m.sections.attribute_1_text_offsets[2] = [0]",
)


def test_damaged_manifests_are_refused(module: Any) -> None:
    printed = module(f"for (const change of {json.dumps(DAMAGED)}) tell(await fails(load(change)));\n")
    wrong = [pair for pair in zip(DAMAGED, printed, strict=True) if not pair[1].startswith("BundleError: ")]
    assert wrong == []


def test_a_number_of_no_text_is_refused_when_it_is_read(module: Any) -> None:
    change = f"t[m.sections.attribute_0[0] + 5] = {len(set(GENRES))}"
    printed = module(
        f"const model = await load({json.dumps(change)}); const items = model.items();\n"
        "tell(await said(() => model.attributes(items[5])));\n"
        "tell(await said(() => model.itemsWith('genre', 'Film')));\n"
        "tell(await said(() => model.attributes(items[6]))); tell(model.itemsWith('__proto__', 'ff').length);\n"
    )
    assert [line.startswith("BundleError: ") for line in printed[:2]] == [True, True]
    assert printed[2:] == ["no error", 1]

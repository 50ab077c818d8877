"""The module `edgerec/kernel`: the vectors in Node, a page's worker and an edge worker; its bytes, and its memory."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest

from edgerec.runtime import Recommender
from edgerec.runtime.manifest import read_manifest
from edgerec.runtime.stored import pack
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec_devices.web import files as web_files
from edgerec_devices.web.static_site import StaticServer
from edgerec_export import ExportRequest, Source, export_request
from tests.devices.chrome import Chrome
from tests.devices.javascript.test_javascript import module_of, node
from tests.devices.javascript.workerd import worker
from tests.devices.kernel.conftest import KERNEL, is_refused, second_version
from tests.devices.web import BUNDLES, need_programs
from tests.vectors.cases import cases
from tests.vectors.check import FOLDER

__all__ = ["second_version"]

HERE = Path(__file__).parent
DIST = web_files.DIST
WASM, RELAXED = web_files.KERNELS
LIBRARY = DIST / "edgerec-kernel-node.mjs"
MODULES = ("edgerec-kernel.mjs", "edgerec-packed.mjs", "edgerec-session.mjs", "edgerec-signature.mjs")
"""Files that a page loads, at once and on first use, without those for patches."""
MOST_BYTES, MOST_COMPRESSED = 42 << 10, 21 << 10
"""Bytes of the module with its WebAssembly, of which a page loads one build, and of both compressed by gzip."""
LARGE, PAGE = 100_000, 65_536
"""Items of a catalogue with blocks that are skipped; bytes by which WebAssembly's memory grows."""
REFUSED = [case.name for case in cases() if is_refused(case.version, case.options.precision)]
TAKEN = [case.name for case in cases() if case.name not in REFUSED]


@pytest.fixture(scope="module")
def ready() -> None:
    need_programs("node", "chromium")


def module(code: str) -> list[object]:
    """The JSON values that a module with the kernel prints, as `module_of` says."""
    return [json.loads(line) for line in module_of(LIBRARY, code).splitlines()]


@pytest.mark.parametrize("kernel", web_files.KERNELS, ids=lambda path: path.stem)
def test_it_is_small(kernel: Path) -> None:
    loaded = [kernel.read_bytes(), (DIST / "edgerec-kernel.mjs").read_bytes()]
    assert sum(map(len, loaded)) <= MOST_BYTES
    assert sum(len(gzip.compress(content, 9)) for content in loaded) <= MOST_COMPRESSED


def test_statuses_are_those_of_the_header() -> None:
    header = (KERNEL / "edgerec_kernel.h").read_text()
    (listed,) = re.findall(r"typedef enum er_status \{(.*?)\}", header, re.DOTALL)
    numbers: dict[str, int] = {}
    last = -1
    for name, number in re.findall(r"(ER_\w+)(?: = (\d+))?", re.sub(r"/\*.*?\*/", "", listed, flags=re.DOTALL)):
        numbers[name] = last = int(number) if number else last + 1
    source = (KERNEL.parent / "web" / "src" / "kernel.ts").read_text()
    said = dict(re.findall(r'^  (\d+): ".*", // (ER_\w+)$', source, re.MULTILINE))
    assert len(said) == 10
    assert said == {str(numbers[name]): name for name in said.values()}
    assert (numbers["ER_MEMORY"], numbers["ER_REQUEST"], numbers["ER_FILE"], numbers["ER_UNSIGNED"]) == (1, 32, 72, 96)


def test_exports_have_one_order() -> None:
    """They have no names: those of the build, of the type and of the variables must be in the same order."""
    web = KERNEL.parent / "web"
    build, source = (web / "build_wasm.py").read_text(), (web / "src" / "kernel.ts").read_text()
    places = (
        (build, r"^EXPORTED = \((.*?)^\)", r'"(\w+)"'),
        (source, r"^type Exports = \[(.*?)^\]", r"^  (\w+):"),
        (source, r"^  const \[\n(.*?)\] = Object\.values\(exports\)", r"^    (\w+),$"),
    )
    lists = []
    for text, within, name in places:
        found = re.search(within, text, re.DOTALL | re.MULTILINE)
        assert found
        lists.append(re.findall(name, found[1], re.MULTILINE))
    assert len(lists[0]) == 15
    assert lists[0] == lists[1] == lists[2]


def check(folder: Path, wanted: list[str], place: str) -> list[object]:
    """The failures of vectors in `folder`, whose bundles are at `place`, an expression of `bundle`, their path."""
    texts = (folder / "requests").as_uri().removesuffix("requests")
    return module(
        f"import {{ failures }} from {json.dumps((FOLDER / 'check.mjs').as_uri())};\n"
        "import { readFile } from 'node:fs/promises';\n"
        "const place = {\n"
        f"  source: (bundle) => edgerec.folder({place}),\n"
        f"  text: (path) => readFile(new URL(path, {json.dumps(texts)}), 'utf8'),\n"
        "};\n"
        f"for (const name of {json.dumps(wanted)}) {{\n"
        "  for (const line of await failures(edgerec, name, place)) tell(line);\n"
        "}\n"
    )


def test_the_vectors_in_node(ready: None) -> None:
    printed = node(FOLDER / "check.mjs", LIBRARY, "-", *TAKEN)
    assert printed.splitlines()[-1] == f"{len(TAKEN)} vectors, 0 failures", printed


def test_integers_of_version_2_in_node(ready: None, second_version: Path) -> None:
    assert check(second_version, REFUSED, f"`{second_version}/${{bundle}}`") == []


def test_integers_of_version_1_are_refused_by_name(ready: None) -> None:
    printed = module(
        f"for (const name of {json.dumps(REFUSED)}) tell(await fails(edgerec.load(`${{vectors}}/${{name}}`)));\n"
    )
    said = "BundleError: integers of version 1.0 need onnxruntime; export the bundle again, as version 2.0"
    assert printed == [said] * len(REFUSED)


def test_the_vectors_in_one_file(ready: None, second_version: Path, tmp_path: Path) -> None:
    for folder, all_names in ((FOLDER, TAKEN), (second_version, REFUSED)):
        some = [name for name in all_names if name != "signed"]  # a byte of it is changed, in a folder
        for name in some:
            pack(folder / "bundles" / name, tmp_path / name)
        assert check(folder, some, f"`{tmp_path}/${{bundle.split('/').at(-1)}}`") == []


def test_the_vectors_in_a_worker_of_a_page(browser: Chrome, second_version: Path) -> None:
    files: dict[str, Path | bytes] = {path.name: path for path in DIST.glob("edgerec*")}
    for folder in (second_version, FOLDER):
        some = REFUSED if folder == second_version else TAKEN
        kept = [path for name in some for path in (folder / "bundles" / name).iterdir()]
        kept += [folder / "requests" / f"{name}.json" for name in some]
        files |= {f"vectors/{path.relative_to(folder)}": path for path in kept}
    files |= {f"vectors/keys/{path.name}": path for path in (FOLDER / "keys").iterdir()}
    files |= {"check.mjs": FOLDER / "check.mjs", "vectors.mjs": HERE / "vectors.mjs", "index.html": HERE / "page.html"}
    with StaticServer(files) as server:
        page = browser.open(server.address)
        found = page.js(
            "new Promise((resolve, reject) => { const worker = new Worker('vectors.mjs?kernel', {type: 'module'});"
            "worker.onerror = (e) => reject(e.message); worker.onmessage = (e) => resolve(e.data);"
            f"worker.postMessage({json.dumps([*TAKEN, *REFUSED])}); }})"
        )
        assert found == []
        assert not page.complaints()
        assert not [path for path in server.log if path.startswith("ort/")]
        assert RELAXED.name in server.log, "Chromium has relaxed dot products"
        assert WASM.name not in server.log


@pytest.fixture(scope="module")
def edge(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an edge worker with a bundle in one file."""
    folder = tmp_path_factory.mktemp("edge")
    pack(BUNDLES / "v2-lists-linear", folder / "films.edgerec")
    (folder / "started").mkdir()
    modules = {"edge.mjs": HERE / "edge.mjs", "check.mjs": FOLDER / "check.mjs"}
    modules |= {
        path.name: path
        for path in (
            *(DIST / name for name in MODULES),
            DIST / "edgerec-reading.mjs",
            DIST / "edgerec-patch.mjs",
            WASM,
        )
    }
    with worker({**modules, "films.edgerec": folder / "films.edgerec"}, folder / "started", FOLDER) as address:
        yield address


def test_the_vectors_in_an_edge_worker(edge: str) -> None:
    found = []
    for name in TAKEN:
        with urlopen(f"{edge}vectors?{urlencode({'names': name})}") as answer:
            found += json.load(answer)
    assert found == []


def test_an_edge_worker_answers_a_request(edge: str) -> None:
    model = Recommender.load(BUNDLES / "v2-lists-linear")
    history = [str(item) for item in model.item_ids([3, 7])]
    with urlopen(f"{edge}recommend?{urlencode({'history': ','.join(history), 'k': 5})}") as answer:
        best = json.load(answer)
    assert [one["item"] for one in best] == [one.item for one in model.recommend(history=history, k=5)]
    with pytest.raises(HTTPError, match="400"):
        urlopen(f"{edge}recommend?{urlencode({'history': 'nobody knows', 'k': 5})}")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles with blocks that requests skip, 'mixed' and 'ell'."""
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    values, users = (rng.standard_normal((n, 16), np.float32) for n in (LARGE, 5))
    values *= rng.choice([0.3, 1, 2], LARGE, p=[0.6, 0.3, 0.1])[:, None].astype(np.float32)
    mask = rng.random(values.shape) < 0.5
    mask[:, 0] = True
    tables = {
        "mixed": PrefixTable.from_dense(values, rng.choice([2, 4, 8, 16], LARGE)),
        "ell": SparseTable.from_dense(values, mask),
    }
    for layout, table in tables.items():
        source = Source(table, np.arange(LARGE), DenseTable(users), np.arange(5), about={})
        precision = "fp32" if layout == "mixed" else "int8"
        export_request(source, folder / layout, ExportRequest(layout, precision, verify=False))
    return folder


@pytest.mark.parametrize("layout", ["mixed", "ell"])
def test_blocks_of_a_large_catalogue_are_skipped_exactly(ready: None, large: Path, layout: str) -> None:
    said = module(
        f"const model = await edgerec.load({json.dumps(str(large / layout))});\n"
        "for (let user = 0; user < 5; user++) tell((await model.recommend({ user, k: 20 })).map(({ item }) => item));\n"
        "for (const item of [3, 900, 65000]) tell((await model.similar(item, 20)).map(({ item }) => item));\n"
    )
    model = Recommender.load(large / layout)
    assert len(read_manifest(large / layout).items.blocks) > 3
    wanted = [[one.item for one in model.recommend(user=user, k=20)] for user in range(5)]
    wanted += [[one.item for one in model.similar(item, 20)] for item in (3, 900, 65000)]
    assert said == wanted


def test_a_memory_holds_the_tables_once_and_less_than_the_scores(ready: None, large: Path) -> None:
    """Tables are read where they lie, so that memory holds them and the work of a request; a request for all items adds
    its lists."""
    (tables,) = (large / "mixed").glob("tables-*")
    printed = module(
        "const memories = []; const Memory = WebAssembly.Memory;\n"
        "WebAssembly.Memory = class extends Memory { constructor(...a) { super(...a); memories.push(this); } };\n"
        f"const model = await edgerec.load({json.dumps(str(large / 'mixed'))});\n"
        "const sizes = () => memories.map((one) => one.buffer.byteLength);\n"
        "const all = model.items(); await model.recommend({ user: 1, k: 10, exclude: all.slice(0, 100) });\n"
        "tell(sizes());\n"
        "await model.recommend({ user: 1, k: all.length, exclude: all.slice(1) });\n"
        "tell((await model.recommend({ user: 1, k: all.length })).length);\n"
        "await model.score({ user: 2, items: [...all, ...all, ...all] });\n"
        "tell(sizes()); await model.close();\n"
        "tell(await fails(model.recommend({ user: 1, k: 3 })));\n"
    )
    (few,), found, (most,), closed = printed
    assert found == LARGE
    beyond = few - tables.stat().st_size
    assert beyond <= 4 * LARGE, "a float an item"
    assert most - few <= 12 * LARGE + PAGE, "a row of the request, and a row and a score of the answer"
    assert closed == "RequestError: this bundle was closed; load it again"


def test_what_is_missing_is_named(ready: None, tmp_path: Path) -> None:
    (tmp_path / "none.wasm").write_bytes(b"")
    printed = module(
        f"const kernel = {json.dumps(str(tmp_path / 'none.wasm'))};\n"
        "tell(await fails(edgerec.load(`${vectors}/titles`, { kernel })));\n"
        "tell(await fails(edgerec.load(`${vectors}/none`)));\n"
        "const model = await edgerec.load(`${vectors}/no-similar`); const [item] = model.items();\n"
        "tell(await fails(model.similar(item, 3))); tell(await fails(model.encode([item])));\n"
    )
    assert str(printed[0]).startswith("MissingError: the kernel cannot be loaded (")
    assert str(printed[1]).startswith("BundleError: ")
    assert printed[2] == "RequestError: this bundle has no 'similar' graph: it was exported without"
    assert str(printed[3]).startswith("RequestError: ")


def test_damaged_bundles_are_refused_by_named_errors(ready: None) -> None:
    said = json.loads(node(HERE / "mutate.mjs", LIBRARY, "-", FOLDER, "1", "400"))
    assert not said["wrong"]
    assert said["refused"] > 100


def test_metadata_and_patches_are_loaded_on_use(browser: Chrome, tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {path.name: path for path in DIST.glob("edgerec*")}
    files |= {f"bundle/{path.name}": path for path in (BUNDLES / "v2-mean").iterdir()}
    files["index.html"] = (HERE / "page.html").read_bytes()
    with StaticServer(files) as server:
        page = browser.open(server.address)
        found = page.js(
            "(async () => { const e = await import('/edgerec-kernel.mjs'); const m = await e.load('/bundle');"
            "const before = performance.getEntriesByType('resource').filter((r) => r.name.includes('reading')).length;"
            "const same = JSON.stringify(await e.metadata('/bundle')) === JSON.stringify(m.metadata);"
            "const kinds = (x) => [x instanceof e.BundleError, x instanceof e.PatchError, x.name]; const said = [];"
            "said.push(await e.metadata('/none').catch(kinds));"
            "said.push(await e.apply('/bundle', new Uint8Array(9)).catch(kinds));"
            "return [before, same, said]; })()"
        )
        assert found == [0, True, [[True, False, "BundleError"], [False, True, "PatchError"]]]

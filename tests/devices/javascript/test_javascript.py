"""The JavaScript runtime, as it ships: the test vectors in Node and in a page's worker, trust, caches and histories."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from edgerec.runtime.manifest import MOST_BYTES as MOST_MANIFEST_BYTES
from edgerec.runtime.manifest import MOST_GRAPH_BYTES
from edgerec_devices.web import files as web_files
from edgerec_devices.web.static_site import StaticServer
from tests.devices.chrome import Chrome, Page
from tests.devices.web import BUNDLES, hostile_graphs, native, need, not_finite
from tests.vectors.check import FOLDER, names

HERE = Path(__file__).parent
LIBRARY = web_files.DIST / "edgerec-node.mjs"
SOURCES = Path(web_files.__file__).parents[2] / "web" / "src"
MOST_BYTES = 22_700
"""Of our own code, minified, that a page loads at first."""
MOST_BYTES_IN_ALL = 38_100
"""With what it loads on first use."""
Files = dict[str, Path | bytes]


@pytest.fixture(scope="module")
def ready() -> None:
    need("node", "chromium")


def node(*arguments: str | Path) -> str:
    """What a program of Node prints."""
    done = subprocess.run(["node", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    return done.stdout


def module(code: str) -> str:
    """The JSON that a module prints with `tell(value)`; `edgerec`, `runtime` and `vectors` are there."""
    runtime = web_files.installed() / "ort.node.min.mjs"
    return module_of(LIBRARY, f"import * as runtime from {json.dumps(runtime.as_uri())};\n{code}")


def module_of(library: Path, code: str) -> str:
    """The same of a module with this library as `edgerec`, and without `runtime`."""
    head = (
        f"import * as edgerec from {json.dumps(library.as_uri())};\n"
        f"const vectors = {json.dumps(str(BUNDLES))};\n"
        "const tell = (value) => console.log(JSON.stringify(value, (_, v) => typeof v === 'bigint' ? `${v}n` : v));\n"
        "const fails = (promise) => promise.then(() => 'no error', (e) => `${e.name}: ${e.message}`);\n"
    )
    return node("--input-type=module", "-e", head + code)


def library_files() -> Files:
    """What a page needs, and the vectors."""
    files: Files = {path.name: path for path in web_files.DIST.glob("edgerec*.mjs")}
    files |= {f"ort/{name}": web_files.installed() / name for name in web_files.RUNTIME}
    files |= {f"vectors/{path.relative_to(FOLDER)}": path for path in FOLDER.rglob("*") if path.is_file()}
    files |= {"check.mjs": FOLDER / "check.mjs", "vectors.mjs": HERE / "vectors.mjs", "index.html": HERE / "page.html"}
    return files


@pytest.fixture(params=["onnxruntime-web", pytest.param("onnxruntime-node", marks=pytest.mark.slow)])
def runtime(ready: None, request: pytest.FixtureRequest) -> Path:
    """The module of an onnxruntime for Node."""
    if request.param == "onnxruntime-node":
        return native() / "onnxruntime-node" / "dist" / "index.js"
    return web_files.installed() / "ort.node.min.mjs"


def test_the_vectors_in_node(runtime: Path) -> None:
    told = node(FOLDER / "check.mjs", LIBRARY, runtime)
    assert told.splitlines()[-1] == f"{len(names())} vectors, 0 failures", told


@pytest.mark.slow
def test_the_vectors_in_a_worker_of_a_page(browser: Chrome) -> None:
    with StaticServer(library_files()) as server:
        page = browser.open(server.address)
        found = page.js(
            "new Promise((resolve, reject) => { const worker = new Worker('vectors.mjs', {type: 'module'});"
            "worker.onerror = (e) => reject(e.message); worker.onmessage = (e) => resolve(e.data);"
            f"worker.postMessage({json.dumps(names())}); }})"
        )
        assert found == []
        assert not page.complaints()


def test_it_is_small() -> None:
    assert (web_files.DIST / "edgerec.mjs").stat().st_size < MOST_BYTES
    others = {LIBRARY, web_files.DIST / "edgerec-reading.mjs", *web_files.DIST.glob("edgerec-kernel*")}
    ours = set(web_files.DIST.glob("edgerec*.mjs")) - others
    assert sum(path.stat().st_size for path in ours) < MOST_BYTES_IN_ALL


@pytest.mark.slow
def test_damaged_bundles_are_refused_by_named_errors(runtime: Path) -> None:
    told = node(HERE / "mutate.mjs", LIBRARY, runtime, FOLDER, "1", "80")
    said = json.loads(told)
    assert not said["wrong"]
    assert said["refused"] > 40


CHANGES = {
    "m.version = '3.0'": "has version 3.0, this reader knows 2.x; update edgerec",
    **{f"m.version = {said}": "damaged at 'version'" for said in ("'0'", "'1'", "1.5", "'1.0.0'", "null")},
    **{f"delete m.{name}": f"damaged at '{name}'" for name in ("version", "layout", "precision", "encoder", "users")},
    "m.encoder = {}": "damaged at 'empty_history'",
    "m.encoder = 3": "damaged at 'encoder'",
    "m.sections.i[0] += 1": "damaged at 'i'",
    "m.tables.file = '.tables.bin'": "manifest.json is damaged at '.tables.bin'",
    "m.tables.file = 'f'.repeat(256)": "manifest.json is damaged at 'fff",
    "m.format = 'zip'": "describes no bundle of EdgeRec",
    "m.tables.file = '../tables.bin'": "manifest.json is damaged at '../tables.bin'",
    "m.tables.file = '/etc/passwd'": "damaged at '/etc/passwd'",
    "delete m.tables.file": "damaged at 'tables'",
    "delete m.graphs.score.file": "damaged at 'score'",
    "m.tables.sha256 = [m.tables.sha256]": "manifest.json is damaged at",
    "m.items.ids = [m.items.ids]": "damaged at 'items'",
    "m.tables.bytes = 17": "damaged at 'u'",
    "m.tables.bytes += 1": "bytes where manifest.json says",
    "m.tables.bytes = 2 ** 60": "damaged at 'tables'",
    "m.sections.i = [1 << 30, 'float32', [4]]": "damaged at 'i'",
    "m.sections.i = [0, 'float32', [1e9, 1e9, 1e9]]": "damaged at 'i'",
    "m.sections.i = [-64, 'float32', [4]]": "damaged at 'i'",
    "m.sections.i = [0, 'object', [4]]": "damaged at 'i'",
    "m.sections.item_id_offsets[2] = [3]": "damaged at 'item_id_offsets'",
    "m.items.blocks = [[8, 59]]": "damaged at 'items'",
    "m.graphs = {}": "damaged at 'recommend'",
    f"m.graphs.score.bytes = {MOST_GRAPH_BYTES + 1}": "manifest.json is damaged at 'score'",
    f"m.about.name = ' '.repeat({MOST_MANIFEST_BYTES})": "manifest.json has more than 4194304 bytes",
    "m.other_files.push(m.other_files[0])": "manifest.json is damaged at 'other_files'",
    "for (let n = 0; n < 40; n++) m.other_files.push({ ...m.tables, file: `f${n}.bin` })": "damaged at 'other_files'",
    "for (let n = 0; n < 20; n++) m.graphs[n] = { ...m.graphs.score, file: `${n}.onnx` }": "damaged at 'graphs'",
    "for (let n = 0; n < 257; n++) m.sections[n] = m.sections.i": "damaged at 'sections'",
    "m.about.lists = Array(300000).fill([])": "describes no bundle of EdgeRec",
    "m.about.deep = JSON.parse('['.repeat(31) + ']'.repeat(31))": "describes no bundle of EdgeRec",
    "m.about.wide = Object.fromEntries(Array(4097).fill(0).map((_, n) => [n, n]))": "describes no bundle of EdgeRec",
    "m.graphs.recommend.tensors = {}": "lies elsewhere than the manifest says",
    "Object.values(m.graphs.recommend.tensors)[0][0] += 64": "lies elsewhere than the manifest says",
    "m.tables.sha256 = 'a'.repeat(64)": "is not the file that manifest.json describes (sha256 differs)",
}


def test_what_is_refused_and_why(ready: None) -> None:
    told = module(
        f"const changes = {json.dumps(list(CHANGES))};\n"
        "const whole = edgerec.folder(`${vectors}/titles`);\n"
        "for (const change of changes) {\n"
        "  const read = async (file, ...rest) => {\n"
        "    const content = await whole.read(file, ...rest);\n"
        "    if (file !== 'manifest.json') return content;\n"
        "    const m = JSON.parse(new TextDecoder().decode(content));\n"
        "    new Function('m', change)(m);\n"
        "    return new TextEncoder().encode(JSON.stringify(m));\n"
        "  };\n"
        "  tell(await fails(edgerec.load({ read }, { runtime })));\n"
        "}\n"
    )
    for (change, reason), line in zip(CHANGES.items(), told.splitlines(), strict=True):
        said = json.loads(line)
        assert said.startswith("BundleError: "), (change, said)
        assert reason in said, (change, said)


def test_graphs_that_do_what_no_bundle_does(ready: None, tmp_path: Path) -> None:
    hostile = hostile_graphs()
    for name, (content, _) in hostile.items():
        (tmp_path / name).write_bytes(content)
    told = module(
        "import { createHash } from 'node:crypto'; import { readFile } from 'node:fs/promises';\n"
        "const whole = edgerec.folder(`${vectors}/titles`);\n"
        f"for (const name of {json.dumps(list(hostile))}) {{\n"
        f"  const graph = new Uint8Array(await readFile({json.dumps(str(tmp_path))} + '/' + name));\n"
        "  const read = async (file, ...rest) => {\n"
        "    if (file.startsWith('recommend')) return graph;\n"
        "    const content = await whole.read(file, ...rest);\n"
        "    if (file !== 'manifest.json') return content;\n"
        "    const m = JSON.parse(new TextDecoder().decode(content));\n"
        "    const sha256 = createHash('sha256').update(graph).digest('hex');\n"
        "    Object.assign(m.graphs.recommend, { bytes: graph.length, sha256 });\n"
        "    return new TextEncoder().encode(JSON.stringify(m));\n"
        "  };\n"
        "  tell(await fails(edgerec.load({ read }, { runtime })));\n"
        "}\n"
    )
    for (name, (_, reason)), line in zip(hostile.items(), told.splitlines(), strict=True):
        said = json.loads(line)
        assert said.startswith("BundleError: recommend-"), (name, said)
        assert reason in said, (name, said)


def test_metadata_reads_the_manifest_alone(ready: None) -> None:
    told = module(
        "const asked = []; const whole = edgerec.folder(`${vectors}/csr-int8-ials`);\n"
        "const read = (file, ...rest) => { asked.push(file); return whole.read(file, ...rest); };\n"
        "tell([await edgerec.metadata({ read }), asked]);"
    )
    metadata, asked = json.loads(told)
    assert asked == ["manifest.json"]
    files = sum(path.stat().st_size for path in (BUNDLES / "csr-int8-ials").iterdir())
    assert metadata["bytes"] == files
    assert (metadata["layout"], metadata["precision"], metadata["items"], metadata["users"]) == ("csr", "int8", 60, 0)
    assert metadata["graphs"] == ["recommend", "score", "similar", "encode"]


@pytest.mark.slow
def test_a_graph_is_opened_on_first_use_and_nothing_after_close(ready: None) -> None:
    told = module(
        "let opened = 0; const counting = { ...runtime, InferenceSession: { create: (...a) => (opened++, "
        "runtime.InferenceSession.create(...a)) } };\n"
        "const model = await edgerec.load(`${vectors}/titles`, { runtime: counting });\n"
        "const counts = [opened]; const [item] = model.items();\n"
        "await Promise.all([1, 2, 3].map((k) => model.recommend({ user: 'a', k }))); counts.push(opened);\n"
        "await model.score({ user: 'a', items: [item] }); counts.push(opened);\n"
        "await model.close(); tell([counts, await fails(model.recommend({ user: 'a' }))]);"
    )
    counts, after = json.loads(told)
    assert counts == [0, 1, 2]
    assert after == "RequestError: this bundle was closed; load it again"


@pytest.mark.slow
def test_a_history_that_grows_and_is_kept_until_it_is_forgotten(ready: None, tmp_path: Path) -> None:
    place = tmp_path / "private" / "history.json"
    told = module(
        "import { readFile, stat } from 'node:fs/promises';\n"
        f"const path = {json.dumps(str(place))}; const store = edgerec.fileStore(path);\n"
        "const model = await edgerec.load(`${vectors}/mixed-fp32-linear`, { runtime });\n"
        "const [a, b, c, d] = model.items(); const session = await model.session({ store, limit: 3 });\n"
        "const popular = (await session.recommend({ k: 1 }))[0].score;\n"
        "for (const item of [a, b, a, c, d]) await session.add(item);\n"
        "const again = await model.session({ store });\n"
        "const same = JSON.stringify(await again.recommend({ k: 5 })) === "
        "JSON.stringify(await model.recommend({ history: [b, c, d], k: 5 }));\n"
        "const mode = (await stat(path)).mode & 0o777;\n"
        "const wrong = await fails(again.add('nobody knows'));\n"
        "await again.forget(c); const left = again.items.length; await again.forget();\n"
        "tell([popular, session.items.map(String), [b, c, d].map(String), same, mode, wrong, left,"
        " await fails(stat(path)), (await model.session({ store })).items]);"
    )
    popular, items, expected, same, mode, wrong, left, gone, after = json.loads(told)
    assert popular == 0
    assert items == expected
    assert same is True
    assert mode == 0o600
    assert wrong.startswith("RequestError: item")
    assert (left, after) == (2, [])
    assert "ENOENT" in gone
    assert not list(place.parent.iterdir())


def test_limits_are_a_number_or_an_object_and_vectors_are_numbers(ready: None) -> None:
    told = module(
        "const model = await edgerec.load(`${vectors}/v2-mean`, { runtime });\n"
        "const [a, b] = model.items(); const d = model.metadata.d;\n"
        "const counts = [];\n"
        "for (const limits of [3, { k: 3 }, {}, undefined]) {\n"
        "  counts.push((await model.popular(limits)).length, (await model.similar(a, limits)).length);\n"
        "}\n"
        "const vector = await model.encode([a, 'x', b], { onUnknown: 'skip' });\n"
        "const [one, other] = [{ vector, exclude: [a, b], k: 4 }, { history: [a, b], k: 4 }];\n"
        "const same = JSON.stringify(await model.recommend(one)) === JSON.stringify(await model.recommend(other));\n"
        "const zero = (await model.score({ vector: Array(d).fill(0), items: [a] }))[0];\n"
        "const wrong = [await fails(model.popular('3')), await fails(model.similar(a, null))];\n"
        "for (const value of [1e10, 1e-12, NaN, '1', true]) {\n"
        "  wrong.push(await fails(model.recommend({ vector: Array(d).fill(value) })));\n"
        "}\n"
        "const users = await edgerec.load(`${vectors}/titles`, { runtime });\n"
        "tell([counts, same, zero, wrong, await fails(users.recommend({ vector }))]);"
    )
    counts, same, zero, wrong, users = json.loads(told)
    assert counts == [3, 3, 3, 3, 10, 10, 10, 10]
    assert (same, zero) == (True, 0)
    assert [said.startswith("RequestError: k must be a whole number in 1..60") for said in wrong[:2]] == [True] * 2
    assert [said.startswith("RequestError: a vector is 8 numbers") for said in wrong[2:]] == [True] * 5
    assert users.startswith("RequestError: this bundle has users")


def test_a_history_shows_at_most_its_limit_at_once(ready: None, tmp_path: Path) -> None:
    place = tmp_path / "history.json"
    items = json.dumps([{"int": "7"}, 1, 2, 3])
    place.write_text(f'{{"format": "edgerec.history", "version": 1, "items": {items}}}')
    told = module(
        f"const store = edgerec.fileStore({json.dumps(str(place))});\n"
        "const model = await edgerec.load(`${vectors}/no-ids`, { runtime });\n"
        "const session = await model.session({ store, limit: 2 });\n"
        "const before = session.items; await session.add(4n); await session.add(4);\n"
        "const after = session.items; await session.forget(4n);\n"
        "const whole = await model.session({ limit: 9, store: { read: async () => "
        f"JSON.stringify({{ format: 'edgerec.history', version: 1, items: {items} }}) }} }});\n"
        "const wrong = [];\n"
        "for (const limit of [0, -1, 1.5, NaN, '3']) wrong.push(await fails(model.session({ limit })));\n"
        "tell([before, after, session.items, whole.items, wrong]);"
    )
    before, after, left, whole, wrong = json.loads(told)
    assert (before, after, left, whole) == ([2, 3], [3, 4], [3], [7, 1, 2, 3])
    assert json.loads(place.read_text())["items"] == [3]
    assert len(wrong) == 5
    assert all(said.startswith("RequestError: the limit must be a whole number in 1..Infinity, got ") for said in wrong)


def test_requests_that_make_no_sense(ready: None) -> None:
    told = module(
        "const model = await edgerec.load(`${vectors}/no-ids`, { runtime });\n"
        "const history = [1]; const wrong = [\n"
        "  { history, k: 0 }, { history, k: 61 }, { history, k: 1.5 }, { history, k: NaN }, { history, k: '3' },\n"
        "  { history: [0.9] }, { history: [NaN] }, { history: [-1] }, { history: [60] }, { history: ['1'] },\n"
        "  { history: [[1]] }, { history: [null] }, { history: [true] }, { history: '1' }, { history: 1 },\n"
        "  { history, exclude: [0.9] }, { history, exclude: 5 }, { history, allow: [1.5] }, { history, allow: '' },\n"
        "  { history, allow: 0 }, { history, user: 1 }, { user: 1 },\n"
        "  { history: ['\\ud800'] }, { history: [2n ** 64n] },\n"
        "];\n"
        "for (const request of wrong) tell([`${Object.entries(request)}`, await fails(model.recommend(request))]);\n"
        "tell(['no scores of nothing', [...(await model.score({ history, items: [] }))]]);"
    )
    *refused, nothing = map(json.loads, told.splitlines())
    assert len(refused) == 24
    assert [one for one in refused if not one[1].startswith("RequestError: ")] == []
    assert nothing[1] == []


@pytest.mark.slow
def test_answers_that_are_not_finite_are_refused(ready: None, tmp_path: Path) -> None:
    not_finite(tmp_path)
    told = module(
        f"const folder = {json.dumps(str(tmp_path))}; const all = [...Array(20).keys()];\n"
        "const load = (name) => edgerec.load(`${folder}/${name}`, { runtime, verify: false });\n"
        "const nan = await load('nan'), beyond = await load('beyond'), encoded = await load('encoded');\n"
        "for (const model of [nan, beyond]) {\n"
        "  tell(await fails(model.recommend({ user: 1, k: 3 })));\n"
        "  tell(await fails(model.recommend({ user: 1, k: 3, allow: [1, 2] })));\n"
        "  tell(await fails(model.recommend({ user: 1, k: 3, exclude: [1, 2] })));\n"
        "  tell(await fails(model.score({ user: 1, items: [4] })));\n"
        "}\n"
        "tell(await fails(nan.similar(1, 3)));\n"
        "tell(await fails(encoded.encode([1]))); tell(await fails(encoded.recommend({ history: [1] })));\n"
        "tell(await fails(encoded.score({ history: [1], items: [2] })));\n"
        "tell([await beyond.recommend({ user: 1, k: 3, exclude: all })]);"
    )
    *refused, right = map(json.loads, told.splitlines())
    assert refused == ["BundleError: the bundle answers with what no bundle does; export it again"] * 12
    assert right == [[]]


def test_constants_are_not_folded_and_messages_are_short(ready: None) -> None:
    told = module(
        "let told;\n"
        "const InferenceSession = { create: async (_, { extra }) => { told = extra; throw Error(long); } };\n"
        "const long = '\\x1b[2J\\u202e' + 'x'.repeat(1e6);\n"
        "const options = { runtime: { ...runtime, InferenceSession } };\n"
        "const model = await edgerec.load(`${vectors}/mixed-int8-linear`, options);\n"
        "const said = await fails(model.recommend({ history: [model.items()[0]] }));\n"
        "tell([told, said, await fails(model.score({ history: [long], items: [] }))]);\n"
    )
    extra, failed, unknown = json.loads(told)
    assert extra["optimization.disable_specified_optimizers"] == "ConstantFolding"
    assert re.match(r"BundleError: .*\\u001b\[2J\\u202exxx", failed)
    assert unknown.startswith("RequestError: item '\\u001b[2J\\u202exxx")
    assert max(len(failed), len(unknown)) < 2100


def test_numbers_beyond_two_to_the_53rd_are_exact(ready: None, tmp_path: Path) -> None:
    import numpy as np

    from edgerec_export import export, from_arrays

    ids = np.array([2**60 + 1, 2**60 + 2, 7])
    rng = np.random.default_rng(0)
    source = from_arrays(rng.standard_normal((3, 4), np.float32), rng.standard_normal((2, 4), np.float32), item_ids=ids)
    bundle = export(source, tmp_path / "b", verify=False).folder
    told = module(
        f"const model = await edgerec.load({json.dumps(str(bundle))}, {{ runtime }});\n"
        "tell([model.items(), model.has(2n ** 60n + 2n), model.has(2n ** 60n + 3n), model.has(7), model.has(7n)]);"
    )
    assert json.loads(told) == [[7, f"{2**60 + 1}n", f"{2**60 + 2}n"], True, False, True, True]


def test_missing_parts_are_named(ready: None) -> None:
    told = module(
        "const model = await edgerec.load(`${vectors}/titles`);\n"
        "tell(await fails(model.recommend({ user: 'a' })));\n"
        "tell(await fails(edgerec.load(`${vectors}/none`)));\n"
        "tell(await fails(edgerec.load(`${vectors}/signed`, { runtime, trusted: ['no key'] })));\n"
        "tell(await fails(model.session()));\n"
    )
    said = [json.loads(line) for line in told.splitlines()]
    assert said[0].startswith("MissingError: onnxruntime cannot be imported (")
    assert re.match(
        r"BundleError: .*none/manifest\.json cannot be read \(ENOENT\); export the bundle or copy it again", said[1]
    )
    assert said[2].startswith("MissingError: signatures cannot be checked: a trusted key is no ed25519 key")
    assert said[3] == "RequestError: this bundle has users: give a user"


LOAD = (
    "(async () => { const e = await import('/edgerec.mjs'); const parts = [];"
    "const m = await e.load('/bundle', { onProgress: ({ loaded, total }) => parts.push([loaded, total]) });"
    "const runtime = await import('/ort/ort.wasm.min.mjs'); runtime.env.wasm.wasmPaths = '/ort/';"
    "const top = await m.recommend({ history: [], k: 3 }); globalThis.model = m; return { parts, top }; })()"
)


def fresh(browser: Chrome, address: str) -> Page:
    return browser.open(address)


@pytest.mark.slow
def test_files_are_kept_checked_and_cleared_in_a_browser(browser: Chrome) -> None:
    files = library_files()
    bundle = BUNDLES / "mixed-int8-linear"
    files |= {f"bundle/{path.name}": path for path in bundle.iterdir()}
    server = StaticServer(files)
    page = fresh(browser, server.address)
    tables = json.loads((bundle / "manifest.json").read_text())["tables"]
    first = page.js(LOAD)
    assert first["parts"][-1] == [tables["bytes"], tables["bytes"]]
    assert len(first["top"]) == 3
    asked = [path for path in server.log if path.startswith("bundle/")]
    assert len(asked) == len(set(asked)) == 5
    # The second time, only the manifest is asked for; a history is kept meanwhile.
    server.log.clear()
    page.go(server.address)
    assert page.js(LOAD)["top"] == first["top"]
    assert [path for path in server.log if path.startswith("bundle/")] == ["bundle/manifest.json"]
    page.js("(async () => { const s = await model.session({ store: 'mine' }); await s.add(model.items()[4]); })()")
    # What lies in the cache damaged is fetched anew.
    page.js(
        f"caches.open('edgerec').then((c) => c.put('/bundle/{tables['file']}',"
        f" new Response(new Uint8Array({tables['bytes']}))))"
    )
    server.log.clear()
    assert page.js(LOAD)["top"] == first["top"]
    assert f"bundle/{tables['file']}" in server.log
    # Another bundle in its place: what was kept of the first goes.
    for path in bundle.iterdir():
        del files[f"bundle/{path.name}"]
    files |= {f"bundle/{path.name}": path for path in (BUNDLES / "mixed-fp32-linear").iterdir()}
    page.js(LOAD)
    kept = page.js(
        "caches.open('edgerec').then((c) => c.keys()).then((k) => k.map((r) => new URL(r.url).pathname.slice(8)))"
    )
    manifest = json.loads((BUNDLES / "mixed-fp32-linear" / "manifest.json").read_text())
    wanted = {"manifest.json", manifest["tables"]["file"], *(graph["file"] for graph in manifest["graphs"].values())}
    assert set(kept) == wanted
    # Without a network it opens from what was kept, and the history is there.
    server.close()
    offline = page.js(LOAD)
    assert len(offline["top"]) == 3
    past = (
        "(async () => { const s = await model.session({ store: 'mine' }); const n = s.items.length; await s.forget();"
    )
    assert page.js(past + " return [n, (await model.session({ store: 'mine' })).items.length]; })()") == [1, 0]

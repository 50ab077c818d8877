"""Bundles in one file in JavaScript: answers, downloads, signatures, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from edgerec.runtime.manifest import LIMITS
from edgerec_devices.web import files as web_files
from edgerec_devices.web.static_site import StaticServer
from tests.devices.chrome import chrome
from tests.devices.javascript import format2
from tests.devices.javascript.test_javascript import library_files, module
from tests.devices.web import BUNDLES, native, need
from tests.vectors.check import FOLDER

PLAIN = BUNDLES / "mixed-int8-linear"
ANSWERED = ["mixed-int8-linear", "csr-fp16-linear", "titles", "csr-int8-ials", "no-ids", "ell-int4-ncf"]
"""Vectors with texts, whole numbers and row numbers for ids, in one block and in several, with and without users."""


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    need("node")


@pytest.mark.slow
@pytest.mark.parametrize("beside", ["onnxruntime-web", "onnxruntime-node"])
def test_the_vectors_in_version_2_as_folders_and_as_files(tmp_path: Path, beside: str) -> None:
    for name in ANSWERED:
        bundle = format2.upgraded(BUNDLES / name, tmp_path / name)
        (tmp_path / f"{name}.edgerec").write_bytes(format2.one_file(bundle, deflate=name != "titles"))
    web = web_files.installed() / "ort.node.min.mjs"
    onnxruntime = web if beside == "onnxruntime-web" else native() / beside / "dist" / "index.js"
    told = module(
        f"import * as imported from {json.dumps(onnxruntime.as_uri())};\n"
        f"import {{ failures }} from {json.dumps((FOLDER / 'check.mjs').as_uri())};\n"
        "import { readFile } from 'node:fs/promises';\n"
        f"const folder = {json.dumps(str(tmp_path))}, texts = {json.dumps(FOLDER.as_uri() + '/')};\n"
        "const place = {\n"
        "  options: { runtime: imported.InferenceSession ? imported : imported.default },\n"
        "  text: (path) => readFile(new URL(path, texts), 'utf8'),\n"
        "};\n"
        "for (const suffix of ['', '.edgerec']) {\n"
        "  place.source = (bundle) => edgerec.folder(`${folder}/${bundle.split('/').at(-1)}${suffix}`);\n"
        f"  for (const name of {json.dumps(ANSWERED)}) tell(await failures(edgerec, name, place));\n"
        "}\n"
        "process.exit(0);\n"
    )
    assert [json.loads(line) for line in told.splitlines()] == [[]] * 2 * len(ANSWERED)


def bomb(nbytes: int) -> bytes:
    """Return as many zeros, deflated."""
    deflating = zlib.compressobj(9)
    return b"".join([*(deflating.compress(bytes(1 << 20)) for _ in range(nbytes >> 20)), deflating.flush()])


def hostile_files(bundle: Path) -> dict[str, tuple[bytes, str]]:
    """Return files that are refused, and the reason."""
    whole, (document, rest, tables) = format2.one_file(bundle), format2.head_of(bundle)
    head = zlib.compress(document + rest, 9)
    most = LIMITS["head_bytes"]
    lengths, beyond = "other lengths than it says", f"a head of more than {most} bytes"
    flipped = bytearray(whole)
    flipped[-1] ^= 1

    def file(**says: Any) -> bytes:
        return format2.one_file(bundle, **says)

    return {
        "nothing": (b"", "is no bundle in one file"),
        "a patch": (b"edgerecP" + whole[8:], "is no bundle in one file"),
        "a newer one": (file(version=(3, 0)), "has version 3.0, this reader knows 2.x"),
        **{f"{n} bytes": (whole[:n], "") for n in (7, 8, 23, 24, 25, len(whole) // 2, len(whole) - 1)},
        "without its tables": (whole[: -len(tables)], lengths),
        "a byte more": (whole + b"\0", lengths),
        "a head beyond the limit": (file(head_bytes=most + 1), beyond),
        "a stored head that is longer": (file(stored_bytes=len(document + rest) + 1), lengths),
        "a head of 4 GB": (file(stored_bytes=2**32 - 1, head_bytes=2**32 - 1), beyond),
        "a head into the tables": (file(stored_bytes=len(head) + 64), lengths),
        "a manifest beyond the head": (file(manifest_bytes=len(document + rest) + 1), lengths),
        "a manifest that ends too early": (file(manifest_bytes=len(document) - 1), "describes no bundle of EdgeRec"),
        "a head that is longer": (file(head_bytes=len(document + rest) - 1), lengths),
        "a head that is shorter": (file(head_bytes=len(document + rest) + 1), lengths),
        "a file too few": (file(stored=zlib.compress(document), head_bytes=len(document)), lengths),
        "a byte behind the stream": (file(stored=head + b"\0"), lengths),
        "a stream without its end": (file(stored=head[:-1]), lengths),
        "no stream": (file(stored=b"\0" * len(head)), lengths),
        "a bomb": (file(stored=bomb(128 << 20), head_bytes=most), lengths),
        "other tables": (bytes(flipped), "is not the file that manifest.json describes (sha256 differs)"),
        "another graph": (
            file(stored=zlib.compress(document + bytes(rest[:-1]) + bytes([rest[-1] ^ 1]), 9)),
            "is not the file that manifest.json describes (sha256 differs)",
        ),
    }


def test_files_that_are_damaged(tmp_path: Path) -> None:
    bundle = format2.upgraded(PLAIN, tmp_path / "bundle")
    cases = hostile_files(bundle)
    paths = [tmp_path / f"{n}.edgerec" for n in range(len(cases))]
    for path, (content, _) in zip(paths, cases.values(), strict=True):
        path.write_bytes(content)
    minor = tmp_path / "minor.edgerec"
    minor.write_bytes(format2.one_file(bundle, version=(2, 7)))
    told = module(
        f"await edgerec.load({json.dumps(str(minor))}); const before = process.resourceUsage().maxRSS;\n"
        f"for (const path of {json.dumps([*map(str, paths)])}) tell(await fails(edgerec.load(path)));\n"
        "tell([before, process.resourceUsage().maxRSS]);\n"
    )
    *refused, (before, after) = map(json.loads, told.splitlines())
    for (name, (_, reason)), said in zip(cases.items(), refused, strict=True):
        assert said.startswith("BundleError: "), (name, said)
        assert reason in said, (name, said)
    assert after - before < 100_000  # kB: a bomb of 128 MB is not inflated


def test_a_file_takes_no_patch_and_is_checked_as_a_folder_is(tmp_path: Path) -> None:
    signed = tmp_path / "signed.edgerec"
    signed.write_bytes(format2.one_file(BUNDLES / "signed"))
    card = tmp_path / "card.edgerec"
    document, rest, _ = format2.head_of(BUNDLES / "signed")
    text = bytearray(rest)
    text[0] ^= 1  # README comes before all graphs
    card.write_bytes(format2.one_file(BUNDLES / "signed", stored=zlib.compress(document + text, 9)))
    named = tmp_path / "bundle"  # without the suffix: in Node the first bytes count
    shutil.copy(signed, named)
    trusted, other = ((FOLDER / "keys" / f"{name}.pub").read_text() for name in ("trusted", "other"))
    told = module(
        f"const [signed, card, named] = {json.dumps([str(signed), str(card), str(named)])};\n"
        f"const trusted = [{json.dumps(trusted)}], other = [{json.dumps(other)}];\n"
        "for (const options of [{ trusted }, { trusted: other }]) tell(await fails(edgerec.load(signed, options)));\n"
        "tell([await fails(edgerec.load(card)), await fails(edgerec.load(card, { trusted }))]);\n"
        "tell([await fails(edgerec.apply(signed, new Uint8Array(99))), await fails(edgerec.undo(signed))]);\n"
        "tell([await edgerec.metadata(named), await edgerec.metadata(`${vectors}/signed`)]);\n"
    )
    lines = [json.loads(line) for line in told.splitlines()]
    assert lines[0] == "no error"
    assert lines[1].startswith("SignatureError: manifest.json is signed with the key ")
    assert lines[2][0] == "no error"
    assert re.match(r"BundleError: README-\w+\.md is not the file that manifest\.json describes", lines[2][1])
    unpack = "PatchError: a bundle in one file takes no patch; 'edgerec unpack' makes a folder of it, which does"
    assert lines[3] == [unpack] * 2
    assert lines[4][0] == {**lines[4][1], "bytes": signed.stat().st_size}


def test_a_download_stops_at_what_was_promised(tmp_path: Path) -> None:
    bundle = format2.upgraded(PLAIN, tmp_path / "bundle")
    (graph,) = bundle.glob("recommend-*")
    files: dict[str, Path | bytes] = {f"bundle/{path.name}": path for path in bundle.iterdir()}
    files[f"bundle/{graph.name}"] = graph.read_bytes() + bytes(3 << 20)
    files["longer.edgerec"] = format2.one_file(bundle) + bytes(3 << 20)
    files["app.edgerec"] = format2.one_file(bundle)
    with StaticServer(files) as server:
        told = module(
            f"const at = {json.dumps(server.address)};\n"
            "tell(await fails(edgerec.load(`${at}bundle`)));\n"
            "tell(await fails(edgerec.load(`${at}longer.edgerec`)));\n"
            "tell(await fails(edgerec.load(`${at}app.edgerec?v=3`)));\n"
            "tell(await fails(edgerec.load(new URL('none.edgerec', at))));\n"
        )
        asked = [path for path in server.log if "app" in path]
    longer, damaged, right, missing = map(json.loads, told.splitlines())
    assert longer.startswith(f"BundleError: {graph.name} has {graph.stat().st_size + 1} bytes where manifest.json says")
    assert damaged.startswith("BundleError: ")
    assert "other lengths than it says" in damaged
    assert right == "no error"
    assert len(asked) == 1
    assert missing.endswith("none.edgerec cannot be fetched (status 404); is the address right?")


LOAD = (
    "(async () => { const e = await import('/edgerec.mjs'); const parts = [];"
    "const runtime = await import('/ort/ort.wasm.min.mjs'); runtime.env.wasm.wasmPaths = '/ort/';"
    "const onProgress = ({ loaded, total }) => parts.push([loaded, total]);"
    "const m = await e.load('/app.edgerec', { runtime, onProgress });"
    "const top = await m.recommend({ history: [m.items()[3]], k: 3 }); await m.close();"
    "return { part: parts.at(-1), top }; })()"
)


@pytest.mark.slow
def test_a_page_fetches_a_file_once_and_opens_it_without_a_network(tmp_path: Path) -> None:
    need("chromium")
    bundle = format2.upgraded(PLAIN, tmp_path / "bundle")
    files = library_files() | {"app.edgerec": format2.one_file(bundle)}
    with StaticServer(files) as server, chrome() as browser:
        page = browser.open(server.address)
        first = page.js(LOAD)
        tables = json.loads((bundle / "manifest.json").read_text())["tables"]["bytes"]
        assert first["part"] == [tables, tables]
        model = Recommender.load(bundle)
        past = model.item_ids([3])
        assert [one["item"] for one in first["top"]] == [one.item for one in model.recommend(history=past, k=3)]
        assert server.log.count("app.edgerec") == 1
        # A damaged file is refused, and does not replace the stored one.
        whole = files["app.edgerec"]
        files["app.edgerec"] = bytes(whole[:-1])  # type: ignore[index]
        assert "other lengths than it says" in page.js(LOAD.replace("})()", "})().catch((e) => e.message)"))
        limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.ask("Network.emulateNetworkConditions", offline=True, **limits)
        assert page.js(LOAD)["top"] == first["top"]
        assert not [line for line in page.complaints() if "ERR_INTERNET_DISCONNECTED" not in line]

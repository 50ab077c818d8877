"""Patches in JavaScript: the bundles that `edgerec diff` meant, to the byte, or nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from edgerec.runtime.patch import undo_patch
from edgerec_devices.web.static_site import StaticServer
from tests.devices.chrome import Chrome, chrome
from tests.devices.javascript.test_javascript import LIBRARY, library_files, module, node
from tests.devices.web import make_patches, need
from tests.runtime.test_updates import LEVELS, LISTS, rehashed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("node")
    return make_patches(tmp_path_factory.mktemp("patches"))


@pytest.fixture
def browser() -> Iterator[Chrome]:
    need("chromium")
    with chrome() as running:
        yield running


@pytest.mark.slow
def test_they_make_the_new_bundle_or_nothing(patches: Path) -> None:
    said = json.loads(node(HERE / "patches.mjs", LIBRARY, patches, "1", "300"))
    assert not said["wrong"]
    assert said["refused"] > 250


def test_python_undoes_what_javascript_applied(patches: Path, tmp_path: Path) -> None:
    work, old = tmp_path / "films.bundle", patches / "csr fp16" / "old.bundle"
    shutil.copytree(old, work)
    told = module(
        "import { readFile } from 'node:fs/promises';\n"
        f"const patch = new Uint8Array(await readFile({json.dumps(str(old.parent / 'patch'))}));\n"
        f"tell(await edgerec.apply({json.dumps(str(work))}, patch));\n"
        f"tell(await fails(edgerec.apply(`${{vectors}}/titles`, patch)));\n"
        f"tell(await fails(edgerec.apply({json.dumps(str(old))}, patch.subarray(1))));\n"
        f"tell(await fails(edgerec.apply({json.dumps(str(tmp_path / 'none'))}, patch)));\n"
    )
    done, other, no_patch, nothing = map(json.loads, told.splitlines())
    assert done is True
    assert other.startswith("PatchError: the patch is for another bundle; apply patches in their order")
    assert no_patch == "PatchError: this is no patch; make one with 'edgerec diff OLD NEW --out PATCH'"
    assert nothing.startswith("BundleError: ")
    undo_patch(work)
    assert (work / "manifest.json").read_bytes() == (old / "manifest.json").read_bytes()


def test_a_header_is_small(patches: Path, tmp_path: Path) -> None:
    """A few kB inflate to as much as the bundle allows, and JSON takes many times that."""
    work, old = tmp_path / "films.bundle", patches / "csr fp16" / "old.bundle"
    shutil.copytree(old, work)
    patch = (old.parent / "patch").read_bytes()
    headers = {
        "lists": (LISTS, "one of too many parts"),
        "levels": (LEVELS, "one of too many parts"),
        "no end": (b" " * 500_000, "it has no header of at most 4194304 bytes"),
    }
    for name, (header, _) in headers.items():
        (tmp_path / name).write_bytes(rehashed(patch, header))
    told = module(
        "import { readFile } from 'node:fs/promises';\n"
        f"for (const name of {json.dumps(list(headers))}) {{\n"
        f"  const patch = new Uint8Array(await readFile({json.dumps(str(tmp_path))} + '/' + name));\n"
        f"  tell(await fails(edgerec.apply({json.dumps(str(work))}, patch)));\n"
        "}\n"
    )
    for said, (_, reason) in zip(map(json.loads, told.splitlines()), headers.values(), strict=True):
        assert said.startswith("PatchError: the patch is damaged (")
        assert reason in said


def test_a_patch_is_undone_once_and_only_to_a_whole_bundle(patches: Path, tmp_path: Path) -> None:
    work, old = tmp_path / "films.bundle", patches / "csr fp16" / "old.bundle"
    shutil.copytree(old, work)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    tables = json.loads(before["manifest.json"])["tables"]["file"]
    told = module(
        "import { readFile, rename, writeFile } from 'node:fs/promises';\n"
        f"const work = {json.dumps(str(work))}; const tables = `${{work}}/{tables}`;\n"
        f"const patch = new Uint8Array(await readFile({json.dumps(str(old.parent / 'patch'))}));\n"
        "tell(await fails(edgerec.undo(work)));\n"
        "await edgerec.apply(work, patch); const after = (await readFile(`${work}/manifest.json`)).toString();\n"
        "await rename(tables, `${work}/aside`); await writeFile(tables, new Uint8Array(8));\n"
        "tell(await fails(edgerec.undo(work)));\n"
        "tell((await readFile(`${work}/manifest.json`)).toString() === after);\n"
        "await rename(`${work}/aside`, tables);\n"
        "tell(await fails(edgerec.undo(work, { trusted: [new Uint8Array(32)] })));\n"
        "tell(await fails(edgerec.undo(work)));\n"
        "tell(await fails(edgerec.undo(work)));\n"
    )
    nothing, spoilt, same, unsigned, done, again = map(json.loads, told.splitlines())
    assert nothing.startswith("PatchError: ")
    assert nothing.endswith("holds no bundle before this one: no patch was applied, or it was undone")
    assert spoilt.startswith(f"BundleError: {tables} has 8 bytes")
    assert same is True
    assert unsigned.startswith("SignatureError: manifest.json is not signed")
    assert done == "no error"
    assert again == nothing
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before


def test_pipes_are_no_files_of_a_bundle(patches: Path, tmp_path: Path) -> None:
    work = tmp_path / "films.bundle"
    shutil.copytree(patches / "csr fp16" / "old.bundle", work)
    os.mkfifo(work / "manifest.previous.json")
    nothing = json.loads(module(f"tell(await fails(edgerec.undo({json.dumps(str(work))})));"))
    assert "holds no bundle before this one" in nothing
    (work / "manifest.json").unlink()
    os.mkfifo(work / "manifest.json")
    refused = json.loads(module(f"tell(await fails(edgerec.load({json.dumps(str(work))})));"))
    assert refused.endswith("manifest.json is no plain file; copy the bundle again")


def test_a_page_fetches_the_patch_and_nothing_of_the_new_tables(browser: Chrome, patches: Path) -> None:
    """The server has the new bundle already; what is not fetched of it was made of the old one."""
    folder = patches / "ell fp32"
    files = library_files() | {"patch": folder / "patch"}
    old = {f"bundle/{path.name}": path for path in (folder / "old.bundle").iterdir()}
    new = {f"bundle/{path.name}": path for path in (folder / "new.bundle").iterdir()}
    ask = (
        "const m = await e.load('/bundle', { runtime });"
        "const top = await m.recommend({ history: [], k: 5 }); await m.close(); return top.map((one) => one.item); })()"
    )
    start = (
        "(async () => { const e = await import('/edgerec.mjs'); const runtime = await import('/ort/ort.wasm.min.mjs');"
        "runtime.env.wasm.wasmPaths = '/ort/';"
    )
    with StaticServer(files | old) as server:
        page = browser.open(server.address)
        page.js(start + ask)
        server.files = files | new
        server.log.clear()
        assert page.js(
            start + "const patch = new Uint8Array(await (await fetch('/patch')).arrayBuffer());"
            "return e.apply('/bundle', patch); })()"
        )
        answer = page.js(start + ask)
        assert {path for path in server.log if path.startswith("bundle/")} == {"bundle/manifest.json"}
        assert not page.complaints()
    model = module(
        f"const m = await edgerec.load({json.dumps(str(folder / 'new.bundle'))}, {{ runtime }});"
        "tell((await m.recommend({ history: [], k: 5 })).map((one) => one.item));"
    )
    assert answer == json.loads(model)


def test_a_patch_is_its_stream_and_of_one_version(patches: Path, tmp_path: Path) -> None:
    work, old = tmp_path / "films.bundle", patches / "csr fp16" / "old.bundle"
    shutil.copytree(old, work)
    patch = (old.parent / "patch").read_bytes()
    longer = patch[44:] + b"more"
    other = struct.pack("<HH", 1, 1)
    files = {
        "behind": (patch[:12] + sha256(longer).digest() + longer, "its stream has another length than promised"),
        "version": (patch[:8] + other + patch[12:], "its header is of another version"),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    told = module(
        "import { readFile } from 'node:fs/promises';\n"
        f"for (const name of {json.dumps(list(files))}) {{\n"
        f"  const patch = new Uint8Array(await readFile({json.dumps(str(tmp_path))} + '/' + name));\n"
        f"  tell(await fails(edgerec.apply({json.dumps(str(work))}, patch)));\n"
        "}\n"
    )
    for said, (_, reason) in zip(map(json.loads, told.splitlines()), files.values(), strict=True):
        assert said == f"PatchError: the patch is damaged ({reason}); get it again"

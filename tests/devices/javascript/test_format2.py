"""Manifests of version 2 in JavaScript: required features, and bundles that do not go back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.devices.javascript import format2
from tests.devices.javascript.test_javascript import module
from tests.devices.web import BUNDLES, need

PLAIN = BUNDLES / "mixed-int8-linear"


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    need("node")


CHANGES = {
    "m.version = '3.0'": "BundleError: the bundle has version 3.0, this reader knows 2.x; update edgerec",
    "m.version = '2.9'": "no error",
    "m.requires = ['x', 'b']": "BundleError: the bundle requires x, b, which this reader does not know; update edgerec",
    "m.requires = ['\\u202e']": "BundleError: the bundle requires \\u202e, which",
    "delete m.requires": "no error",
    **{
        f"m.requires = {value}": "BundleError: manifest.json is damaged at 'requires'"
        for value in ("'a'", "[1]", "[['a']]", "null", "{}", "[null]")
    },
    **{f"m.rollback_index = {value}": "no error" for value in ("0", "2 ** 53 - 1")},
    **{
        f"m.rollback_index = {value}": "BundleError: manifest.json is damaged at 'rollback_index'"
        for value in ("-1", "1.5", "2 ** 53", "'1'", "null", "true", "[]")
    },
    "m.items.ids = 'hash128'": "BundleError: manifest.json is damaged at 'items'",
    "m.version = '1.0'; m.items.ids = 'hash64'": "BundleError: manifest.json is damaged at 'items'",
    "m.sections.item_ids[1] = 'int8'": "BundleError: manifest.json is damaged at 'item_ids'",
    "m.sections.item_ids[2] = [1, m.sections.item_ids[2][0]]": "BundleError: manifest.json is damaged at 'item_ids'",
    "delete m.sections.item_ids": "BundleError: manifest.json is damaged at 'item_ids'",
    "m.items.ids = 'int'": "BundleError: the section 'item_ids' is damaged",
}


def test_what_is_refused_of_a_manifest(tmp_path: Path) -> None:
    bundle = format2.upgraded(PLAIN, tmp_path / "bundle")
    told = module(
        f"const whole = edgerec.folder({json.dumps(str(bundle))});\n"
        f"for (const change of {json.dumps(list(CHANGES))}) {{\n"
        "  const read = async (file, ...rest) => {\n"
        "    const content = await whole.read(file, ...rest);\n"
        "    if (file !== 'manifest.json') return content;\n"
        "    const m = JSON.parse(new TextDecoder().decode(content)); new Function('m', change)(m);\n"
        "    return new TextEncoder().encode(JSON.stringify(m));\n"
        "  };\n"
        "  tell(await fails(edgerec.load({ read }, { runtime })));\n"
        "}\n"
    )
    for (change, wanted), line in zip(CHANGES.items(), told.splitlines(), strict=True):
        assert json.loads(line).startswith(wanted), (change, line)


def test_bundles_do_not_go_back(tmp_path: Path) -> None:
    places = {n: format2.with_ids(BUNDLES / "no-ids", tmp_path / f"index {n}", {}, rollback_index=n) for n in (3, 4, 5)}
    same = format2.with_ids(BUNDLES / "no-ids", tmp_path / "same", {}, rollback_index=4, about={"data": "another"})
    none = format2.with_ids(BUNDLES / "no-ids", tmp_path / "none", {})
    patches = {}
    for name, target in {"older": places[3], "without": none, "same": same, "newer": places[5]}.items():
        patches[name] = list(format2.rollback_patch(same if name == "newer" else places[4], target))
    work, forced = tmp_path / "work", tmp_path / "forced"
    shutil.copytree(places[4], work)
    shutil.copytree(places[4], forced)
    shutil.copy(places[3] / "manifest.json", forced / "manifest.previous.json")
    told = module(
        f"const work = {json.dumps(str(work))}; const patches = {json.dumps(patches)};\n"
        "const index = async () => (await edgerec.metadata(work)).rollbackIndex;\n"
        "for (const minRollbackIndex of [undefined, 0, 4, 5, NaN]) {\n"
        "  const options = { minRollbackIndex };\n"
        "  tell([await fails(edgerec.load(work, options)), await fails(edgerec.metadata(work, options))]);\n"
        "}\n"
        "for (const [name, patch] of Object.entries(patches)) {\n"
        "  tell([name, await fails(edgerec.apply(work, Uint8Array.from(patch))), await index()]);\n"
        "}\n"
        "tell(await fails(edgerec.undo(work))); tell(await index());\n"
        f"tell(await fails(edgerec.undo({json.dumps(str(forced))})));\n"
    )
    *asked, older, without, alike, newer, undone, after, forced_back = map(json.loads, told.splitlines())
    refused = "SignatureError: manifest.json has rollback index 4 where at least {} is wanted; get the newest bundle"
    assert asked == [["no error"] * 2] * 3 + [[refused.format(5)] * 2, [refused.format("NaN")] * 2]
    wanted = "PatchError: the patch leads to a bundle with rollback index {}, this one has 4; get a newer patch"
    assert older == ["older", wanted.format(3), 4]
    assert without == ["without", wanted.format(0), 4]
    assert alike == ["same", "no error", 4]
    assert newer == ["newer", "no error", 5]
    assert undone == "PatchError: the bundle before has rollback index 4, this one has 5; it stays"
    assert after == 5
    assert forced_back == "PatchError: the bundle before has rollback index 3, this one has 4; it stays"

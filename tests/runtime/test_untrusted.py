"""Bundles from anywhere: whoever means harm writes their hashes too; files and manifests are trusted in nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgerec.errors import BundleError
from edgerec.runtime import Recommender, metadata
from edgerec.runtime.manifest import MOST_BYTES, read_manifest
from edgerec.runtime.patch import undo_patch
from edgerec_export import export
from tests.conftest import history_source
from tests.runtime.conftest import edited


@pytest.mark.parametrize("pattern", ["tables-*.bin", "recommend-*.onnx", "manifest.json"])
def test_links_and_pipes_are_refused(bundle: Path, tmp_path: Path, pattern: str) -> None:
    (path,) = bundle.glob(pattern)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=rf"{path.name} is a link, or no plain file"):
        Recommender.load(bundle)
    path.unlink()
    os.mkfifo(path)  # whoever opens it to read waits for whoever writes
    with pytest.raises(BundleError, match=rf"{path.name} is a link, or no plain file"):
        Recommender.load(bundle)
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleError, match=rf"{path.name} is a link, or no plain file"):
        Recommender.load(bundle)


def test_a_folder_may_be_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    assert Recommender.load(tmp_path / "current").recommend(5, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["tables"].update(file="tables\0.bin"),
        lambda m: m["tables"].update(file="tables\ud800.bin"),
        lambda m: m["tables"].update(file="CON:"),
        lambda m: m["tables"].update(file=".."),
        lambda m: m["tables"].update(file="..\\tables.bin"),
        lambda m: m["tables"].update(bytes=0),
        lambda m: m["graphs"]["score"].update(bytes=1 << 30),
        lambda m: m["sections"]["i"].__setitem__(1, ">f4"),
        lambda m: m["sections"]["i"].__setitem__(1, "f4,f4"),
        lambda m: m["sections"]["i"].__setitem__(0, 3),
        lambda m: m["sections"]["i"].__setitem__(2, [1] * 40),
        lambda m: m.update(d=0),
        lambda m: m.update(version="-1.0"),
        lambda m: m.update(version="1"),
        lambda m: m.update(version="0"),
        lambda m: m.update(version=1.0),
        lambda m: m.pop("layout"),
        lambda m: m.pop("precision"),
        lambda m: m.pop("encoder"),
        lambda m: m.update(encoder={}),
        lambda m: m["items"].update(rows=10**15, blocks=[[1, 10**15]], ids="none"),
        lambda m: m["other_files"].extend(m["other_files"]),
        lambda m: m["graphs"].update(again=m["graphs"]["score"]),
        lambda m: m["graphs"].update({f"g{n}": {**m["graphs"]["score"], "file": f"g{n}.onnx"} for n in range(3000)}),
        lambda m: m["other_files"].extend([{**m["tables"], "file": f"f{n}.bin"} for n in range(3000)]),
        lambda m: m["sections"].update({f"s{n}": m["sections"]["i"] for n in range(257)}),
        lambda m: m["graphs"]["score"]["tensors"].update({f"t{n}": [0, "int8", [1]] for n in range(4097)}),
        lambda m: m["about"].update(lists=[[]] * 300_000),
        lambda m: m["about"].update(deep=json.loads("[" * 31 + "]" * 31)),  # in two objects
        lambda m: m["about"].update({str(n): 0 for n in range(4097)}),
    ],
)
def test_a_hostile_manifest_is_refused(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        Recommender.load(edited(bundle, change))


def test_a_manifest_of_any_length_is_not_read(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(BundleError, match="more than 4194304 bytes, which no manifest has"):
        metadata(bundle)
    (bundle / "manifest.json").write_bytes(b"[" * 100_000)
    with pytest.raises(BundleError, match="is damaged"):
        metadata(bundle)


def test_options_of_onnxruntime_that_a_bundle_has_no_use_for_are_left_out(bundle: Path) -> None:
    """Some would have it write a file, or read graphs in a format that nothing here checks."""
    hostile = {"session.load_model_format": "ORT", "ep.context_enable": "1", "ep.context_file_path": str(bundle / "x")}
    expected = Recommender.load(bundle).recommend(5, 3)
    edited(bundle, lambda manifest: manifest["session"].update(hostile))
    assert Recommender.load(bundle).recommend(5, 3) == expected
    assert not (bundle / "x").exists()


@pytest.mark.parametrize(
    ("version", "section", "said"),
    [
        ("1.0", "item_ids", r"text \d+ of the bundle is damaged"),
        ("1.0", "item_id_offsets", "does not ascend"),
        ("2.0", "item_ids", "ids where 300 are promised"),
    ],
)
def test_text_that_is_none_is_told(tmp_path: Path, version: str, section: str, said: str) -> None:
    bundle = export(history_source(300), tmp_path / "b", verify=False, version=version).folder
    manifest = read_manifest(bundle)
    tables = bytearray((bundle / manifest.tables.name).read_bytes())
    place = manifest.sections[section]
    tables[place.offset + 4 : place.offset + 8] = b"\xff" * 4
    (bundle / manifest.tables.name).write_bytes(tables)
    edited(bundle, lambda m: m["tables"].update(sha256=hashlib.sha256(tables).hexdigest()))
    with pytest.raises(BundleError, match=said):
        Recommender.load(bundle, verify=False).item_ids(range(300))


def test_a_file_is_compared_at_each_load_whatever_its_times_say(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written through a shared mapping leaves the times of a file on tmpfs as they were."""
    tables = bundle / read_manifest(bundle).tables.name
    real, content, past = os.fstat, bytearray(tables.read_bytes()), 10**18

    def unchanged(handle: int) -> Any:
        state = real(handle)
        times = {"st_mtime_ns": past, "st_ctime_ns": past, "st_mtime": past / 1e9, "st_ctime": past / 1e9}
        told = {name: getattr(state, name) for name in ("st_mode", "st_dev", "st_ino", "st_size")}
        return SimpleNamespace(**told, **times)

    monkeypatch.setattr(os, "fstat", unchanged)
    assert Recommender.load(bundle).recommend(5, 3)
    content[100] ^= 1
    tables.write_bytes(content)
    with pytest.raises(BundleError, match="sha256 differs"):
        Recommender.load(bundle)


def test_undoing_trusts_nothing_either(bundle: Path) -> None:
    os.mkfifo(bundle / "manifest.previous.json")
    with pytest.raises(Exception, match="holds no bundle before this one"):
        undo_patch(bundle)


def test_nothing_is_told_to_anybody(folder: Path, tmp_path: Path) -> None:
    """onnxruntime's telemetry keeps a database in the home folder and a thread; neither is there."""
    code = (
        "import os, threading; from edgerec import Recommender\n"
        f"Recommender.load({str(folder)!r}).recommend(5, 3)\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []

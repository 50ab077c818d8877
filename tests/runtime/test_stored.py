"""A bundle in one file: the same bundle, back byte for byte, and refused if anything in it is not as it should be."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import BundleError, EdgeRecError, OutputError, PatchError, SignatureError
from edgerec.measure import load_subject
from edgerec.runtime import Recommender, metadata
from edgerec.runtime.manifest import read_manifest
from edgerec.runtime.patch import apply_patch, undo_patch
from edgerec.runtime.stored import MAGIC, pack, unpack
from edgerec.signatures import new_key as make_keys
from edgerec_bench import bench
from edgerec_devices.web.demo_site import demo_site
from edgerec_export import diff, export
from tests.conftest import history_source

HEAD = struct.Struct("<8sHHIII")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stored") / "b"
    return export(history_source(300), place, layout="mixed", precision="int4", titles=True, verify=False).folder


@pytest.fixture(scope="module")
def packed(folder: Path) -> Path:
    out = folder.with_name("b.edgerec")
    assert pack(folder, out) == out.stat().st_size
    return out


def new_key(place: Path, name: str) -> tuple[Path, Path]:
    """Write a pair of keys, and return the private and the public one."""
    return place / name, make_keys(place / name)


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_it_is_the_same_bundle(folder: Path, packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)
    one, other = Recommender.load(packed), Recommender.load(folder)
    history = ["film-3é", "film-200é"]
    assert one.recommend(history=history) == other.recommend(history=history)
    assert one.similar("film-3é") == other.similar("film-3é")
    assert metadata(packed).bytes == one.metadata.bytes == packed.stat().st_size < other.metadata.bytes


def test_an_empty_folder_is_filled_and_another_is_not(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unpack(packed, tmp_path / "empty")
    before = contents(tmp_path / "empty")
    with pytest.raises(OutputError, match="is there already"):
        unpack(packed, tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        unpack(packed, tmp_path / "file")
    assert contents(tmp_path / "empty") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_file_of_somebody_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError):
        pack(folder, tmp_path / "mine")
    pack(folder, tmp_path / "mine", overwrite=True)
    pack(folder, tmp_path / "mine")  # a bundle may be replaced


def test_the_exporter_writes_one_file_within_its_limit(folder: Path, tmp_path: Path) -> None:
    for limit in (6_000, 9_000, 30_000):
        done = export(history_source(300), tmp_path / "b.edgerec", precision="auto", max_bytes=limit)
        assert done.nbytes == done.folder.stat().st_size <= limit
        assert sum(done.parts.values()) <= done.nbytes
        assert done.verification is not None
    assert [path.name for path in tmp_path.iterdir()] == ["b.edgerec"]
    export(history_source(300), tmp_path / "next", like=done.folder, verify=False)
    assert diff(done.folder, tmp_path / "next", tmp_path / "patch").changes["item"].inserted == 0


def test_what_needs_a_folder_says_so(packed: Path, tmp_path: Path) -> None:
    for take in (read_manifest, lambda place: demo_site([place]), lambda place: bench(place, calls=10)):
        with pytest.raises(BundleError, match="edgerec unpack"):
            take(packed)
    assert isinstance(load_subject(packed), Recommender)


def test_a_patch_is_for_a_folder(packed: Path, tmp_path: Path) -> None:
    for change in (lambda: apply_patch(packed, b""), lambda: undo_patch(packed)):
        with pytest.raises(PatchError, match="edgerec unpack"):
            change()


def test_a_signature_is_that_of_the_folder(tmp_path: Path) -> None:
    key, public = new_key(tmp_path, "key")
    _, other = new_key(tmp_path, "other")
    source = history_source(300)
    done = export(source, tmp_path / "b.edgerec", precision="int8", sign=key, max_bytes=40_000)
    Recommender.load(done.folder, trusted=[public])
    with pytest.raises(SignatureError):
        Recommender.load(done.folder, trusted=[other])
    content = bytearray(done.folder.read_bytes())
    content[-7] ^= 1
    done.folder.write_bytes(content)
    with pytest.raises(BundleError):
        Recommender.load(done.folder, trusted=[public])


def rebuilt(packed: Path, out: Path, **changed: int) -> Path:
    """Write the file with other numbers in its header."""
    content = packed.read_bytes()
    fields = dict(
        zip(("magic", "major", "minor", "stored", "whole", "manifest"), HEAD.unpack(content[: HEAD.size]), strict=True)
    )
    out.write_bytes(HEAD.pack(*(fields | changed).values()) + content[HEAD.size :])
    return out


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("stored", value) for value in (0, 1, 1 << 31)),
        *(("whole", value) for value in (0, 5, 8 << 20, (8 << 20) + 1, 0xFFFFFFFF)),
        *(("manifest", value) for value in (0, 10, 1 << 30)),
        ("major", 3),
    ],
)
def test_a_header_that_lies_is_refused(packed: Path, tmp_path: Path, field: str, value: int) -> None:
    place = rebuilt(packed, tmp_path / "b.edgerec", **{field: value})
    for use in (Recommender.load, metadata, lambda path: unpack(path, tmp_path / "out")):
        with pytest.raises(BundleError):
            use(place)
    assert not (tmp_path / "out").exists()


def test_a_newer_minor_version_is_read(packed: Path, tmp_path: Path) -> None:
    model = Recommender.load(rebuilt(packed, tmp_path / "b.edgerec", minor=7))
    history = ["film-3é", "film-200é"]
    assert model.recommend(history=history) == Recommender.load(packed).recommend(history=history)


@pytest.mark.parametrize("more", [b"", b"x"])
def test_bytes_that_no_file_needs_are_refused(packed: Path, tmp_path: Path, more: bytes) -> None:
    """Behind the head, inside it, and at the end."""
    content = packed.read_bytes()
    magic, major, minor, stored, whole, manifest = HEAD.unpack(content[: HEAD.size])
    head = zlib.decompress(content[HEAD.size : HEAD.size + stored]) + more
    tables = content[-(-(HEAD.size + stored) // 64) * 64 :]
    start = HEAD.pack(magic, major, minor, len(head), len(head), manifest) + head
    filling = b"\1" if not more else b""
    padded = start + filling.ljust(-len(start) % 64, b"\0")
    (tmp_path / "b.edgerec").write_bytes(padded + tables)
    assert len(head) == whole + len(more)
    with pytest.raises(BundleError, match="more than its files"):
        Recommender.load(tmp_path / "b.edgerec")
    (tmp_path / "c.edgerec").write_bytes(content + b"\0")
    with pytest.raises(BundleError, match="are promised"):
        Recommender.load(tmp_path / "c.edgerec")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_answers(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(packed.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for at in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=3)):
        content[at : at + 1] = bytes([data.draw(st.integers(0, 255))]) if content else b""
    place = tmp_path_factory.mktemp("damaged") / "b.edgerec"
    place.write_bytes(content)
    try:
        answers = Recommender.load(place).recommend(history=["film-3é"])
    except EdgeRecError:
        return
    assert len(answers) == 10


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for content in (b"", MAGIC, b"PK\3\4" + bytes(40)):
        (tmp_path / "b.edgerec").write_bytes(content)
        with pytest.raises(BundleError):
            Recommender.load(tmp_path / "b.edgerec")
    (tmp_path / "link.edgerec").symlink_to(tmp_path / "b.edgerec")
    with pytest.raises(BundleError, match="link"):
        Recommender.load(tmp_path / "link.edgerec")


def test_no_bundle_goes_back_below_its_index(tmp_path: Path) -> None:
    """Older bundles of the same key come by a patch, by undo, or in the folder; an app names the least it takes."""
    key, public = new_key(tmp_path, "key")
    source = history_source(300)
    old, new = (
        export(source, tmp_path / name, precision="int8", sign=key, rollback_index=index, verify=False).folder
        for name, index in (("old", 3), ("new", 4))
    )
    diff(old, new, tmp_path / "there", verify=False)
    diff(new, old, tmp_path / "back", verify=False)
    shutil.copytree(old, tmp_path / "b")
    apply_patch(tmp_path / "b", tmp_path / "there", trusted=[public])
    for change in (
        lambda: apply_patch(tmp_path / "b", tmp_path / "back", trusted=[public]),
        lambda: undo_patch(tmp_path / "b", trusted=[public]),
    ):
        with pytest.raises(PatchError, match="rollback index 3"):
            change()
    model = Recommender.load(tmp_path / "b", trusted=[public], min_rollback_index=4)
    with pytest.raises(SignatureError, match="rollback index 3"):
        Recommender.load(old, trusted=[public], min_rollback_index=4)
    with pytest.raises(PatchError):
        model.apply(tmp_path / "back")
    follower = export(source, tmp_path / "follower", like=new, sign=key, verify=False)
    assert Recommender.load(follower.folder).manifest.rollback_index == 4
    assert np.isfinite([one.score for one in model.recommend(history=["film-3é"])]).all()

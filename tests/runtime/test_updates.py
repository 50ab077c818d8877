"""Patches applied to bundles: all or nothing, from their base alone, undone, trusted, and under running requests."""

from __future__ import annotations

import json
import shutil
import struct
import threading
import tracemalloc
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bench.experiments.patch_trials import damage, kill
from edgerec.errors import BundleError, PatchError, SignatureError, StorageError
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import MOST_BYTES, PREVIOUS_NAME, read_manifest
from edgerec.runtime.patch import apply_patch, undo_patch
from edgerec.runtime.patch.patchfile import PatchFile, PatchStream
from edgerec.runtime.patch.rebuild import RowSources
from edgerec.signatures import new_key
from edgerec_export import ExportRequest, diff, export
from tests.conftest import CommandLine, random_source
from tests.patches import Kind, broken_copy, bundles, contents

KIND = Kind(ExportRequest("mixed", "int8", verify=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles and the patches between them, 'there' and 'back'."""
    folder = tmp_path_factory.mktemp("updates")
    old, new = bundles(KIND, folder, n_items=2000)
    diff(old, new, folder / "there")
    diff(new, old, folder / "back")
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of the old one."""
    return Path(shutil.copytree(made / "old.bundle", tmp_path / "bundle"))


def rehashed(patch: bytes, stream: bytes) -> bytes:
    """A patch with another stream, whole by its own account."""
    body = struct.pack("<Q", len(stream)) + zlib.compress(stream)
    return patch[:12] + sha256(body).digest() + body


@pytest.mark.slow
def test_processes_that_are_killed_leave_one_of_the_two_bundles(made: Path, tmp_path: Path) -> None:
    old, new = made / "old.bundle", made / "new.bundle"
    kills = kill(old, new, (made / "there", made / "back"), tmp_path, count=12)
    assert kills.old + kills.new == 12


def test_damaged_patches_are_refused_with_nothing_changed(made: Path, bundle: Path) -> None:
    counts = damage(bundle, (made / "there").read_bytes(), count=300)
    assert counts.pop("harmless") < 30
    assert sum(counts.values()) == 300
    assert len(counts) == 9


def test_a_patch_for_another_bundle_is_refused(made: Path, bundle: Path, tmp_path: Path) -> None:
    other = export(random_source(60, 20), tmp_path / "other", verify=False).folder
    for folder, patch in ((other, "there"), (bundle, "back")):
        before = contents(folder)
        if folder == bundle:
            apply_patch(folder, made / "there")
            undo_patch(folder)
            assert not (folder / PREVIOUS_NAME).exists()
            assert apply_patch(folder, made / "back") is False  # it leads to where the bundle is
            continue
        with pytest.raises(PatchError, match="made for another bundle than the one in"):
            apply_patch(folder, made / patch)
        assert contents(folder) == before


def test_two_patches_in_a_row_and_the_last_one_undone(made: Path, bundle: Path) -> None:
    old, new = contents(made / "old.bundle"), contents(made / "new.bundle")
    apply_patch(bundle, made / "there")
    apply_patch(bundle, made / "back")
    assert contents(bundle).keys() == {*old, *new, PREVIOUS_NAME}
    undo_patch(bundle)
    assert contents(bundle) == new
    with pytest.raises(PatchError, match="no patch was applied, or it was undone"):
        undo_patch(bundle)
    assert contents(bundle) == new


def test_what_killed_processes_left_is_cleared_and_nothing_else(made: Path, bundle: Path) -> None:
    strangers = ("notes.txt", "model.onnx", ".hidden.part")
    left = (".tables-0123456789ab.bin.1a2b3c4d.part", "tables-0123456789ab.bin", ".manifest.json.00ff00ff.part")
    for name in (*strangers, *left):
        (bundle / name).write_bytes(b"x")
    apply_patch(bundle, made / "there")
    names = contents(bundle).keys()
    assert set(strangers) < set(names)
    assert not set(left) & set(names)


def test_undoing_needs_the_files_of_before(made: Path, bundle: Path) -> None:
    apply_patch(bundle, made / "there")
    old = read_manifest(made / "old.bundle").tables.name
    content = (bundle / old).read_bytes()
    (bundle / old).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"is not the file that manifest\.previous\.json describes"):
        undo_patch(bundle)
    (bundle / old).unlink()
    with pytest.raises(BundleError, match="is not the file"):
        undo_patch(bundle)
    assert Recommender.load(bundle).n_items == read_manifest(made / "new.bundle").items.rows


def test_a_base_that_was_altered_is_told_as_what_it_is(made: Path, bundle: Path) -> None:
    tables = bundle / read_manifest(bundle).tables.name
    tables.write_bytes(tables.read_bytes()[:-1] + b"\0")
    before = contents(bundle)
    with pytest.raises(BundleError, match="sha256 differs"):
        apply_patch(bundle, made / "there")
    assert contents(bundle) == before


def test_what_is_no_patch_or_too_new_or_missing(made: Path, bundle: Path, tmp_path: Path) -> None:
    patch = (made / "there").read_bytes()
    with pytest.raises(PatchError, match="is no patch; make one"):
        apply_patch(bundle, b"PK\3\4" + bytes(100))
    with pytest.raises(PatchError, match=r"has version 2\.0, this runtime reads up to 1"):
        apply_patch(bundle, patch[:8] + b"\2\0" + patch[10:])
    assert PatchFile(patch[:8] + b"\1\0\7\0" + patch[12:])  # a newer minor version
    with pytest.raises(StorageError, match="cannot read"):
        apply_patch(bundle, tmp_path / "missing")
    with pytest.raises(BundleError, match="is no bundle"):
        apply_patch(tmp_path, patch)


def test_no_room_is_made_for_what_a_patch_promises(made: Path, bundle: Path) -> None:
    """A head that announces a terabyte, a stream that is longer than it says, numbers that would take all memory."""
    patch = (made / "there").read_bytes()
    body = struct.pack("<Q", 1 << 40) + patch[52:]
    with pytest.raises(PatchError, match=r"1099511627776 bytes where \d+ are the most"):
        apply_patch(bundle, patch[:12] + sha256(body).digest() + body)
    body = struct.pack("<Q", 1000) + zlib.compress(bytes(10_000_000))
    with pytest.raises(PatchError, match="it has no header"):
        apply_patch(bundle, patch[:12] + sha256(body).digest() + body)
    stream = zlib.decompress(patch[52:])
    for promised, told in ((len(stream), stream + bytes(10_000_000)), (len(stream) + 1, stream)):
        body = struct.pack("<Q", promised) + zlib.compress(told)
        with pytest.raises(PatchError, match=r"another length than promised|belong to nothing"):
            apply_patch(bundle, patch[:12] + sha256(body).digest() + body)
    for wanted, huge in ((b'"copies":', b'"copies":999999999'), (b'"changed":', b'"changed":99999999999')):
        with pytest.raises(PatchError, match=r"a part of|runs that make"):
            apply_patch(bundle, rehashed(patch, stream.replace(wanted, huge, 1)))
    rows = stream.index(b'"blocks":[[') + len(b'"blocks":[[')
    end = stream.index(b",", rows)
    with pytest.raises(PatchError, match="take more"):
        apply_patch(bundle, rehashed(patch, stream[:rows] + b"99999999999" + stream[end:]))


LISTS = b'{"format":"edgerec.patch","version":"1.0","x":[' + b"[]," * 300_000 + b"[]]}\n"
LEVELS = b'{"format":"edgerec.patch","version":"1.0","x":' + b"[" * 40 + b"]" * 40 + b"}\n"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (LISTS, "more than 262144 values"),
        (LEVELS, "more than 32 levels"),
        (b"[" * 100_000 + b"\n", "too many levels"),
        (b" " * (5 << 20) + b"{}\n", "no header of at most 4194304 bytes"),
    ],
    ids=["values", "levels", "recursion", "bytes"],
)
def test_a_header_is_small(made: Path, bundle: Path, header: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few KB inflate to as much as the bundle allows, and JSON takes 25 times that."""
    monkeypatch.setattr("edgerec.runtime.patch.updates.most_inflated", lambda _: 1 << 24)
    patch = rehashed((made / "there").read_bytes(), header)
    tracemalloc.start()
    try:
        with pytest.raises(PatchError, match=said):
            apply_patch(bundle, patch)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert contents(bundle) == contents(made / "old.bundle")


def test_a_patch_in_a_file_is_no_longer_than_one_can_be(bundle: Path, tmp_path: Path) -> None:
    with (tmp_path / "patch").open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: no disk is taken
    with pytest.raises(PatchError, match="has 1099511627776 bytes, and no patch for this bundle has"):
        apply_patch(bundle, tmp_path / "patch")


def test_runs_and_new_rows_are_no_more_than_can_be(made: Path, bundle: Path) -> None:
    patch = (made / "there").read_bytes()
    header, parts = zlib.decompress(patch[52:]).split(b"\n", 1)
    told = json.loads(header)
    told["manifest"]["copies"] = told["manifest"]["bytes"] + 1  # runs of nothing
    with pytest.raises(PatchError, match=r"\d+ runs that make \d+"):
        apply_patch(bundle, rehashed(patch, json.dumps(told).encode() + b"\n" + parts + bytes(100_000)))
    copies = np.array([0, 0, 1 << 30], "<u4").reshape(-1, 1).view(np.uint8).T.tobytes()
    fields = {"copies": 1, "changed": 0}
    short = zlib.compress(b'{"format":"edgerec.patch","version":"1.0"}\n' + copies)
    head = PatchFile(patch)
    head.inflated_bytes = 43 + len(copies)
    with pytest.raises(ValueError, match="more new rows than it can tell of"):
        RowSources.read(fields, PatchStream(memoryview(short), head), 100, 1 << 30, 1 << 40)


def test_a_manifest_that_is_made_is_no_larger_than_one_that_is_read(made: Path, bundle: Path) -> None:
    """Though all of a bundle may be: a stream of 1 MiB may make 8."""
    patch = (made / "there").read_bytes()
    header, parts = zlib.decompress(patch[52:]).split(b"\n", 1)
    for size, reason in ((MOST_BYTES, "copies"), (MOST_BYTES + 1, "a file of 4194305 bytes")):
        told = json.loads(header)
        told["manifest"]["bytes"] = size
        stream = json.dumps(told).encode() + b"\n" + parts + bytes(1 << 20)
        with pytest.raises(PatchError, match=reason):
            apply_patch(bundle, rehashed(patch, stream))
    assert contents(bundle) == contents(made / "old.bundle")


def test_a_patch_leads_out_of_no_folder(made: Path, bundle: Path) -> None:
    """The names of files come with the manifest; they follow the content or are refused."""
    patch = (made / "there").read_bytes()
    stream = zlib.decompress(patch[52:])
    name = next(name for name in contents(made / "new.bundle") if name.startswith("score-")).encode()
    for other in (b"../" + name[3:], b"score-" + b"0" * 12 + b".onnx", b"manifest.json"):
        with pytest.raises(PatchError):
            apply_patch(bundle, rehashed(patch, stream.replace(name, other.ljust(len(name), b"x"))))
    assert contents(bundle) == contents(made / "old.bundle")


def test_only_what_trusted_keys_signed(tmp_path: Path) -> None:
    mine, other = new_key(tmp_path / "mine"), new_key(tmp_path / "other")
    signed = replace(KIND, options=replace(KIND.options, sign=tmp_path / "mine"))
    old, new = bundles(signed, tmp_path)
    diff(old, new, tmp_path / "patch")
    unsigned = export(random_source(50, 9), tmp_path / "unsigned", verify=False).folder
    diff(old, unsigned, tmp_path / "unsigned.patch")
    before = contents(old)
    model = Recommender.load(old, trusted=mine)
    with pytest.raises(SignatureError, match="is not signed"):
        model.apply(tmp_path / "unsigned.patch")
    with pytest.raises(SignatureError, match="none of the 1 trusted"):
        apply_patch(old, tmp_path / "patch", trusted=other)
    assert contents(old) == before
    model.apply(tmp_path / "patch")
    assert model.manifest == read_manifest(new)
    model.undo()
    assert model.manifest.signed_by is not None
    assert contents(old) == before
    apply_patch(old, tmp_path / "unsigned.patch")
    undo_patch(old, trusted=mine)
    assert contents(old) == before


def test_a_signature_is_checked_before_what_it_signs_is_inflated(tmp_path: Path) -> None:
    """What stands behind the new manifest is no stream at all, and nobody comes to it."""
    mine = new_key(tmp_path / "mine")
    old = export(random_source(50, 9), tmp_path / "old", verify=False, sign=tmp_path / "mine").folder
    unsigned = export(random_source(60, 9), tmp_path / "new", verify=False).folder
    diff(old, unsigned, tmp_path / "patch")
    patch = (tmp_path / "patch").read_bytes()
    stream = zlib.decompress(patch[52:])
    header, parts = stream.split(b"\n", 1)
    told = json.loads(header)["manifest"]
    runs = np.frombuffer(parts[: 12 * told["copies"]], np.uint8).reshape(4, -1).T.copy().view("<u4").reshape(3, -1)
    end = len(header) + 1 + 12 * told["copies"] + int(runs[2].sum())
    deflater = zlib.compressobj()
    whole = stream[:end] + bytes(200_000)  # more than is inflated together with the header
    deflated = deflater.compress(whole) + deflater.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 100_000
    body = struct.pack("<Q", len(whole) + 1000) + deflated
    with pytest.raises(SignatureError, match="is not signed"):
        apply_patch(old, patch[:12] + sha256(body).digest() + body, trusted=mine)


@pytest.mark.slow
def test_requests_under_way_are_answered_by_one_version(made: Path, bundle: Path) -> None:
    """Eight threads ask while patches come and go; items, scores and ids are those of one bundle, or of the other."""
    models = [Recommender.load(made / name) for name in ("old.bundle", "new.bundle")]
    users = models[0]._current.users
    assert users is not None
    asked = users.raw(np.arange(models[0].n_users))
    expected = {user: [one.recommend(user, 15) for one in models] for user in asked}
    model, wrong, done = Recommender.load(bundle), list[object](), threading.Event()
    counts = [0, 0]

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not done.is_set():
                user = asked[int(rng.integers(len(asked)))]
                counts[expected[user].index(model.recommend(user, 15))] += 1
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        model.apply(made / "there")
        assert model.recommend(asked[0], 15) == expected[asked[0]][1]
        model.undo()
        assert model.recommend(asked[0], 15) == expected[asked[0]][0]
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(counts) > 0


def test_a_snapshot_stays_with_its_version(made: Path, bundle: Path) -> None:
    model = Recommender.load(bundle)
    snapshot, before = model.snapshot(), model.n_items
    rows = snapshot.item_rows(snapshot.item_ids(range(before)))
    model.apply(made / "there")
    model.apply((made / "there").read_bytes())  # again: nothing to do
    assert snapshot.n_items == before != model.n_items
    assert np.array_equal(rows, np.arange(before))
    assert len(snapshot.recommend(7, 5)) == 5
    assert len(snapshot.similar(snapshot.item_ids([3])[0], 5)) == 5  # a graph that is opened after its file went


def test_a_refused_patch_leaves_a_recommender_as_it_is(made: Path, bundle: Path) -> None:
    model = Recommender.load(bundle)
    before = model.recommend(7, 5)
    with pytest.raises(PatchError):
        model.apply((made / "there").read_bytes()[:-1])
    with pytest.raises(PatchError):
        model.undo()
    assert model.recommend(7, 5) == before


def test_a_version_that_does_not_answer_is_not_installed(made: Path, bundle: Path, tmp_path: Path) -> None:
    """An app could not start again: the patch is whole, and onnxruntime does not open its graph."""
    diff(bundle, broken_copy(made / "new.bundle", tmp_path / "broken", "recommend"), tmp_path / "patch")
    model = Recommender.load(bundle)
    before, files = model.recommend(7, 5), contents(bundle)
    with pytest.raises(BundleError, match="recommend"):
        model.apply(tmp_path / "patch")
    assert model.recommend(7, 5) == Recommender.load(bundle).recommend(7, 5) == before
    assert {name: content for name, content in contents(bundle).items() if name != PREVIOUS_NAME} == files
    model.apply(made / "there")
    model.undo()
    assert model.recommend(7, 5) == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_old_versions_are_let_go(made: Path, bundle: Path) -> None:
    model = Recommender.load(bundle)

    def held() -> tuple[int, int]:
        mapped = Path("/proc/self/maps").read_text().count(str(bundle))
        return len(list(Path("/proc/self/fd").iterdir())), mapped

    before = held()
    for _ in range(5):
        model.apply(made / "there")
        model.undo()
    assert held() == before


@pytest.mark.slow
def test_the_command_line(made: Path, bundle: Path, command_line: CommandLine, tmp_path: Path) -> None:
    told = command_line("diff", made / "old.bundle", made / "new.bundle", "--out", tmp_path / "patch", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "of the whole bundle" in told.stdout
    assert "inserted" in told.stdout
    for arguments, said in (
        (("apply", bundle, tmp_path / "patch"), "patched"),
        (("apply", bundle, tmp_path / "patch"), "applied before"),
        (("apply", bundle, "--undo"), "the last patch is undone"),
    ):
        done = command_line(*arguments)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    for arguments, became in (((made / "there",), "patched"), ((made / "there",), "already"), (("--undo",), "undone")):
        done = command_line("apply", bundle, *arguments, "--json")
        assert json.loads(done.stdout) == {
            "bundle": str(bundle),
            "became": became,
            "bytes": read_manifest(bundle).nbytes,
        }
    for arguments in (
        ("apply", bundle, "--undo"),
        ("apply", bundle),
        ("apply", bundle, made / "old.bundle" / "manifest.json"),
    ):
        done = command_line(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1

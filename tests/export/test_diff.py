"""Patches: of any two bundles, they make the second of the first, to the byte."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.experiments.patch_tables import export_line
from bench.experiments.patch_tables import versions as line
from edgerec.errors import PatchError, UnsupportedError
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import PREVIOUS_NAME
from edgerec.runtime.patch import apply_patch, undo_patch
from edgerec.runtime.patch.patchfile import Copies
from edgerec_export import ExportRequest, diff, export, export_request, from_arrays
from edgerec_export.layouts import FORMS
from edgerec_export.patch import PreviousBundle
from edgerec_export.patch.diff import copies_of
from edgerec_export.patch.matches import byte_copies
from tests.conftest import random_source
from tests.patches import Kind, bundles, contents, versions


def check(old: Path, new: Path, patch: Path) -> None:
    """The patch makes one the other, and what it was is kept for undoing."""
    diff(old, new, patch, verify=False)
    before, wanted = contents(old), contents(new)
    assert apply_patch(old, patch)
    after = contents(old)
    assert after.pop(PREVIOUS_NAME) == before["manifest.json"]
    assert after == {**before, **wanted}
    assert not apply_patch(old, patch)
    undo_patch(old)
    assert contents(old) == before


def options_of(layout: str, precision: str, scales: str) -> ExportRequest:
    by_row = scales == "row" and layout != "csc" and precision in ("int8", "int4")
    return ExportRequest(layout, precision, scales="row" if by_row else "auto", verify=False)


@pytest.mark.slow
@given(
    form=st.sampled_from(FORMS),
    scales=st.sampled_from(["auto", "row"]),
    subject=st.sampled_from(["users", "linear", "ials"]),
    ids=st.sampled_from(["int", "str"]),
    like=st.booleans(),
    titles=st.booleans(),
    share=st.sampled_from([0.05, 0.6]),
    seed=st.integers(0, 1 << 20),
)
@settings(max_examples=60, deadline=None)
def test_a_patch_makes_the_new_bundle_of_the_old_one_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory,
    form: tuple[str, str],
    scales: str,
    subject: str,
    ids: str,
    like: bool,
    titles: bool,
    share: float,
    seed: int,
) -> None:
    place = tmp_path_factory.mktemp("diff")
    options = replace(options_of(*form, scales), titles=titles)
    check(*bundles(Kind(options, subject, ids, like, titles, share), place, seed), place / "patch")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "precision"), FORMS)
def test_every_layout_in_every_precision(layout: str, precision: str, tmp_path: Path) -> None:
    check(*bundles(Kind(options_of(layout, precision, "auto")), tmp_path), tmp_path / "patch")


@pytest.mark.parametrize("seed", range(3))
def test_bundles_that_have_little_in_common(seed: int, tmp_path: Path) -> None:
    """Other layouts, precisions, dimensions and ids: a patch is large then, and right."""
    rng = np.random.default_rng(seed)
    forms = rng.permutation([f"{layout} {precision}" for layout, precision in FORMS])
    folders = []
    for number, form in enumerate(forms[:4]):
        kind = Kind(
            options_of(*form.split(), "auto"), subject=["users", "ials"][number % 2], ids=["int", "str"][number // 2]
        )
        folders.append(export_request(versions(kind, seed)[number % 2], tmp_path / str(number), kind.options).folder)
    for old, new in pairwise(folders):
        check(old, new, tmp_path / "patch")


@pytest.mark.slow
def test_rows_of_int4_and_int8_in_one_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3000, 32), np.float32) * (1 + 9 * rng.random((3000, 1), np.float32))
    folders = []
    for number in range(2):
        values[:100] += number
        options = ExportRequest("mixed", "auto", max_bytes=70_000, verify=False)
        folders.append(export_request(from_arrays(values, values[:50]), tmp_path / str(number), options).folder)
    assert Recommender.load(folders[0]).manifest.precision == "int4+int8"
    check(folders[0], folders[1], tmp_path / "patch")
    assert ExportRequest(like=folders[0]).resolved().max_bytes == 70_000


@pytest.mark.slow
def test_a_large_catalogue_in_runs(tmp_path: Path) -> None:
    old, new = export_line(line(70_000, 50), tmp_path, 2, ExportRequest("mixed", "int8", verify=False))
    patch = diff(old, new, tmp_path / "patch")
    assert patch.nbytes < 0.2 * patch.full_bytes
    assert patch.changes["item"].inserted == patch.changes["item"].deleted == 700
    check(old, new, tmp_path / "patch")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "precision"), FORMS)
@pytest.mark.parametrize("scales", ["auto", "row"])
def test_rows_that_did_not_change_keep_their_bytes(layout: str, precision: str, scales: str, tmp_path: Path) -> None:
    """Of a bundle that is exported like another; the changed rows alone are told."""
    kind = Kind(options_of(layout, precision, scales), subject="ials", share=0.05)
    old, new = bundles(kind, tmp_path, n_items=400)
    changes = diff(old, new, tmp_path / "patch").changes["item"]
    touched = changes.inserted + changes.moved + changes.changed
    most = 0.05 * 400 * 1.8 + 10
    assert 0 < touched < most
    assert changes.inserted == 10


@pytest.mark.parametrize("layout", ["mixed", "csc"])
def test_what_a_bundle_was_made_with_is_read_back(layout: str, tmp_path: Path) -> None:
    source = random_source(500, 120)
    for scales in ("auto", "table", "block") if layout == "mixed" else ("auto",):
        for precision in ("int4", "int8"):
            options = ExportRequest(layout, precision, scales=scales, lookup=layout == "csc", verify=False)
            done = export_request(source, tmp_path / "b", options)
            again = export(source, tmp_path / "again", like=done.folder, verify=False)
            assert contents(again.folder) == contents(done.folder)
    previous = PreviousBundle.read(tmp_path / "b")
    assert (previous.layout, previous.precision) == (layout, "int8")


def test_what_cannot_follow_an_older_bundle(tmp_path: Path) -> None:
    done = export(random_source(50, 20), tmp_path / "b", verify=False)
    with pytest.raises(UnsupportedError, match="the older bundle of `like` decides precision, fit"):
        ExportRequest(like=done.folder, precision="int8", fit=True)


def test_equal_bundles_and_such_as_outgrow_a_patch_are_refused(tmp_path: Path) -> None:
    small = export(random_source(5, 5), tmp_path / "small", verify=False).folder
    with pytest.raises(PatchError, match="same bundle"):
        diff(small, small, tmp_path / "patch")
    large = export(random_source(90_000, 5), tmp_path / "large", verify=False).folder
    with pytest.raises(PatchError, match="ship it whole"):
        diff(small, large, tmp_path / "patch")
    assert not (tmp_path / "patch").exists()


@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40), st.binary(max_size=9))))
@settings(max_examples=200, deadline=None)
def test_bytes_are_made_of_similar_ones(old: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    new = old
    for at, gone, put in edits:
        new = new[:at] + put + new[at + gone :]
    copies, literals = byte_copies(old, new)
    stored = np.frombuffer(copies.stored(), np.uint8).reshape(4, 3 * len(copies)).T.copy().view("<u4").reshape(3, -1)
    read = Copies.of(*stored.astype(np.int64))
    assert read.fit(len(old), len(new))
    assert read.joined(memoryview(old), memoryview(literals)) == new


def test_of_similar_bytes_only_the_changed_ones_are_told() -> None:
    """Each in its place, and what is cut out or put in between moves the rest."""
    rng = np.random.default_rng(0)
    old = rng.integers(0, 256, 300_000, np.uint8)
    new = old.copy()
    new[1000::3000] ^= 1
    put = rng.integers(0, 256, 50, np.uint8)
    new = np.concatenate([new[:50_500], put, new[50_500:200_500], new[200_600:]])
    copies, literals = byte_copies(old.tobytes(), new.tobytes())
    assert len(literals) == 100 + len(put)
    assert len(copies) == 100 + 3


@given(st.lists(st.integers(-1, 30), max_size=40))
@settings(max_examples=200, deadline=None)
def test_rows_are_copied_in_runs(sources: list[int]) -> None:
    wanted = np.array(sources or [0], np.int64)
    assert np.array_equal(copies_of(wanted).sources(), wanted)

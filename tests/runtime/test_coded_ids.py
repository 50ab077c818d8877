"""Ids of version 2: what is stored comes back, nothing else is found, and damage is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.errors import BundleError, ExportError, UnsupportedError
from edgerec.runtime.ids import BITMAP_IDS, BucketedIds, GroupedTexts, HashedIds, StrIds, id_hash
from edgerec.runtime.manifest import RowsEntry
from edgerec_export import ExportRequest
from edgerec_export.layouts import hashes, pack_ids
from edgerec_export.layouts.ids import bucketed, grouped
from edgerec_export.patch.matches import byte_copies

NUMBERS = st.one_of(st.integers(-300, 300), st.integers(0, 5000), st.integers(-(1 << 63), (1 << 63) - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def entry(counts: list[int], kind: Any) -> RowsEntry:
    return RowsEntry(sum(counts), tuple((1, count) for count in counts), kind)


def in_blocks(ids: list[Any], cut: int) -> tuple[list[Any], list[int]]:
    """Return ids that ascend within two blocks, and the rows of each."""
    first, second = sorted(ids[:cut]), sorted(ids[cut:])
    return [*first, *second], [len(part) for part in (first, second) if part]


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=300, unique=True), st.integers(0, 300), st.lists(NUMBERS, max_size=30))
def test_numbers_come_back_and_no_others_are_found(ids: list[int], cut: int, others: list[int]) -> None:
    ordered, counts = in_blocks(ids, cut)
    section = bucketed(np.array(ordered, np.int64), counts)
    index = BucketedIds(entry(counts, "int"), section)
    assert index.raw(np.arange(len(ids))) == ordered
    assert index.rows(ordered).tolist() == list(range(len(ids)))
    assert index.rows(others).tolist() == [ordered.index(one) if one in ids else -1 for one in others]
    assert index.rows(["1", 1 << 70, True]).tolist() == [-1, -1, -1]


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=200, unique=True), st.integers(0, 200), st.lists(TEXTS, max_size=20))
def test_texts_come_back_and_no_others_are_found(texts: list[str], cut: int, others: list[str]) -> None:
    ordered, counts = in_blocks(texts, cut)
    index = StrIds(entry(counts, "str"), GroupedTexts(entry(counts, "str"), grouped(np.array(ordered, object), counts)))
    assert index.raw(np.arange(len(texts))) == ordered
    assert index.rows(ordered).tolist() == list(range(len(texts)))
    assert index.rows(others).tolist() == [ordered.index(one) if one in texts else -1 for one in others]
    assert index.rows(["\ud800", 7]).tolist() == [-1, -1]


def test_dense_numbers_take_a_bit_each() -> None:
    ids = np.sort(np.random.default_rng(0).permutation(3952)[:3706]).astype(np.int64)
    assert bucketed(ids, [3706]).size < 0.16 * 3706


def test_an_id_that_is_added_changes_a_few_bytes() -> None:
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(1 << 20, 20_000, replace=False)).astype(np.int64)
    more = np.sort(np.append(ids, np.setdiff1d(np.arange(1 << 20), ids)[777]))
    before, after = bucketed(ids, [ids.size]), bucketed(more, [more.size])
    _, changed = byte_copies(before.tobytes(), after.tobytes())
    assert len(changed) <= 16


def test_hashes_are_those_of_the_specification() -> None:
    assert f"{id_hash('') % (1 << 64):016x}" == "cbf29ce484222325"
    assert f"{id_hash('a') % (1 << 64):016x}" == "af63dc4c8601ec8c"  # of the authors of FNV
    assert f"{id_hash('foobar') % (1 << 64):016x}" == "85944171f73967e8"


def test_hashed_ids_take_texts_and_answers() -> None:
    texts = np.array([f"film-{n}é" for n in range(500)])
    found = np.sort(hashes("item", texts))
    index = HashedIds(BucketedIds(entry([500], "hash64"), bucketed(found, [500])))
    rows = index.rows(texts.tolist())
    assert sorted(rows.tolist()) == list(range(500))
    assert index.rows(index.raw(rows)).tolist() == rows.tolist()
    assert index.rows(["film-500é", 7, "\ud800", "0" * 16, "A" * 16]).tolist() == [-1] * 5


def test_hashes_are_of_texts_without_a_collision(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="whole numbers"):
        hashes("item", np.arange(3))
    monkeypatch.setattr("edgerec_export.layouts.ids.id_hash", len)
    with pytest.raises(ExportError, match="'ab' and 'cd'"):
        hashes("item", np.array(["a", "ab", "cd"]))


def test_a_number_that_no_64_bits_hold_is_refused() -> None:
    with pytest.raises(ExportError, match="64 bits"):
        pack_ids("item", np.array([1, 1 << 63], np.uint64), [2], ExportRequest())


def damaged(section: NDArray[np.uint8], at: int, value: int) -> NDArray[np.uint8]:
    found = section.copy()
    found[at] = value
    return found


def test_counts_that_lie_are_refused() -> None:
    ids = np.arange(0, 400, 2, dtype=np.int64)
    section = bucketed(ids, [200])
    for broken in (
        section[:0],
        section[:5],
        section[:-1],
        np.append(section, np.uint8(0)),
        damaged(section, 0, 0),
        damaged(section, 0, 8),
        damaged(section, 9, 255),
        damaged(section, 13, 100),
        damaged(section, section.size - 1, section[-1] ^ 1),  # another number of bits than ids
    ):
        with pytest.raises(ValueError, match=r".+"):
            BucketedIds(entry([200], "int"), broken)
    assert BITMAP_IDS == 32


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_texts_are_refused_or_read_within_the_section(data: st.DataObject) -> None:
    texts = sorted(f"id-{n}" for n in range(60))
    section = grouped(np.array(texts, object), [60]).copy()
    for _ in range(data.draw(st.integers(1, 3))):
        section[data.draw(st.integers(0, section.size - 1))] = data.draw(st.integers(0, 255))
    section = section[: data.draw(st.integers(0, section.size))] if data.draw(st.booleans()) else section
    try:
        index = StrIds(entry([60], "str"), GroupedTexts(entry([60], "str"), section))
        index.rows(["id-7"])
        assert all(len(text) <= section.size for text in index.raw(np.arange(60)) if isinstance(text, str))
    except (ValueError, BundleError):
        return

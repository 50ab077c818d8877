"""Splits: disjoint, whole, the same for a seed, with the shares asked for."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.data import Interactions, Split, SplitSpec, load_data, merge, split, synthetic
from edgerec.data.folders import write_folder
from edgerec.errors import DataError

SPECS = [
    "random:80/20",
    "random:50/25/25",
    "random:50+25/25",
    "leave-one-out",
    "leave-last-out",
    "time:80/20",
    "time:60/20/20",
]
SMALL = synthetic(200, 100, 3000)


def keys(part: Interactions) -> set[tuple[int, int]]:
    return set(zip(part.user_rows().tolist(), part.indices.tolist(), strict=True))


def check(result: Split, whole: Interactions) -> None:
    parts = (result.train, result.validation, result.test)
    assert sum(map(len, parts)) == len(whole)
    assert set().union(*map(keys, parts)) == keys(whole)
    for part in parts:
        assert part.shape == whole.shape
        assert part.user_ids is whole.user_ids


@pytest.mark.parametrize("spec", SPECS)
def test_parts_are_disjoint_and_together_the_whole(spec: str) -> None:
    check(split(SMALL, spec), SMALL)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=60),
    st.sampled_from([*SPECS, "random:10/90", "random:1/1/98"]),
    st.integers(0, 3),
)
def test_small_data_split_whole_or_say_why(pairs: list[tuple[int, int]], text: str, seed: int) -> None:
    whole = Interactions.from_pairs(*zip(*pairs, strict=True), timestamps=[sum(pair) for pair in pairs])
    try:
        result = split(whole, SplitSpec.parse(text, seed=seed))
    except DataError as error:
        assert "empty" in str(error)  # noqa: PT017 - either outcome is right
        return
    check(result, whole)
    if not text.startswith("time"):
        assert (result.train.user_counts()[whole.user_counts() >= 1] >= 1).all()


@pytest.mark.parametrize("spec", SPECS)
def test_shards_of_users_split_as_one_does(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = split(SMALL, spec)
    monkeypatch.setattr("edgerec.data.interactions.SHARD", 70)
    for name in ("train", "validation", "test", "train_all"):
        assert getattr(split(SMALL, spec), name).fingerprint() == getattr(whole, name).fingerprint()


@pytest.mark.parametrize("spec", SPECS[:2])
def test_a_seed_decides(spec: str) -> None:
    first, again, other = (split(SMALL, SplitSpec.parse(spec, seed=seed)) for seed in (1, 1, 2))
    assert first.test.fingerprint() == again.test.fingerprint()
    assert first.validation.fingerprint() == again.validation.fingerprint()
    assert first.test.fingerprint() != other.test.fingerprint()


def test_the_choice_is_the_same_on_every_platform() -> None:
    whole = Interactions.from_pairs(np.repeat(np.arange(3), 10), np.tile(np.arange(10), 3))
    assert split(whole, SplitSpec.parse("random:80/20", seed=0)).test.indices.tolist() == [2, 3, 1, 3, 0, 1]


def test_shares_hold_inside_every_user() -> None:
    result = split(SMALL, "random:50/25/25")
    counts = SMALL.user_counts()
    assert (result.test.user_counts() == np.floor(counts * 0.25 + 0.5)).all()
    assert (result.validation.user_counts() == np.floor(counts * 0.25 + 0.5)).all()
    assert not result.fit_all


def test_two_shares_hold_back_a_twentieth_of_train_to_choose_with() -> None:
    whole = synthetic()
    result = split(whole, "random:80/20")
    train = len(result.train) + len(result.validation)
    assert train / len(whole) == pytest.approx(0.8, abs=0.005)
    assert len(result.validation) / train == pytest.approx(0.05, abs=0.003)
    assert result.fit_all
    assert keys(result.train_all) == keys(whole) - keys(result.test)


def test_a_plus_between_two_of_three_shares_trains_on_both_in_the_end() -> None:
    """The parts are those of the same three shares."""
    once, again = split(SMALL, "random:50/25/25"), split(SMALL, "random:50+25/25")
    assert not once.fit_all
    assert again.fit_all
    assert not again.without_final().fit_all
    for name in ("train", "validation", "test"):
        assert keys(getattr(once, name)) == keys(getattr(again, name))


def test_each_choice_is_equally_likely() -> None:
    whole = Interactions.from_pairs(np.repeat(np.arange(4000), 10), np.tile(np.arange(10), 4000))
    counts = split(whole, "random:80/20").test.item_counts()
    assert counts.sum() == 8000
    assert abs(counts - 800).max() < 5 * np.sqrt(800 * 0.8)


def test_the_last_of_each_user_tests_and_the_one_before_validates() -> None:
    whole = Interactions.from_pairs([1, 1, 1, 1, 2, 2, 3], [7, 8, 9, 6, 7, 8, 7], timestamps=[40, 20, 30, 10, 5, 5, 9])
    result = split(whole, "leave-last-out")
    assert whole.item_ids[result.test.items_of(0)].tolist() == [7]
    assert whole.item_ids[result.validation.items_of(0)].tolist() == [9]
    assert whole.item_ids[result.train.items_of(0)].tolist() == [6, 8]
    assert whole.item_ids[result.test.items_of(1)].tolist() == [8]  # of equal times the higher item
    assert result.validation.user_counts().tolist() == [1, 0, 0]
    assert result.train.user_counts().tolist() == [2, 1, 1]


def test_one_of_each_user_tests_at_random() -> None:
    """Shares would test nobody of those with one or two interactions."""
    counts = np.arange(4000) % 4 + 1
    users = np.repeat(np.arange(4000), counts)
    whole = Interactions.from_pairs(users, np.concatenate([np.arange(n) for n in counts]))
    result = split(whole, "leave-one-out")
    assert (result.test.user_counts() == (counts >= 2)).all()
    assert (result.train.user_counts() >= 1).all()
    tested = result.test.indices[counts[result.test.user_rows()] == 4]
    assert np.bincount(tested).min() > 200  # of 1,000 users, each of the four items as often
    assert len(result.validation) / len(result.train_all) == pytest.approx(0.05, abs=0.02)
    assert result.fit_all
    assert not result.without_final().fit_all
    with pytest.raises(DataError, match=r"leaves test empty.*try --split leave-one-out"):
        split(Interactions.from_pairs([1, 1, 2, 2], [1, 2, 1, 2]), "random:80/20")
    with pytest.raises(DataError, match=r"leaves test empty.*try --split all, which tests nothing"):
        split(Interactions.from_pairs([1, 2], [1, 2]), "leave-one-out")


def test_time_cuts_all_users_at_the_same_moment() -> None:
    result = split(SMALL, "time:60/20/20")
    train, validation, test = (part.timestamps for part in (result.train, result.validation, result.test))
    assert train is not None
    assert validation is not None
    assert test is not None
    assert train.max() < validation.min()
    assert validation.max() < test.min()
    assert (len(train), len(validation), len(test)) == (1800, 600, 600)


def test_equal_times_stay_on_one_side() -> None:
    whole = Interactions.from_pairs(range(10), range(10), timestamps=[1, 1, 2, 3, 3, 3, 3, 3, 3, 4])
    result = split(whole, "time:50/50")
    assert result.test.timestamps is not None
    assert result.test.timestamps.tolist() == [3] * 6 + [4]


def test_one_moment_for_all_cannot_be_cut() -> None:
    with pytest.raises(DataError, match=r"time:80/20 leaves train empty.*try --split random:80/20"):
        split(Interactions.from_pairs([1, 2], [1, 2], timestamps=[5, 5]), "time:80/20")


@pytest.mark.parametrize("spec", ["leave-last-out", "time:80/20"])
def test_times_are_needed(spec: str) -> None:
    with pytest.raises(DataError, match=f"{spec} needs timestamps"):
        split(Interactions.from_pairs([1, 2], [1, 2]), spec)


@pytest.mark.parametrize("text", SPECS)
def test_spellings_and_json_round_trip(text: str) -> None:
    spec = SplitSpec.parse(text, seed=3)
    assert str(spec) == text
    assert SplitSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "text",
    [
        "random",
        "random:80",
        "random:80/30",
        "random:a/b",
        "random:100/0",
        "random:50/25+25",
        "random:75+25",
        "random:50+20+5/25",
        "leave-last-out:80/20",
        "x:80/20",
        "",
    ],
)
def test_other_spellings_are_refused_with_the_right_ones(text: str) -> None:
    with pytest.raises(DataError, match="expected random:80/20"):
        SplitSpec.parse(text)


@pytest.mark.parametrize("value", [{}, {"kind": "random", "fractions": 3, "seed": 0}])
def test_malformed_json_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(DataError):
        SplitSpec.from_dict(value)


def test_merging_restores_what_was_split() -> None:
    result = split(SMALL, "random:50/25/25")
    whole = merge(merge(result.test, result.train), result.validation)
    assert whole.fingerprint() == SMALL.fingerprint()


def test_merging_drops_a_column_that_only_one_part_has() -> None:
    a = Interactions.from_pairs([1, 2], [1, 2], ratings=[1, 2], timestamps=[3, 4])
    b = Interactions(a.user_ids, a.item_ids, a.indptr, 1 - a.indices, None, a.timestamps)
    merged = merge(a, b)
    assert merged.ratings is None
    assert merged.timestamps is not None
    assert merged.timestamps.tolist() == [3, 3, 4, 4]


def test_what_is_not_disjoint_or_not_the_same_space_is_not_merged() -> None:
    a = Interactions.from_pairs([1, 2], [1, 2])
    with pytest.raises(DataError, match="share pairs"):
        merge(a, a)
    with pytest.raises(DataError, match="different users or items"):
        merge(a, Interactions.from_pairs([1, 3], [1, 2]))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    lines = {"train": ["0 1 2 3 4 5", "1 0 1 2", "2 7"], "test": ["0 0 6", "1 3", "3 1"]}
    for part, content in lines.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(content) + "\n")
    return tmp_path


def test_published_tests_exactly_the_test_file(published: Path) -> None:
    whole = load_data(published)
    assert whole.parts is not None
    seen = set()
    for seed in range(40):
        result = split(whole, SplitSpec("published", seed=seed))
        check(result, whole)
        assert keys(result.test) == {(0, 0), (0, 6), (1, 3), (3, 1)}
        assert (result.train.user_counts()[:3] >= 1).all()
        assert keys(result.train_all) == {(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1), (1, 2), (2, 7)}
        seen |= keys(result.validation)
        assert result.fit_all
        assert not len(result.validation) or not result.without_final().fit_all
    assert {user for user, _ in seen} == {0, 1}  # the last training item of a user is never held back
    again = split(whole, SplitSpec("published", seed=39))
    assert again.validation.fingerprint() == result.validation.fingerprint()


def test_published_shares_of_validation(tmp_path: Path) -> None:
    train = "\n".join(f"{user} " + " ".join(map(str, range(user % 7, user % 7 + 30))) for user in range(200))
    (tmp_path / "train.txt").write_text(train + "\n")
    (tmp_path / "test.txt").write_text("\n".join(f"{user} 50" for user in range(200)) + "\n")
    result = split(load_data(tmp_path), "published")
    assert 0.04 < len(result.validation) / len(result.train_all) < 0.06


def test_a_published_validation_file_validates(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\n"
    for part, pairs in {"train": "a\tx\na\ty\n", "valid": "a\tz\n", "test": "b\tx\na\ty\n"}.items():
        (tmp_path / f"set.{part}.inter").write_text(head + pairs)
    result = split(load_data(tmp_path), "published")
    assert [len(part) for part in (result.train, result.validation, result.test)] == [2, 1, 1]
    assert keys(result.validation) == {(0, 2)}
    assert keys(result.test) == {(1, 0)}  # the pair that train has too does not test


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_published_files_of_any_format(ending: str, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        for part, item in (("train", 1), ("test", 2)):
            form, path = "parquet" if ending == "parquet" else "csv", tmp_path / f"{part}.{ending}"
            connection.execute(f"COPY (SELECT 5 AS user, {item} AS item) TO '{path}' (FORMAT {form})")
    assert keys(split(load_data(tmp_path), "published").test) == {(0, 1)}


def test_data_without_a_published_split_say_so(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="comes without a published split; expected a folder with train and test"):
        split(SMALL, "published")
    filtered = load_data(published).filter(min_user=2)
    assert keys(split(filtered, "published").test) == {(0, 0), (0, 6), (1, 3)}
    write_folder(tmp_path / "stored", filtered, {})
    again = load_data(tmp_path / "stored")
    assert again.fingerprint() == filtered.fingerprint()
    assert again.parts is not None
    assert again.parts.tolist() == filtered.parts.tolist()  # type: ignore[union-attr]

"""The history of a search: what is written, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.errors import RunError
from edgerec.methods.search.history import DECILES, FILE_NAME, RETRAIN, SearchHistory, read_history, size_deciles
from edgerec.models import SizePlan


def entry(number: int, **changes: Any) -> dict[str, Any]:
    fields = {"iteration": number, "action": {}, "strategy": "greedy", "predicted": None, "fitness": 0.1 * number}
    return {
        **fields,
        "density": 0.1,
        "seconds": 1.0,
        "sizes": {"users": [1.0] * DECILES, "items": [2.0] * DECILES},
        **changes,
    }


def test_entries_are_there_again(tmp_path: Path) -> None:
    history = SearchHistory(tmp_path)
    for number in range(3):
        history.add(entry(number))
        assert read_history(tmp_path / FILE_NAME) == history.entries
    assert SearchHistory(tmp_path).entries == [entry(number) for number in range(3)]


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    history, path = SearchHistory(tmp_path), tmp_path / FILE_NAME
    history.add(entry(0))
    whole = path.read_bytes()
    history.add(entry(1))
    both = path.read_bytes()
    for end in range(len(whole), len(both)):
        path.write_bytes(both[:end])
        again = SearchHistory(tmp_path)
        assert again.entries == [entry(0)]
        assert path.read_bytes() == whole
    again.add(entry(1))
    assert path.read_bytes() == both


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'{"iteration": 1}\n'])
def test_a_damaged_line_is_named(line: bytes, tmp_path: Path) -> None:
    SearchHistory(tmp_path).add(entry(0))
    with (tmp_path / FILE_NAME).open("ab") as stream:
        stream.write(line)
    with pytest.raises(RunError, match=r"search\.jsonl.*line 2"):
        SearchHistory(tmp_path)


def test_without_a_folder_it_is_in_memory() -> None:
    history = SearchHistory(None)
    history.add(entry(0))
    history.add(entry(0, strategy=RETRAIN))
    assert len(history.entries) == 2
    assert history.evaluated == [entry(0)]


def test_clearing_forgets_the_search(tmp_path: Path) -> None:
    SearchHistory(tmp_path).add(entry(0))
    (tmp_path / "search").mkdir()
    (tmp_path / "items.npz").write_bytes(b"mine")
    SearchHistory.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["items.npz"]


def test_deciles_are_means_of_tenths_by_popularity() -> None:
    counts = np.random.default_rng(0).permutation(40)  # rows of 0, 1, 2, ... interactions, shuffled
    found = size_deciles(SizePlan(50, counts + 1, None), counts, counts)
    assert found["users"] == [2.5 + 4 * number for number in range(10)]
    assert found["items"] == [50.0] * 10
    few = size_deciles(SizePlan(9, np.array([3, 9, 6]), np.array([4])), np.array([0, 2, 1]), np.array([5]))
    assert set(few["users"]) == {3.0, 6.0, 9.0}
    assert few["users"] == sorted(few["users"])
    assert few["items"] == [4.0] * 10

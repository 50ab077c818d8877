"""The sentence about bundles that serve no worse without their users."""

from __future__ import annotations

from edgerec.cli.quality import better_without_users


def test_a_table_that_is_no_better_than_histories_is_said() -> None:
    found = better_without_users({"test": {"ndcg@20": 0.4}, "encoder": {"ndcg@20": 0.41}}, what="films.bundle")
    assert found is not None
    assert found.startswith("films.bundle serves no worse without its user table")
    assert "0.4100, by the table 0.4000; export it with --no-users" in found


def test_a_better_table_and_a_run_without_one_are_not() -> None:
    assert better_without_users({"test": {"ndcg@20": 0.4}, "encoder": {"ndcg@20": 0.39}}, what="x") is None
    assert better_without_users({"test": {"ndcg@20": 0.4}}, what="x") is None
    assert better_without_users({}, what="x") is None

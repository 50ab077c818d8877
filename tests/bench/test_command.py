"""Commands `python -m edgerec_bench...`: what a user got wrong is one line and status 2, as of `edgerec`."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.bench.conftest import status_of


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("quality", ["--data", "no-such"], "no-such"),
        ("no_users", ["--data", "no-such"], "no-such"),
        ("sparse_quality", ["--data", "no-such", "--out", "never.json"], "no-such"),
        ("sparse_training", ["ablation", "--data", "no-such"], "no-such"),
        ("scale", ["--growth", "--profile", "mixed int8"], "give one of them"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    name: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(import_module(f"edgerec_bench.{name}").main, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert said in line

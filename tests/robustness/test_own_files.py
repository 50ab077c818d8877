"""Damaged files of our own and odd command lines end well or in one line of an error: never in a traceback.

The long form is `python -m tests.robustness.own_files --mutants 1690 --odd 500`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.robustness.own_files import SUBJECTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and time are those of Unix")


@pytest.mark.slow
def test_damaged_files_and_odd_command_lines_are_refused_without_a_traceback() -> None:
    mutants, odd = 10 * len(SUBJECTS), 60
    call = [sys.executable, "-m", "tests.robustness.own_files", "--mutants", str(mutants), "--odd", str(odd), "--short"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert sum(told["ended"].values()) == mutants + odd
    assert told["ended"]["refused"] > (mutants + odd) / 4  # it damages

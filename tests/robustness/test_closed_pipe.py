"""A reader that leaves before the output ends, as `head` does, is no error of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgerec.cli import PIPE_CLOSED, app
from edgerec_export import export, from_arrays


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["inspect", "b"], ["inspect", "b", "--json"], ["bench", "b", "--processes", "1", "--seconds", "0"]],
    ids=" ".join,
)
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((rows, 4)).astype(np.float32) for rows in (30, 5)]
    export(from_arrays(*tables), tmp_path / "b", layout="mixed", verify=False)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "edgerec.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert done.returncode == PIPE_CLOSED
    assert done.stderr == ""


def test_a_status_that_a_command_chooses_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare --fail-if` ends with 1, as click and rich do for a closed pipe."""
    monkeypatch.setattr(app.group, "main", lambda *arguments, **how: sys.exit(1))
    with pytest.raises(SystemExit) as stop:
        app.run(["compare"])
    assert stop.value.code == 1

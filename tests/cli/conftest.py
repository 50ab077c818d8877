"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CommandLine

DATA = "synthetic:300x200x9000"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, command_line: CommandLine) -> Path:
    """A folder with a run, an iALS bundle and an svd one."""
    folder = tmp_path_factory.mktemp("cli")
    for backbone in ("ials", "svd"):
        trained = command_line(
            *("train", DATA, "--backbone", backbone, "--budget", "50%", "--dimensions", "16", "--out", backbone),
            cwd=folder,
        )
        assert trained.returncode == 0, trained.stderr
        exported = command_line("export", backbone, "--out", f"{backbone}.bundle", "--titles", cwd=folder)
        assert exported.returncode == 0, exported.stderr
        assert "verified in a fresh process" in exported.stdout
    return folder

"""The oldest onnxruntime that is promised: a fresh environment with it answers the test vectors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.vectors.make import FOLDER

ROOT = Path(__file__).parents[2]


def of_the_manifest() -> str:
    """What the graphs need."""
    wanted = json.loads((FOLDER / "bundles" / "dense-fp32-users" / "manifest.json").read_text())["onnxruntime"]
    return str(wanted).removeprefix(">=")


def of_the_package() -> str:
    """What pip installs with the runtime at least."""
    (version,) = re.findall(r'"onnxruntime>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    return str(version)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "numpy"),
    # Wheels before 1.19 do not work with numpy 2, which is why the package asks for more than its graphs do.
    [(of_the_manifest(), "numpy<2"), (of_the_package(), "numpy>=2")],
    ids=["graphs", "package"],
)
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="so old an onnxruntime has no wheel for this Python")
def test_the_oldest_onnxruntime_answers_the_vectors(version: str, numpy: str, wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    needed = [f"onnxruntime=={version}", numpy, "cryptography>=42"]
    for what in ([*needed], ["--no-deps", str(wheel)]):
        command = [str(python), "-m", "pip", "install", "-q", *what]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            reason = (installed.stderr.strip().splitlines() or ["pip failed"])[-1]
            assert os.environ.get("CI") != "true", installed.stderr
            pytest.skip(f"pip cannot bring {what}: {reason}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), str(FOLDER / "check.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " vectors, 0 failures" in done.stdout

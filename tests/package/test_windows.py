"""No module and no main command needs a name that Windows does not have.

docs/reference/platforms.md says for what this holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "windows"
EVERY_MODULE = """
import importlib, pkgutil, sys
import edgerec, edgerec_bench, edgerec_devices, edgerec_export
from edgerec import files
assert (files.fcntl, files.sys.platform, hasattr(files.os, "getuid")) == (None, "win32", False)
failed = []
for package in (edgerec, edgerec_export, edgerec_bench, edgerec_devices):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in sys.argv[1:]:
                failed.append(f"{found.name}: {error!r}")
        except Exception as error:
            failed.append(f"{found.name}: {error!r}")
print("\\n".join(failed))
"""
OPTIONAL = ("faiss", "usearch", "hnswlib", "openvino", "ai_edge_litert", "executorch", "implicit", "ray", "onnx_ir")
"""Packages of the extras 'peers' and 'ray', which need not be installed."""
HELP = """
import click
from edgerec.cli.reference import reference
assert reference().count("## edgerec") > 20
"""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "LOCALAPPDATA": str(folder / "local")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_every_module_can_be_imported(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", EVERY_MODULE, *OPTIONAL)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_every_command_explains_itself(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", HELP)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and a bundle, made there."""
    folder = tmp_path_factory.mktemp("windows")
    for words in (
        "train synthetic:60x40x900 --backbone ials --budget 50% --dimensions 8 --out run",
        "export run --out b",
        "export run --out b",  # over the one that is there
        "export run --out c --precision int8",
        "keys new k",
    ):
        done = python(folder, "-m", "edgerec.cli", *words.split())
        assert done.returncode == 0, f"{words}: {done.stderr}"
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "doctor --json",
        "data list",
        "devices list",
        "devices info local",
        "inspect b",
        "recommend b --user 5 -k 3",
        "similar b 3",
        "evaluate b --data synthetic:60x40x900",
        "bench b --processes 1 --calls 5 --seconds 0 --out result.json",
        "diff b c --out p.patch",
        "grid plan.toml --workers 2",
    ],
)
def test_a_command_works(words: str, place: Path) -> None:
    (place / "plan.toml").write_text(
        'data = "synthetic:60x40x900"\nbackbone = "svd"\nmethod = "dense"\ndimensions = 8\nseed = [0, 1]\n'
    )
    done = python(place, "-m", "edgerec.cli", *words.split())
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(place.glob(".*.part"))


@pytest.mark.slow
def test_a_patch_is_applied(place: Path) -> None:
    shutil.copytree(place / "b", place / "d")
    for words in ("diff b c --out a.patch", "apply d a.patch", "apply d --undo"):
        done = python(place, "-m", "edgerec.cli", *words.split())
        assert done.returncode == 0, f"{words}: {done.stderr}"

"""The example firmware: a bundle of 64 KiB in the flash of an emulated Cortex-M4, and what memory an answer takes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.stored import pack
from edgerec.tables import DenseTable
from edgerec_export import ExportRequest, Source, export_request
from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import KERNEL

EMULATOR = "qemu-system-arm"
HISTORY = [5, 7, 9, 2005]
ITEMS, DIMENSIONS = 3300, 32
BYTES = 64 << 10
MOST = {"arena": 2560, "work": 1536, "stack": 3328}
"""Bytes of memory that opening and answering take; the bundle is read in flash."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("firmware"), np.random.default_rng(0)
    items = DenseTable(rng.standard_normal((ITEMS, DIMENSIONS), dtype=np.float32))
    encoder, counts = LinearEncoder(rng.random(ITEMS, dtype=np.float32)), rng.integers(0, 99, ITEMS)
    source = Source(items, np.arange(ITEMS) * 2 + 5, encoder=encoder, item_counts=counts, about={})
    export_request(source, folder / "b", ExportRequest("dense", "int4", similar=False, verify=False))
    assert pack(folder / "b", folder / "b.edgerec") <= BYTES
    return folder / "b.edgerec"


def emulated(bundle: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the firmware with a bundle, and run it."""
    if shutil.which(EMULATOR) is None:
        lacking(EMULATOR, "apt-get install qemu-system-arm")
    if importlib.util.find_spec("ziglang") is None:
        lacking("ziglang", "pip install ziglang")
    image = folder / "firmware.elf"
    build = ["sh", str(KERNEL / "firmware" / "build.sh"), str(bundle), str(image), *options]
    subprocess.run(build, check=True, timeout=300, env={**os.environ, "PYTHON": sys.executable})
    board = ["-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
    command = [EMULATOR, *board, "-kernel", str(image)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_it_answers_as_python_does(bundle: Path, tmp_path: Path) -> None:
    done = emulated(bundle, tmp_path, f"-DHISTORY={','.join(map(str, HISTORY))}")
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout + done.stderr
    answers = [(int(item), int(score)) for item, score in re.findall(r"^(-?\d+) (-?\d+) millionths$", output, re.M)]
    expected = Recommender.load(bundle).recommend(history=HISTORY, k=10)
    assert [item for item, _ in answers] == [one.item for one in expected]
    assert np.allclose([score / 1e6 for _, score in answers], [one.score for one in expected], atol=1e-4)
    for name, most in MOST.items():
        (found,) = re.findall(rf"^(\d+) bytes of {name}$", output, re.M)
        assert int(found) <= most, name
    (instructions,) = re.findall(r"^(\d+) instructions to recommend$", output, re.M)
    assert int(instructions) < 3_000_000


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[40] ^= 255
    (tmp_path / "b.edgerec").write_bytes(content)
    done = emulated(tmp_path / "b.edgerec", tmp_path)
    assert done.returncode == 1
    assert "get the bundle again" in done.stdout + done.stderr

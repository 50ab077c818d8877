"""Integer bundles on a CPU with AVX2 and without VNNI, as most laptops and servers before 2019 have it.

There MatMulInteger adds pairs of products of uint8 and int8 in 16 bits, and saturates: bundles store uint8 for it.
The CPU is an emulated Haswell: Debian's qemu-user-static.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.vectors.check import names
from tests.vectors.make import FOLDER

EMULATOR = "qemu-x86_64-static"
INTEGER = [name for name in names() if "int8" in name or "int4" in name or name in ("chunked", "lookup")]


def haswell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python on an emulated Haswell; without the emulator the test is skipped, in CI (CI=true) it fails."""
    if platform.machine() != "x86_64":
        pytest.skip("x86-64's Python is needed to emulate a Haswell")
    if shutil.which(EMULATOR) is None:
        assert os.environ.get("CI") != "true", f"{EMULATOR} is missing: apt-get install qemu-user-static"
        pytest.skip(f"{EMULATOR} is not installed: apt-get install qemu-user-static")
    command = [EMULATOR, "-cpu", "Haswell-noTSX", sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_integer_bundles_are_exact_without_vnni() -> None:
    done = haswell(FOLDER / "check.py", *INTEGER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(INTEGER)} vectors, 0 failures" in done.stdout


@pytest.mark.slow
def test_the_emulated_cpu_has_the_fault_that_bundles_avoid(tmp_path: Path) -> None:
    """Otherwise the test above shows nothing."""
    rng = np.random.default_rng(0)
    table = rng.integers(-127, 128, (64, 256), np.int8)
    user = rng.integers(0, 256, (1, 64), np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["user", "table"], ["scores"])],
        "saturates",
        [helper.make_tensor_value_info("user", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.INT32, [1, 256])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, str(tmp_path / "saturates.onnx"))
    np.save(tmp_path / "user.npy", user)
    code = (
        "import numpy as np, onnxruntime as ort; "
        f"session = ort.InferenceSession({str(tmp_path / 'saturates.onnx')!r}); "
        f"(scores,) = session.run(None, {{'user': np.load({str(tmp_path / 'user.npy')!r})}}); "
        f"np.save({str(tmp_path / 'scores.npy')!r}, scores)"
    )
    done = haswell("-c", code)
    assert done.returncode == 0, done.stderr
    assert (np.load(tmp_path / "scores.npy") != user.astype(np.int32) @ table).any()

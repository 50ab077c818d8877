"""A check that a device can run a bundle and returns the same recommendations as this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec_devices import Device

ITEMS, USERS, DIMENSIONS, K = 64, 4, 8, 10


def check_bundle(device: Device) -> str:
    """Push a small bundle, run it in a process of the device, and compare its answers with this machine's.

    Returns:
        The outcome as a sentence.

    Raises:
        MissingExtraError: the exporter is not installed here.
        BenchError: the bundle cannot be pushed, does not run, or answers differently on the device.
    """
    # Imported here: listing devices must not need onnxruntime, and measuring must not need onnx.
    from edgerec.runtime import Recommender
    from edgerec_export import export, from_arrays

    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((count, DIMENSIONS), np.float32) for count in (ITEMS, USERS))
    rows = list(range(USERS))
    with tempfile.TemporaryDirectory(prefix="edgerec-") as folder:
        # Equal tables give equal bytes, so that the next check has nothing to send.
        bundle = export(
            from_arrays(items, users), Path(folder) / "check.bundle", layout="dense", precision="fp32", verify=False
        )
        model = Recommender.load(bundle.folder)
        expected = [[item for item, _ in model.recommend(user, k=K)] for user in rows]
        request = {"task": "bundle", "bundle": device.push(bundle.folder), "scenarios": ["recommend"], "ask": rows}
        limits = {"calls": 10, "seconds": 0, "k": K, "exclude": 0, "history": 1, "threads": 1, "seed": 0}
        answer = device.run({**request, **limits})
    # In a table of one block the row number is the id, and some agents only return row numbers.
    if answer.get("answers", answer.get("rows")) != expected:
        raise BenchError(
            f"{device.name} returns other recommendations than this machine, so that its figures mean nothing; "
            "install the same version of onnxruntime on both (edgerec devices info)"
        )
    return (
        f"a bundle of {format_bytes(bundle.nbytes)} was pushed, and the device returns this machine's recommendations"
    )

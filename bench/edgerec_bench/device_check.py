"""A bundle made for it, asked on a device and here: whether a bench works there, and means what it should."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec_devices import Device

ITEMS, USERS, DIMENSIONS, K = 64, 4, 8, 10


def check_bundle(device: Device) -> str:
    """Push a bundle, measure it in a process of the device, and compare its answers with this machine's.

    Returns:
        What was found, in words.

    Raises:
        MissingExtraError: there is no exporter here to make the bundle.
        BenchError: it does not get there, does not run there, or answers otherwise there.
    """
    # Listing devices loads no onnxruntime; and measuring needs no onnx, which the exporter does.
    from edgerec.runtime import Recommender
    from edgerec_export import export, from_arrays

    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((rows, DIMENSIONS), np.float32) for rows in (ITEMS, USERS))
    asked = list(range(USERS))
    with tempfile.TemporaryDirectory(prefix="edgerec-") as folder:
        # Equal tables give equal bytes: of the next check nothing is sent.
        made = export(
            from_arrays(items, users), Path(folder) / "check.bundle", layout="dense", precision="fp32", verify=False
        )
        model = Recommender.load(made.folder)
        here = [[item for item, _ in model.recommend(user, k=K)] for user in asked]
        request = {"task": "bundle", "bundle": device.push(made.folder), "scenarios": ["recommend"], "ask": asked}
        limits = {"calls": 10, "seconds": 0, "k": K, "exclude": 0, "history": 1, "threads": 1, "seed": 0}
        answer = device.run({**request, **limits})
    # In one block of rows a row's number is its id: some agents know no other.
    if answer.get("answers", answer.get("rows")) != here:
        raise BenchError(
            f"{device.name} answers a bundle otherwise than this machine, so that its figures mean nothing; "
            "bring both to one version of onnxruntime (edgerec devices info)"
        )
    return f"a bundle of {format_bytes(made.nbytes)} arrives, and its answers there are this machine's"

"""Makes the test vectors: python -m tests.vectors.make

Every bundle is exported anew, every answer computed by numpy from what the bundle holds (`edgerec_export.reference`),
never by onnxruntime. README.md beside this file describes what is written.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgerec.files import to_json, write_bytes
from edgerec_export import Export, Source, export_request
from edgerec_export.layouts import variants
from edgerec_export.onnx import decode
from tests.vectors.answers import OTHER, TRUSTED, Answers
from tests.vectors.cases import Case, cases, source_of

FOLDER = Path(__file__).parent


def make(folder: Path) -> None:
    """Write every bundle, its requests, and the keys into `folder`, whole files anew."""
    for name in ("bundles", "requests"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for number, name in enumerate((TRUSTED, OTHER)):
        public = _private_key(number).public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_bytes(folder / name, pem)
    for seed, case in enumerate(cases()):
        rng = np.random.default_rng(seed)
        source = source_of(case, rng)
        with (
            mock.patch.object(variants, "GROUP_ROWS", case.group_rows),
            mock.patch.object(decode, "ROWS_A_STEP", case.rows_a_step),
        ):
            done = _export(case, source, folder / "bundles" / case.name)
        requests = list(Answers(case, source, done, rng).requests())
        content = {"format": "edgerec.vectors", "version": 1, "bundle": f"bundles/{case.name}", "requests": requests}
        write_bytes(folder / "requests" / f"{case.name}.json", _lines(content))


def _lines(content: dict[str, Any]) -> bytes:
    """JSON with one request a line: readable, and a change shows where it is."""
    compact = (to_json(request, compact=True, surrogates="backslashreplace") for request in content["requests"])
    requests = b",\n  ".join(request.strip() for request in compact)
    head = to_json({**content, "requests": []}).decode().removesuffix("[]\n}\n")
    return head.encode() + b"[\n  " + requests + b"\n ]\n}\n"


def _private_key(number: int) -> Ed25519PrivateKey:
    """For these tests alone: anyone can make it."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def _export(case: Case, source: Source, folder: Path) -> Export:
    options = replace(case.options, verify=False, rotate=False, version=case.version)
    if not case.signed:
        return export_request(source, folder, options)
    with tempfile.TemporaryDirectory() as scratch:
        key = Path(scratch, "key")
        key.write_bytes(
            _private_key(0).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return export_request(source, folder, replace(options, sign=key))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

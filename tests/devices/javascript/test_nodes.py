"""The npm package on the releases of Node that are supported: the test vectors, by onnxruntime-web and the kernel."""

from __future__ import annotations

import subprocess

import pytest

from edgerec_devices.web import files as web_files
from tests.devices.javascript.parts import node_of
from tests.devices.javascript.test_kernel import TAKEN
from tests.devices.web import need
from tests.vectors.check import FOLDER, names

RELEASES = ("20", "22", "24")
"""Those that have long support, and 20, which had it; this machine's own Node answers the other tests."""


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_the_vectors_on_a_release_of_node(release: str) -> None:
    need("npm")
    node = node_of(release)
    version = subprocess.check_output([node, "--version"], text=True)
    assert version.startswith(f"v{release}.")
    told, some = [], names()[::4]  # its makers test onnxruntime itself
    for library, *arguments in (
        ("edgerec-node.mjs", web_files.installed() / "ort.node.min.mjs", *some),
        ("edgerec-kernel-node.mjs", "-", *TAKEN),
    ):
        command = [node, FOLDER / "check.mjs", web_files.DIST / library, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.stdout, done.stderr
        told.append(done.stdout.splitlines()[-1])
    assert told == [f"{len(some)} vectors, 0 failures", f"{len(TAKEN)} vectors, 0 failures"]

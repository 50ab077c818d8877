"""The agent's one file: equal for equal sources, and all that it imports of ours is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from edgerec_devices.ssh.environment import agent_zip


def test_the_same_sources_make_the_same_bytes() -> None:
    assert agent_zip() == agent_zip()


def test_every_module_of_ours_comes_from_the_file(tmp_path: Path) -> None:
    """All that a task may import, asked in a process that has no other edgerec."""
    name, content = agent_zip()
    (tmp_path / name).write_bytes(content)
    code = (
        "import importlib, json, pkgutil, sys\n"
        "packages = 'edgerec', 'edgerec.runtime', 'edgerec.runtime.patch', 'edgerec_devices', 'edgerec_devices.agent'\n"
        "for package in packages:\n"
        "    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "ours = {name: module.__file__ for name, module in sys.modules.items() if name.startswith('edgerec')}\n"
        "print(json.dumps({name: file for name, file in ours.items() if 'agent-' not in file}))"
    )
    # -S and the paths of numpy and onnxruntime alone: the editable install of the tests is not seen.
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in filter(lambda path: path.endswith("site-packages"), sys.path):
        for found in Path(folder).iterdir():
            if found.name.startswith(("numpy", "onnxruntime", "flatbuffers", "google", "packaging", "protobuf")):
                (packages / found.name).symlink_to(found)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / name}{os.pathsep}{packages}"}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}

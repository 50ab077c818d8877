"""Releases of Node, and programs that need a newer one than a machine may have, from npm."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from tests.devices.android.parts import kept
from tests.devices.web import PROCESSORS, lacking, need_programs


def npm_packages(name: str, *packages: str) -> Path:
    """node_modules with packages, installed once for all runs and without their scripts."""
    need_programs("npm", "node")

    def fetch(target: Path) -> None:
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(target), *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lacking(f"npm cannot bring {' '.join(packages)}: {done.stderr.strip()[-300:]}")

    return kept(name, fetch) / "node_modules"


def node_of(release: str) -> Path:
    """The newest Node of a release, whose package on npm holds it as one file."""
    if platform.system() != "Linux" or platform.machine() not in PROCESSORS:
        lacking(f"Node from npm is not tested on {platform.system()} {platform.machine()}")
    name = f"node-linux-{PROCESSORS[platform.machine()]}"
    return npm_packages(f"node-{release}", f"{name}@{release}") / name / "bin" / "node"

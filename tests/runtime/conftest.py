"""A bundle to be spoilt, and a manifest to be changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgerec_export import export
from tests.conftest import random_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(random_source(500, 120), tmp_path_factory.mktemp("bundles") / "b", verify=False).folder


@pytest.fixture
def bundle(folder: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "bundle"))


def edited(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle

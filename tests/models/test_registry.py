"""Backbones are found by name, and cost nothing until then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgerec.errors import UnsupportedError
from edgerec.models import BACKBONES, backbone


def test_names_agree() -> None:
    assert BACKBONES == ("ials", "lae", "lightgcn", "mf", "ncf", "neighbours", "ngcf", "svd")
    assert tuple(backbone(name).name for name in BACKBONES) == BACKBONES


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(
        UnsupportedError, match="'dssm'; choose one of ials, lae, lightgcn, mf, ncf, neighbours, ngcf, svd"
    ):
        backbone("dssm")


def test_closed_forms_train_without_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
from edgerec.data import Interactions
from edgerec.errors import MissingExtraError
from edgerec.models import SizePlan, backbone
data = Interactions.from_pairs([0, 0, 1, 2], [0, 1, 1, 2])
for name in ("ials", "neighbours", "svd"):
    model = backbone(name)
    model.trainer(data, SizePlan(2), model.config(), seed=0).epoch()
for name in ("lightgcn", "mf", "ncf", "ngcf"):
    try:
        backbone(name)
    except MissingExtraError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("pip install 'edgerec[train]'") == 4


def test_importing_the_package_loads_no_trainer() -> None:
    code = "import sys, edgerec.models; print([m for m in ('torch', 'scipy', 'threadpoolctl') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"

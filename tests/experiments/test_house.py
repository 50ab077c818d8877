"""The size of the code: what is counted, and which files a reader opens, on a checkout made for it and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiments.harness import ROOT
from bench.experiments.house import AIM, SUBJECTS, Checkout, measure
from edgerec.errors import BenchError

PROJECT = """
[tool.hatch.build.targets.wheel]
packages = ["app", "src/lib"]
[[tool.importlinter.contracts]]
type = "layers"
layers = ["app", "lib.far | lib.near"]
"""
FILES = {
    "app/__init__.py": '"""An app."""\n',
    "app/entry.py": (
        "from typing import TYPE_CHECKING\n\nfrom app.part import run\nfrom lib import offered\n"
        "if TYPE_CHECKING:\n    from lib.near import Shape\n\n\ndef main() -> None:\n"
        '    """Run."""\n    from lib.far import inner\n'
    ),
    "app/part.py": "from app.deep import x\n\n\nclass A:\n    def b(self): ...\n    def _c(self): ...\n",
    "app/deep.py": "x = 1\n",
    "app/unused.py": "import app.part\n",
    "src/lib/__init__.py": "from lib.near import offered\n",
    "src/lib/near.py": "offered = 1\n",
    "src/lib/far.py": "from lib.near import offered\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name, text in {"pyproject.toml": PROJECT, **FILES}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Checkout(tmp_path)


def test_a_reader_opens_the_layers_files_and_what_goes_past_another_layers_interface(checkout: Checkout) -> None:
    assert checkout.opened(["app.entry"]) == ["app.deep", "app.entry", "app.part", "lib.far"]
    assert checkout.opened(["app.unused"]) == ["app.deep", "app.part", "app.unused"]


def test_a_folder_is_read_whole(checkout: Checkout) -> None:
    assert checkout.opened(["lib"]) == ["lib", "lib.far", "lib.near"]


def test_lines_and_docstrings_are_counted(checkout: Checkout) -> None:
    figures = measure(checkout)
    text = "".join(FILES.values())
    assert figures["lines"] == len(text.splitlines())
    assert figures["non_blank_lines"] == sum(bool(line.strip()) for line in text.splitlines())
    assert set(figures["packages"]) == {"app", "lib"}
    # Eight modules, main, A and A.b; the app's own and main's are documented.
    assert (figures["public"], figures["documented"]) == (11, 2)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="give one with --root"):
        measure(Checkout(tmp_path))


@pytest.mark.slow
def test_every_subject_is_found_here_and_these_are_short() -> None:
    figures = measure(Checkout(ROOT))
    assert set(figures["subjects"]) == set(SUBJECTS)
    for subject in ("popularity", "ssh device", "report page"):
        assert figures["subjects"][subject]["files"] <= AIM, subject
    # One more: the kernel's backend, which stands in for onnxruntime.
    assert figures["subjects"]["bundle load"]["files"] <= AIM + 1


def test_a_layout_and_export_are_short() -> None:
    """Layouts, graphs and patches are packages, which a reader of export() takes by their interfaces."""
    checkout = Checkout(ROOT)
    assert len(checkout.opened(["edgerec_export.layouts.mixed"])) <= AIM
    walked = [name for name in checkout.opened(["edgerec_export.export"]) if name.startswith("edgerec_export.")]
    assert 1 < len(walked) <= 12

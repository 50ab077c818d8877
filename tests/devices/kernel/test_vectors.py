"""The kernel answers every request of the vectors as numpy does, from folders and from single files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgerec.runtime.stored import pack
from tests.devices.kernel.conftest import KERNEL, SANITIZED, compiled, is_refused
from tests.vectors.cases import cases
from tests.vectors.check import FOLDER

REFUSED = [case.name for case in cases() if is_refused(case.version, case.options.precision)]
TAKEN = [case.name for case in cases() if case.name not in REFUSED]


def said(checker: Path, folder: Path, bundle: Path, name: str) -> tuple[int, str]:
    """Return the status and the output of the checker."""
    command = [checker, folder, bundle, folder / "requests" / f"{name}.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", TAKEN)
def test_answers(checkers: list[Path], name: str, tmp_path: Path) -> None:
    bundle = FOLDER / "bundles" / name
    pack(bundle, tmp_path / "packed")
    for checker, form in [(checkers[0], tmp_path / "packed"), *((one, bundle) for one in checkers)]:
        status, output = said(checker, FOLDER, form, name)
        assert status == 0, output
        assert output.endswith(" 0 failures\n")


@pytest.mark.parametrize("name", REFUSED)
def test_integers_of_version_2(checkers: list[Path], second_version: Path, name: str, tmp_path: Path) -> None:
    bundle = second_version / "bundles" / name
    pack(bundle, tmp_path / "packed")
    for checker, form in [(checkers[0], tmp_path / "packed"), *((one, bundle) for one in checkers)]:
        status, output = said(checker, second_version, form, name)
        assert status == 0, output


@pytest.mark.parametrize("name", REFUSED)
def test_integers_of_version_1_are_refused_by_name(checker: Path, name: str) -> None:
    status, output = said(checker, FOLDER, FOLDER / "bundles" / name, name)
    assert status == 4
    assert "integers of version 1.0 have their scales in graphs; export the bundle again, as version 2.0" in output


def test_wide_sums_equal_those_of_the_plain_loops(tmp_path: Path) -> None:
    """On a CPU without AVX2 or the dot product there is nothing to compare."""
    parts = [str(KERNEL / "src" / name) for name in ("rows.c", "wide.c")]
    program = compiled(tmp_path / "wide", "wide.c", (*SANITIZED, "-Wno-unused-function"), parts)
    done = subprocess.run([program], timeout=60, check=False)
    assert done.returncode in (0, 2)


def test_a_wrong_answer_is_seen(checker: Path, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "keys", tmp_path / "keys")
    (tmp_path / "requests").mkdir()
    name = "v2-numbers"
    text = (FOLDER / "requests" / f"{name}.json").read_text(encoding="utf-8")
    (tmp_path / "requests" / f"{name}.json").write_text(text.replace('"k":5', '"k":6'), encoding="utf-8")
    status, output = said(checker, tmp_path, FOLDER / "bundles" / name, name)
    assert status == 1
    assert "another number of items" in output

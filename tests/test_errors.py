"""Every message gives a reason, also where what failed gave none."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import edgerec.cli
from edgerec.cli import app
from edgerec.data import named
from edgerec.data.named import named_sets
from edgerec.data.readers import Reading
from edgerec.errors import BenchError, DataError, DownloadError, EdgeRecError, PatchError, StorageError, reason_of
from edgerec.files import atomic_write
from edgerec.runtime.patch import updates
from edgerec_bench.grid import GridPlan, run_grid
from edgerec_export import export
from tests.conftest import random_source


def test_an_exception_without_text_is_named_by_its_type() -> None:
    assert [reason_of(one) for one in (MemoryError(), KeyboardInterrupt(), OSError(), ValueError("x"), EOFError(" "))] \
        == ["MemoryError", "KeyboardInterrupt", "OSError", "x", "EOFError"]  # fmt: skip


def test_a_plan_without_cells_says_so(tmp_path: Path) -> None:
    plan = GridPlan.parse({"data": "synthetic", "backbone": "ials", "method": "dense", "skip": [{"method": ["dense"]}]})
    with pytest.raises(BenchError, match="the plan has no cells: skip leaves out every combination"):
        run_grid(plan, tmp_path / "g.jsonl")
    with pytest.raises(BenchError, match=r"the plan has no cells: .*skip leaves out"):
        app.group.main(
            [
                "frontier",
                "synthetic",
                "--method",
                "popularity",
                "--precision",
                "auto",
                "--out",
                str(tmp_path / "f.html"),
            ],
            standalone_mode=False,
        )
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_system_without_a_text_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*: OSError; "), atomic_write(tmp_path / "a"):
        raise OSError

    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(click.Group, "main", none_left)
    with pytest.raises(EdgeRecError, match=r"out of memory \(MemoryError\)"):
        app.run([])
    export(random_source(20, 10), tmp_path / "b", verify=False)
    monkeypatch.setattr(updates._Application, "apply", none_left)
    (tmp_path / "p").write_bytes(b"edgerecP" + bytes(44))
    monkeypatch.setattr(updates.PatchFile, "read", lambda *_: updates.PatchFile.__new__(updates.PatchFile))
    monkeypatch.setattr(updates.PatchFile, "damaged", lambda self, reason: PatchError(f"damaged: {reason}"))
    with pytest.raises(PatchError, match="damaged: MemoryError"):
        updates.apply_patch(tmp_path / "b", tmp_path / "p")


def test_sources_without_a_reason_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise DataError

    monkeypatch.setattr(named, "_from_host", silent)
    monkeypatch.setattr(named, "_from_wheel", silent)
    with pytest.raises(DownloadError, match="DataError"):
        named.load_named(named_sets()["ml-100k"], tmp_path, mirror="", offline=False, reading=Reading())


def test_the_command_line_prints_no_empty_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(_: object) -> int:
        raise EdgeRecError

    monkeypatch.setattr(app, "run", silent)
    with pytest.raises(SystemExit):
        edgerec.cli.main()
    assert capsys.readouterr().err == "Error: EdgeRecError\n"

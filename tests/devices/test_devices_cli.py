"""`edgerec devices`: every kind is listed, asked and checked alike, and what is missing is one line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click.testing
import pytest

from edgerec.cli.app import group
from edgerec.errors import BenchError, StorageError
from edgerec_bench.device_check import check_bundle
from edgerec_devices.protocol import Kind, Tell, set_up, setup_folder, silent
from edgerec_devices.registry import KINDS
from tests.bench.devices import Answer, Changed
from tests.conftest import CommandLine
from tests.devices.conftest import one_line


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is set up here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgerec" / "devices"


def test_every_kind_is_listed_with_what_mends_it(command_line: CommandLine, cache: Path) -> None:
    listed = command_line("devices", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    kinds = {kind["name"]: kind for kind in json.loads(listed.stdout)}
    assert kinds.keys() == KINDS.keys()
    assert kinds["local"]["ready"]
    for kind in kinds.values():
        assert kind["ready"] == (not kind["missing"])
        assert all(part["what"] and part["fix"] for part in kind["missing"])
    assert "edgerec devices setup arm64" in [part["fix"] for part in kinds["arm64"]["missing"]]
    table = command_line("devices", "list")
    assert all(kind["form"] in table.stdout for kind in kinds.values())
    assert not cache.exists()  # it only looked


def test_facts_of_this_machine(command_line: CommandLine) -> None:
    done = command_line("devices", "info", "local", "--json")
    assert json.loads(done.stdout)["ort_telemetry"] == "off"
    assert "onnxruntime" in command_line("devices", "info", "local").stdout


def test_a_check_that_passes(command_line: CommandLine) -> None:
    done = command_line("devices", "check", "local", "--json")
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert [step["step"] for step in steps] == ["needs", "opens", "facts", "measures", "answers"]
    assert all(step["ok"] for step in steps)
    assert re.fullmatch(
        r"a bundle of \S+ KiB was pushed, and the device returns this machine's recommendations", steps[-1]["found"]
    )


def test_a_device_that_answers_otherwise_fails_the_check() -> None:
    def swapped(request: Answer, answer: Answer) -> Answer:
        first, second, *others = answer["answers"][-1]
        return {**answer, "answers": [*answer["answers"][:-1], [second, first, *others]]}

    with pytest.raises(BenchError, match=r"^local returns other recommendations than this machine"):
        check_bundle(Changed(swapped))


def test_without_the_exporter_no_bundle_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("edgerec_export")]:
        monkeypatch.delitem(sys.modules, name)
    done = click.testing.CliRunner().invoke(group, ["devices", "check", "local", "--json"])
    assert done.exit_code == 0, done.stderr
    last = json.loads(done.stdout)[-1]
    assert (last["step"], last["ok"]) == ("answers", True)
    assert "not tried: onnx is not installed" in last["found"]


@pytest.mark.parametrize(
    ("address", "step", "said"),
    [
        ("ssh://127.0.0.1:1", "facts", "cannot be reached"),
        ("arm64", "needs", "edgerec devices setup arm64"),
        ("mars", "needs", "there is no device 'mars'; give one of: local, "),
        ("local --memory 128M", "opens", "--memory is for devices that are started here"),
        ("local --memory x", "opens", "cannot read the size 'x'"),
    ],
)
def test_a_check_that_fails(command_line: CommandLine, address: str, step: str, said: str) -> None:
    done = command_line("devices", "check", *address.split(), "--json")
    assert done.returncode == 2, done.stderr
    last = json.loads(done.stdout)[-1]
    assert (last["step"], last["ok"]) == (step, False)
    assert said in last["found"]
    assert "\n" not in last["found"]


def test_errors_are_one_line(command_line: CommandLine) -> None:
    assert "there is no device 'mars'" in one_line(command_line("devices", "info", "mars"))
    assert "'ssh' is not one of" in one_line(command_line("devices", "setup", "ssh"))


def test_setting_up_again_keeps_what_works(cache: Path) -> None:
    def make(tell: Tell) -> None:
        if not setup_folder("toy").exists():
            tell("making")
            setup_folder("toy").mkdir(parents=True)
            (setup_folder("toy") / "version").write_text(str(next(versions)))

    def fail(_: Tell) -> None:
        raise BenchError("no network")

    versions = iter("12")
    toy = Kind("toy", "toy", "a toy", KINDS["local"].open, set_up=make)
    for again, version, told in ((False, "1", ["making"]), (False, "1", []), (True, "2", ["making"])):
        said: list[str] = []
        set_up(toy, said.append, again=again)
        assert ((setup_folder("toy") / "version").read_text(), said) == (version, told)
    with pytest.raises(BenchError, match="no network"):
        set_up(Kind("toy", "toy", "a toy", KINDS["local"].open, set_up=fail), silent, again=True)
    assert (setup_folder("toy") / "version").read_text() == "2"
    assert [path.name for path in cache.iterdir()] == ["toy"]
    with pytest.raises(BenchError, match="local has nothing to set up"):
        set_up(KINDS["local"], silent)


def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path) -> None:
    def make(_: Tell) -> None:
        setup_folder("toy").mkdir(parents=True)

    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="cannot make"):
        set_up(Kind("toy", "toy", "a toy", KINDS["local"].open, set_up=make), silent)


def test_every_command_has_an_example() -> None:
    for name in ("list", "info", "setup", "check"):
        shown = click.testing.CliRunner().invoke(group, ["devices", name, "--help"])
        assert "Example:" in shown.output

"""The built wheel alone, in a bare environment: numpy and onnxruntime, and it recommends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from edgerec_export import export
from tests.conftest import random_source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", str(wheel)], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )


def test_the_wheel_holds_the_four_packages_and_no_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "edgerec",
        "edgerec_bench",
        "edgerec_devices",
        "edgerec_export",
    }
    assert "edgerec/runtime/bundle-spec.json" in names
    assert {"edgerec_bench/schema/result.schema.json", "edgerec_bench/reports/templates/report.html.jinja"} <= set(
        names
    )
    assert not [name for name in names if "experiments" in name]
    assert not [name for name in names if name.endswith((".gz", ".npz", ".inter", ".dat"))]
    assert wheel.stat().st_size < 1_110_000


def test_the_runtimes_wheel_is_small_and_whole(runtime_wheel: Path, tmp_path: Path) -> None:
    """It holds every module of the runtime and what that needs, recommends, and says what it lacks."""
    assert runtime_wheel.stat().st_size < 142_500
    zipfile.ZipFile(runtime_wheel).extractall(tmp_path)
    specification = Path("edgerec", "runtime", "bundle-spec.json")
    assert (tmp_path / specification).read_bytes() == (ROOT / specification).read_bytes()
    parts = (ROOT / "edgerec" / part for part in ("runtime", "serve"))
    here = {path.relative_to(ROOT).as_posix() for part in parts for path in part.rglob("*.py")}
    there = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "edgerec").rglob("*.py")}
    shared = ("__init__", "errors", "extras", "files", "outputs", "signatures")
    assert there == here | {f"edgerec/{name}.py" for name in shared}
    bundle = export(random_source(500, 120), tmp_path / "b", precision="int8", verify=False).folder
    code = f"""
import edgerec
assert edgerec.__file__.startswith({str(tmp_path)!r})
with edgerec.Recommender.load({str(bundle)!r}) as model:
    print(len(model.recommend(5, 3)))
import sys
from pathlib import Path
import edgerec.serve.__main__
from edgerec.serve.server import built
from edgerec.serve.settings import Settings
built(Settings(({str(bundle)!r},), state=Path({str(tmp_path / "state")!r})))
assert not {{"click", "rich", "torch", "onnx", "scipy"}} & sys.modules.keys()
edgerec.train
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.stdout == "3\n", done.stderr
    assert "edgerec.train is not in edgerec-runtime, the runtime alone" in done.stderr.splitlines()[-1]


def test_both_wheels_ask_for_the_same(wheel: Path, runtime_wheel: Path) -> None:
    """The same version, Python and packages; the larger one has extras of its own."""

    def asked(path: Path) -> set[str]:
        archive = zipfile.ZipFile(path)
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().partition("\n\n")[0].splitlines()
        return {line for line in lines if line.startswith(("Version:", "Requires-")) and "extra ==" not in line}

    assert asked(wheel) == asked(runtime_wheel)
    assert len(asked(wheel)) == 4


@pytest.mark.slow
def test_a_bare_environment_recommends(bare: Path, tmp_path: Path) -> None:
    bundle = export(random_source(500, 120), tmp_path / "b", precision="int8", verify=False).folder
    code = (
        f"from edgerec import Recommender; print([a.item for a in Recommender.load({str(bundle)!r}).recommend(5, 3)])"
    )
    done = run(bare, "-c", code)
    assert done.returncode == 0, done.stderr
    listed = run(bare, "-m", "pip", "list", "--format", "json")
    packages = {entry["name"] for entry in json.loads(listed.stdout)}
    assert {"edgerec", "numpy", "onnxruntime"} <= packages
    assert not packages & {
        "torch",
        "onnx",
        "scipy",
        "psutil",
        "click",
        "rich",
        "jinja2",
        "matplotlib",
        "cryptography",
        "duckdb",
    }
    assert len(json.loads(done.stdout)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from edgerec.cli import main; main()", "cli"),
        ("import edgerec_export", "export"),
        ("from edgerec import Recommender; Recommender.load('films.bundle', trusted='films.key.pub')", "sign"),
        ("from edgerec.models import backbone; backbone('mf')", "train"),
        ("from edgerec.data import synthetic; synthetic(50, 40, 300).matrix()", "train"),
    ],
)
def test_a_missing_extra_says_the_command_that_mends_it(bare: Path, code: str, extra: str) -> None:
    done = run(bare, "-c", code)
    assert done.returncode != 0
    assert f"pip install 'edgerec[{extra}]'" in done.stderr.splitlines()[-1]

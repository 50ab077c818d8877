"""`make dist` builds the same bytes twice, and packages that are complete, with pages that render."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from types import ModuleType

import pytest

from tests.devices.javascript.parts import node_of, npm_packages
from tests.devices.web import need_programs

ROOT = Path(__file__).parents[2]
LICENSE = (ROOT / "LICENSE").read_bytes()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
URL = SETTINGS["project"]["urls"]["Source"]
NPM_CHECKS = ("publint", "--strict"), ("attw", "--profile", "esm-only")
"""The package is ESM alone, for which Node 18 is old enough: `require` and Node 10 are not checked."""


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dist(out: Path, package: str, **environment: str) -> dict[str, bytes]:
    """Build a package, and return its files."""
    run(sys.executable, ".ci/dist.py", "--out", out, package, **environment)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dist", ROOT / ".ci" / "dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("package", ["edgerec", "runtime", "kernel", "npm"])
def test_two_builds_are_equal_and_what_they_hold_is_in_order(package: str, tmp_path: Path) -> None:
    if package == "npm":
        need_programs("npm", "node")
    first = dist(tmp_path / "first", package)
    # Elsewhere: another time zone, language, scratch folder and mask of permissions, and nothing compiled before.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    elsewhere = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "TMPDIR": str(scratch), "ZIG_LOCAL_CACHE_DIR": str(scratch / "zig")}
    mask = os.umask(0o077)
    try:
        second = dist(tmp_path / "second", package, **elsewhere, ZIG_GLOBAL_CACHE_DIR=str(scratch / "zig"))
    finally:
        os.umask(mask)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    paths = sorted((tmp_path / "first").iterdir())
    assert len(paths) == (2 if package == "edgerec" else 1)
    if package == "npm":
        _check_npm(paths[0])
    else:
        run(sys.executable, "-m", "twine", "check", "--strict", *paths)
        _check_wheel(next(path for path in paths if path.suffix == ".whl"))


def _check_wheel(path: Path) -> None:
    run(sys.executable, "-m", "check_wheel_contents", path)
    archive = zipfile.ZipFile(path)
    contents = {re.sub(r"^[^/]*\.dist-info/", "", name): archive.read(name) for name in archive.namelist()}
    assert contents["licenses/LICENSE"] == LICENSE
    metadata = HeaderParser().parsestr(contents["METADATA"].decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    urls = dict(entry.split(", ") for entry in metadata.get_all("Project-URL", []))
    assert urls == SETTINGS["project"]["urls"]
    # A package page knows no other files: all links are addresses, or places on the page.
    page = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)]*)\)", page) + re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def _check_npm(path: Path) -> None:
    tools = npm_packages("npm-checks", "publint@0.3.25", "@arethetypeswrong/cli@0.18.5")
    for name, *options in NPM_CHECKS:
        run(node_of("22"), tools / ".bin" / name, path, *options)
    with tarfile.open(path) as archive:
        contents = {member.name: archive.extractfile(member) for member in archive}
        licence, package, readme = (contents[f"package/{name}"] for name in ("LICENSE", "package.json", "README.md"))
        assert licence is not None
        assert package is not None
        assert readme is not None
        assert licence.read() == LICENSE
        fields = json.load(package)
        assert fields["repository"] == {"type": "git", "url": f"git+{URL}.git", "directory": "devices/web"}
        links = re.findall(r"\]\(([^)]*)\)", readme.read().decode())
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize(
    ("python", "npm"),
    [("1.2.0", "1.2.0"), ("0.2", "0.2.0"), ("1.2.0rc1", "1.2.0-rc.1"), ("0.1.dev748", "0.1.0-dev.748")],
)
def test_npms_version_is_that_of_the_wheels(tool: ModuleType, python: str, npm: str) -> None:
    assert tool.npm_version(python) == npm


def test_a_version_that_npm_cannot_have_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"npm has no version like 1\.2\.post1: tag another one"):
        tool.npm_version("1.2.post1")


def test_the_distributions_have_one_version_and_the_same_addresses(tmp_path: Path) -> None:
    """By the last tag: in a clone with one, in a clone without, and in files without Git."""
    parts = ["devices/runtime", "devices/kernel/python"]
    for part in parts:
        settings = tomllib.loads((ROOT / part / "pyproject.toml").read_text())
        assert settings["project"]["urls"] == SETTINGS["project"]["urls"]
        for name in ("pyproject.toml", "LICENSE"):
            (tmp_path / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / part / name).write_bytes((ROOT / part / name).read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def versions() -> set[str]:
        command = (sys.executable, "-m", "hatchling", "version")
        places = [tmp_path, *(tmp_path / part for part in parts)]
        return {subprocess.check_output(command, cwd=place, text=True).strip() for place in places}

    def git(*command: str) -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *command], cwd=tmp_path, check=True, capture_output=True)

    assert versions() == {"0.1.dev0"}
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert versions() == {"0.1.dev1"}
    git("tag", "v1.2.0")
    assert versions() == {"1.2.0"}
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert versions() == {"1.2.1.dev1"}

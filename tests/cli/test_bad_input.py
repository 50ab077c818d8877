"""What a user gets wrong is one line on standard error and status 2, and loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import DATA
from tests.conftest import CommandLine

Arguments = Callable[[Path, Path], list[str]]
"""From a fresh folder and the folder of the good and the spoilt bundles to a command's arguments."""


def data(content: str, *more: str) -> Arguments:
    """Train on a file of this content."""

    def make(folder: Path, bundles: Path) -> list[str]:
        (folder / "d.csv").write_text(content)
        return ["train", "d.csv", "--budget", "50%", "--out", "run", *more]

    return make


def call(*arguments: str) -> Arguments:
    """A command whose arguments may name one of the BUNDLES."""
    return lambda folder, bundles: [word.replace("BUNDLES", str(bundles)) for word in arguments]


BAD_INPUT: dict[str, tuple[Arguments, str]] = {
    "empty file": (data(""), "d.csv"),
    "wrong columns": (data("name,colour\na,b\n"), "d.csv"),
    "a malformed line": (data("user,item,rating\n1,2,3\n1,2\n"), "line 3"),
    "a negative id": (data("user,item\n1,2\n-1,2\n"), "line 3"),
    "a NaN rating": (data("user,item,rating\n1,2,3\n1,3,nan\n"), "line 3"),
    "a negative minimum": (call("data", "show", DATA, "--min-user", "-3"), "is not in the range x>=1"),
    "nothing left": (data("user,item\n1,2\n2,3\n", "--min-user", "5"), "lower the minimum"),
    "no such data": (call("train", "no-such", "--budget", "9%", "--out", "run"), "named sets"),
    "a mistyped data set": (call("data", "show", "ml100k"), "synthetic; did you mean 'ml-100k'?"),
    "offline": (call("train", "ml-1m", "--budget", "9%", "--out", "run"), "synthetic"),
    "no budget": (call("train", DATA, "--method", "popularity", "--out", "run"), "--budget"),
    "a budget too small": (call("train", DATA, "--budget", "1KiB", "--out", "run"), "smallest budget is"),
    "no such setting": (call("train", DATA, "--budget", "9%", "--set", "x=1", "--out", "run"), "no setting x"),
    "--mask-at of another backbone": (
        call("train", DATA, "--budget", "9%", "--mask-at", "ego", "--out", "run"),
        "such as lightgcn, not for ials",
    ),
    "--mask-at twice": (
        call(*("train", DATA, "--backbone", "lightgcn", "--mask-at", "ego", "--set", "mask_at=ego", "--out", "run")),
        "give one of them",
    ),
    "no such option": (call("train", DATA, "--speed"), "See 'edgerec train --help'"),
    "no such command": (call("trian", DATA), "there is no command 'trian'; did you mean 'train'?"),
    "a share without its unit": (call("train", DATA, "--budget", "0.1", "--out", "run"), "did you mean 10%?"),
    "a percentage without its unit": (call("train", DATA, "--budget", "9", "--out", "run"), "did you mean 9%?"),
    "a size that may be a count": (call("train", DATA, "--budget", "2M", "--out", "run"), "did you mean '2MiB'"),
    "a size without a number": (call("export", "BUNDLES/run", "--out", "b", "--max-bytes", "MiB"), "powers of 1024"),
    "no such choice": (call("tune", DATA, "--method", "popular"), "'popular' is not one of"),
    "no argument": (call("grid"), "PLAN.toml"),
    "an argument too many": (call("tune", DATA, "--budget", "10", "%"), "unexpected extra argument (%)"),
    "no plan": (call("grid", "plan.tml"), "plan.tml: No such file or directory; check the name"),
    "a bundle to report": (call("report", "BUNDLES/good"), "is a bundle; measure it first: edgerec bench "),
    "a bundle for a result": (call("compare", "BUNDLES/good", "r.json"), "is a folder; give a file"),
    "no run to report": (call("report", "absent"), "absent does not exist; name a run's folder"),
    "shares that sum to more": (
        call("train", DATA, "--budget", "9%", "--split", "random:80/30", "--out", "run"),
        "no split 'random:80/30'; expected random:80/20",
    ),
    "no run": (call("export", "absent", "--out", "b"), "no run"),
    "export measured on other data": (
        call("export", "BUNDLES/run", "--out", "BUNDLES/good", "--data", DATA + "@7"),
        "give the same columns and filters",
    ),
    "a filter without data": (call("export", "BUNDLES/run", "--out", "b", "--min-user", "2"), "give --data too"),
    "bytes too few": (call("export", "BUNDLES/run", "--out", "b", "--max-bytes", "100"), "allows is"),
    "recommend from other data": (
        call("recommend", "BUNDLES/good", "--user", "5", "--data", DATA + "@7"),
        "the fingerprints differ",
    ),
    "two ways to say who asks": (
        call("recommend", "BUNDLES/good", "--user", "5", "--history", "3"),
        "give one of them",
    ),
    "nobody to recommend to": (call("recommend", "BUNDLES/good"), "recommending needs a user; give --user"),
    "a history beside data": (call("recommend", "BUNDLES/good", "--history", "3", "--data", DATA), "needs --user"),
    "filters of no data": (call("recommend", "BUNDLES/good", "--user", "5", "--min-item", "2"), "give --data"),
    "a user of too many digits": (call("recommend", "BUNDLES/good", "--user", "9" * 5000), "not among"),
    "an item of too many digits": (call("similar", "BUNDLES/good", "9" * 5000), "not among"),
    "a map inside the bundle": (
        call("export", "BUNDLES/run", "--out", "b", "--id-map", "b/map.csv"),
        "another --id-map",
    ),
    "a rarity of users": (
        call("recommend", "BUNDLES/good", "--user", "5", "--rarity", "1"),
        "not say which items are rare",
    ),
    "a rarity of a run": (call("evaluate", "BUNDLES/run", "--data", DATA, "--rarity", "1"), "export the run"),
    "a rarity of popular items": (call("recommend", "BUNDLES/good", "--popular", "--rarity", "1"), "leave it out"),
    "too large a rarity": (call("recommend", "BUNDLES/good", "--user", "5", "--rarity", "3"), "-2<=x<=2"),
    "unknown user": (call("recommend", "BUNDLES/good", "--user", "99999"), "99999"),
    "k too large": (call("recommend", "BUNDLES/good", "--user", "5", "-k", "5000"), "1..200"),
    "a cut tables file": (call("recommend", "BUNDLES/cut", "--user", "5"), "tables-"),
    "a wrong sha256": (call("recommend", "BUNDLES/altered", "--user", "5"), "sha256 differs"),
    "a full disk": (call("export", "BUNDLES/run", "--out", "BUNDLES/disk/b"), "No space left"),
    "training to a full disk": (
        call("train", DATA, "--backbone", "mf", "--budget", "50%", "--out", "BUNDLES/disk/run"),
        "No space left",
    ),
    "a folder that cannot be written": (call("export", "BUNDLES/run", "--out", "/proc/b"), "cannot write"),
}


@pytest.fixture(scope="module")
def bundles(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A good bundle and its run, a cut and an altered copy, and a disk of 8 KiB."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, origin in (("run", "ials"), ("good", "ials.bundle"), ("cut", "ials.bundle"), ("altered", "ials.bundle")):
        shutil.copytree(place / origin, folder / name)
    for name, end in (("cut", b""), ("altered", b"!")):
        (path,) = (folder / name).glob("tables-*.bin")
        path.write_bytes(path.read_bytes()[:-1] + end)
    (folder / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder / "disk")]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder / "disk")], check=True)


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_is_one_line_status_2_and_loses_nothing(
    case: str, bundles: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEREC_OFFLINE", "1")
    monkeypatch.setenv("EDGEREC_DATA", str(tmp_path / "cache"))
    if "disk" in case and not os.path.ismount(bundles / "disk"):
        pytest.skip("a tmpfs cannot be mounted here: needs root")
    arguments, expected = BAD_INPUT[case]
    command = arguments(tmp_path, bundles)
    before = snapshot(bundles)
    done = command_line(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert snapshot(bundles) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"d.csv", "cache"}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

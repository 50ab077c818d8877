"""What killed processes were writing is removed by the next that writes there; what live ones write is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgerec.files import atomic_write, new_part_folder, write_bytes
from edgerec.signatures import new_key
from edgerec.training import Run
from edgerec_export import Source, diff, export
from tests.conftest import random_source

WRITES = """
import os, signal, sys
from pathlib import Path
from edgerec.files import atomic_write, new_part_folder
target = Path(sys.argv[1])
if sys.argv[2] == "file":
    with atomic_write(target) as stream:
        stream.write(b"half")
        stream.flush()
        print("writes", flush=True)
        sys.stdin.read(1)
        os.kill(os.getpid(), signal.SIGKILL)
else:
    with new_part_folder(target) as folder:
        (folder / "half").write_bytes(b"half")
        print("writes", flush=True)
        sys.stdin.read(1)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def writing(target: Path, kind: str) -> Iterator[Path]:
    """A process that writes `target` while the block runs; killed then. Gives what it writes to for now."""
    before = parts(target.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(target), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "writes\n"
        (made,) = parts(target.parent) - before
        yield made
        process.stdin.write("x")
    assert process.returncode == -signal.SIGKILL
    assert made.exists()


def parts(folder: Path) -> set[Path]:
    return set(folder.glob(".*.part"))


def test_a_killed_writer_leaves_nothing_for_long_and_a_live_one_is_not_disturbed(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with writing(target, "file") as dead:
        pass
    with writing(target, "file") as live:
        assert not dead.exists()
        with writing(tmp_path / "other.json", "file") as other:
            pass
        write_bytes(target, b"whole")
        assert parts(tmp_path) == {live, other}
    write_bytes(target, b"again")
    assert parts(tmp_path) == {other}
    with atomic_write(target) as stream:
        stream.write(b"outer")
        write_bytes(target, b"inner")
    assert target.read_bytes() == b"outer"


def test_the_next_export_removes_a_killed_ones(tmp_path: Path) -> None:
    source, place = random_source(40, 20), tmp_path / "films.bundle"
    with writing(place, "folder") as dead:
        pass
    stranger = tmp_path / ".films.bundle.part"
    stranger.mkdir()
    with writing(place, "folder") as live:
        export(source, place, verify=False)
        assert not dead.exists()
        assert (live / "half").read_bytes() == b"half"
        assert parts(tmp_path) == {live, stranger}


def test_patches_keys_and_runs_are_no_exception(tmp_path: Path, source: Source, run: Run) -> None:
    export(source, tmp_path / "old", verify=False)
    export(random_source(500, 120, seed=1), tmp_path / "new", verify=False)
    for name in ("p.patch", "k", "run/ids.npz", "run/users.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with writing(tmp_path / name, "file"):
            pass
    diff(tmp_path / "old", tmp_path / "new", tmp_path / "p.patch")
    pytest.importorskip("cryptography")
    new_key(tmp_path / "k")
    run.save(tmp_path / "run")
    assert parts(tmp_path) | parts(tmp_path / "run") == set()


@pytest.fixture(scope="module")
def run() -> Run:
    from edgerec import train
    from edgerec.data import synthetic

    return train(synthetic(60, 40, 900), backbone="ials", budget="50%", dimensions=8)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_a_link_with_such_a_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine").touch()
    (tmp_path / ".b.0123abcd.part").symlink_to(victim)
    with new_part_folder(tmp_path / "b"):
        pass
    export(random_source(40, 20), tmp_path / "b", verify=False)
    assert (victim / "mine").exists()

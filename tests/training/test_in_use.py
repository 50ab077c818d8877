"""A command that writes several files into a folder is alone there: a second one is refused by name, or waits.

A wait is for what is short, such as a download.

A lock belongs to an open file, not to a process: a call inside another's callback is kept out as a second process is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgerec
from edgerec import files
from edgerec.cli.app import run as call
from edgerec.data import Interactions, NamedSet, synthetic
from edgerec.data.folders import write_folder
from edgerec.data.named import load_named
from edgerec.data.readers import Reading
from edgerec.errors import InUseError, RunError, StorageError
from edgerec.files import filling, writing
from edgerec.tables import save_table
from edgerec.training import Run
from edgerec.training import run as run_module
from edgerec.tune import Study, tune
from edgerec_devices.web.static_site import write_site

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")

SMALL: dict[str, Any] = {"backbone": "ials", "budget": "50%", "dimensions": 4}


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(n_users=60, n_items=40, n=900, seed=1)


@pytest.fixture
def run(data: Interactions) -> Run:
    return edgerec.train(data, **SMALL)


def inside(second: Callable[[], object], refusals: list[str]) -> Callable[..., None]:
    """A callback that calls `second` once, which is to be refused."""

    def callback(*step: object) -> None:
        if not refusals:
            with pytest.raises(InUseError) as caught:
                second()
            refusals.append(str(caught.value))

    return callback


def test_a_second_training_into_a_folder_is_refused_at_once_and_the_first_one_is_whole(
    data: Interactions, tmp_path: Path
) -> None:
    out, refusals = tmp_path / "run", list[str]()
    other = synthetic(n_users=50, n_items=30, n=700, seed=2)
    again = inside(lambda: edgerec.train(other, out=out, overwrite=True, **SMALL), refusals)
    first = edgerec.train(data, out=out, progress=again, **SMALL)
    assert refusals == [f"{out} is being written by another process; wait for it to end, or choose another place"]
    kept = Run.load(out)
    assert kept.items.n_rows == len(kept.item_ids) == data.n_items
    assert kept.data_fingerprint == first.data_fingerprint
    edgerec.train(other, out=out, overwrite=True, **SMALL)  # the first one has ended


def test_a_second_stream_into_a_folder_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = np.arange(900)
    users, items = rng.integers(0, 10 + numbers // 20), rng.integers(0, 10 + numbers // 30)
    data, refusals = Interactions.from_pairs(users, items, timestamps=numbers), list[str]()
    wanted: dict[str, Any] = {**SMALL, "method": "uniform", "segments": "2", "out": tmp_path / "stream"}
    again = inside(lambda: edgerec.train_stream(data, overwrite=True, **wanted), refusals)
    assert edgerec.train_stream(data, progress=again, **wanted).done
    assert len(refusals) == 1


def test_a_second_study_in_a_file_is_refused_and_no_trial_is_lost(data: Interactions, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    out, refusals = tmp_path / "study.json", list[str]()
    again = inside(lambda: tune(data, trials=2, out=out, **SMALL), refusals)
    study = tune(data, trials=2, out=out, progress=again, **SMALL)
    assert len(refusals) == 1
    assert str(out) in refusals[0]
    assert len(study.trials) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    assert isinstance(tune(data, trials=2, out=out, **SMALL), Study)


def test_a_run_is_not_saved_into_a_folder_that_another_process_fills(run: Run, tmp_path: Path) -> None:
    with filling(tmp_path), pytest.raises(InUseError, match=str(tmp_path)):
        run.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_site_is_not_written_into_a_folder_that_another_process_fills(tmp_path: Path) -> None:
    with filling(tmp_path), pytest.raises(InUseError, match=str(tmp_path)):
        write_site({"index.html": b"x"}, tmp_path)


def test_fold_in_is_refused_before_its_work_where_save_is_in_use(tmp_path: Path) -> None:
    save = tmp_path / "saved"
    with filling(save), pytest.raises(InUseError, match=str(save)):
        call(["fold-in", "absent", "absent.csv", "--run", "absent", "--out", str(tmp_path / "p"), "--save", str(save)])


@pytest.mark.parametrize("given", ["absent", "there"])
def test_a_refused_command_leaves_no_folder_behind_and_removes_none(given: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="no run"):
        Run.load(tmp_path / "none")
    with pytest.raises(RunError), filling(tmp_path / given / ("a/b" if given == "absent" else "")):
        raise RunError("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_data_set_that_another_process_fetches_is_waited_for_and_not_fetched_again(
    data: Interactions, tmp_path: Path
) -> None:
    entry = NamedSet("tiny", data.n_users, data.n_items, len(data), "none", "none")
    lines, other = list[str](), ExitStack()
    other.enter_context(filling(tmp_path / "tiny"))

    def progress(line: str) -> None:
        lines.append(line)
        if "waiting" in line:
            write_folder(tmp_path / "tiny", data, {})
            other.close()

    got, _ = load_named(entry, tmp_path, mirror="", offline=False, reading=Reading(tell=progress))
    assert got.fingerprint() == data.fingerprint()
    assert lines[1:] == ["tiny: waiting for another process to fetch it"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom edgerec.files import filling, writing\n"
        "with filling(Path(sys.argv[1])), writing(Path(sys.argv[2])):\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    folder, file = tmp_path / "f", tmp_path / "study.json"
    with subprocess.Popen([sys.executable, "-c", code, folder, file], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for taken in (filling(folder), writing(file)):
            with pytest.raises(InUseError), taken:
                pytest.fail("two processes fill one place")
        process.send_signal(signal.SIGKILL)
    with filling(folder), writing(file):
        pass


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened = tmp_path / "f", os.open

    def removed_by_another(path: Path, *flags: int) -> int:
        handle = opened(path, *flags)
        monkeypatch.undo()
        folder.rmdir()
        return handle

    monkeypatch.setattr(files.os, "open", removed_by_another)
    with filling(folder):
        (folder / "x").touch()
        with pytest.raises(InUseError), filling(folder):
            pytest.fail("two have locked one name")


def test_items_of_one_run_with_users_or_ids_of_another_are_refused(
    data: Interactions, run: Run, tmp_path: Path
) -> None:
    other = edgerec.train(synthetic(n_users=60, n_items=30, n=700, seed=2), **{**SMALL, "dimensions": 8})
    assert run.users is not None
    assert other.users is not None
    for name, table in (("items", other.items), ("users", other.users)):
        run.save(tmp_path)
        save_table(table, tmp_path / f"{name}.npz")
        with pytest.raises(RunError, match="damaged"):
            Run.load(tmp_path)


def test_a_run_that_is_replaced_while_it_is_read_is_not_mixed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save(tmp_path)
    other = replace(run, item_ids=run.item_ids[::-1])
    load_arrays = run_module.load_arrays

    def replaced(path: Path) -> dict[str, Any]:
        monkeypatch.undo()
        arrays = load_arrays(path)
        other.save(tmp_path)
        return arrays

    monkeypatch.setattr(run_module, "load_arrays", replaced)
    with pytest.raises(RunError, match="replaced while it was read"):
        Run.load(tmp_path)
    assert Run.load(tmp_path).item_ids.tolist() == other.item_ids.tolist()


def test_a_place_that_cannot_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("n" * 300, "a\0b", "\ud800", "loop", "loop/x"):
        for use in (filling, writing):
            with pytest.raises(StorageError), use(tmp_path / name / "x"):
                pytest.fail("there is no such place")

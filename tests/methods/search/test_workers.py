"""Workers: the same answers whoever makes them, errors that come back, and nobody left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgerec.errors import DataError, UnsupportedError, WorkerError
from edgerec.methods.search.workers import Processes, parse_workers, pool
from tests.methods.search.tasks import die, product, refuse, stumble


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_each_answer_has_its_tasks_number(workers: int | None) -> None:
    with pool(workers, product, 3) as made:
        for tasks in ([1, 2, 3, 4, 5, 6, 7], [], [8]):
            answers = {number: value for number, (value, _) in made.answers(tasks)}
            assert answers == {number: 3 * task for number, task in enumerate(tasks)}


def test_processes_are_others_and_stay_for_the_next_tasks() -> None:
    with pool(2, product, 1) as made:
        first, second = ({process for _, (_, process) in made.answers(range(6))} for _ in range(2))
        assert os.getpid() not in first
        assert len(first) == 2
        assert second <= first
    assert not multiprocessing.active_children()


def test_no_more_processes_are_started_than_there_are_tasks() -> None:
    with pool(8, product, 1) as made:
        list(made.answers([1]))
        assert len(multiprocessing.active_children()) == 1


@pytest.mark.parametrize("workers", [None, 2])
def test_a_users_error_comes_back_as_it_is(workers: int | None) -> None:
    with pool(workers, refuse, None) as made, pytest.raises(DataError, match="the third is refused"):
        list(made.answers([0, 1, 2, 3]))


def test_other_errors_and_deaths_are_named() -> None:
    with pool(2, stumble, None) as made, pytest.raises(WorkerError, match="nothing to divide by"):
        list(made.answers([0]))
    with pool(2, die, None) as made, pytest.raises(WorkerError, match=r"killed by SIGKILL.*fewer --workers"):
        list(made.answers([0, 1, 2]))
    assert not multiprocessing.active_children()


def test_workers_that_still_start_do_not_see_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Processes._start

    def interrupted(self: Processes) -> None:
        start(self)
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGINT)

    monkeypatch.setattr(Processes, "_start", interrupted)
    with pool(2, product, 3) as made:
        assert {number: value for number, (value, _) in made.answers([1, 2])} == {0: 3, 1: 6}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("text", ["0", "-1", "two", "ray://host", "rays", "ray://host:port", ""])
def test_what_are_no_workers_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match="ray://HOST:PORT"):
        parse_workers(text)


def test_workers_are_read_as_typed() -> None:
    assert [parse_workers(text) for text in ("1", "16", "ray", "ray://host:10001")] == [
        1,
        16,
        "ray",
        "ray://host:10001",
    ]


SCRIPT = """
import sys
from edgerec.methods.search.workers import pool
from tests.methods.search.tasks import product

if __name__ == "__main__":
    with pool(2, product, 1) as made:
        print(*{process for _, (_, process) in made.answers(range(4))}, flush=True)
        sys.stdin.read()
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        children = [int(number) for number in parent.stdout.readline().split()]
        assert len(children) == 2
        assert all(running(child) for child in children)
        parent.kill()
    deadline = time.monotonic() + 20
    while any(running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(child) for child in children)


def running(process: int) -> bool:
    """Whether the process is there, and no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

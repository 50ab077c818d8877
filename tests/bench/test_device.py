"""The local device: a fresh process a request, and every way that one can fail is a BenchError of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices import Local


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a stand-in agent module that a test writes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(Local, "program", ("-P", "-m", "stand_in"))
    return tmp_path / "stand_in.py"


def test_the_real_agent_says_which_tasks_it_knows() -> None:
    with pytest.raises(BenchError, match="the agent knows no task 'dance'; it knows: bundle, bare"):
        Local().run({"task": "dance"})


def test_telemetry_is_off_and_the_request_arrives(agent: Path) -> None:
    agent.write_text(
        "import json, os, sys\n"
        "json.dump({'asked': json.load(sys.stdin), 'off': os.environ['ORT_DISABLE_TELEMETRY']}, sys.stdout)"
    )
    assert Local().run({"k": 3}) == {"asked": {"k": 3}, "off": "1"}


def test_a_crash_ends_with_its_last_line(agent: Path) -> None:
    agent.write_text("raise ValueError('the table is upside down')")
    with pytest.raises(BenchError, match=r"failed: ValueError: the table is upside down$"):
        Local().run({})


def test_a_killed_process_is_named(agent: Path) -> None:
    agent.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DoesNotFitError, match="SIGKILL, as systems do when memory runs out"):
        Local().run({})


@pytest.mark.parametrize(
    "words", ["raise MemoryError", "import sys; sys.exit('std::bad_alloc')", "import sys; sys.exit(137)"]
)
def test_a_process_without_memory_does_not_fit(agent: Path, words: str) -> None:
    agent.write_text(words)
    with pytest.raises(DoesNotFitError, match="memory"):
        Local().run({})


def test_a_process_that_takes_too_long_is_stopped(agent: Path) -> None:
    agent.write_text("import time; time.sleep(60)")
    with pytest.raises(BenchError, match=r"longer than 0\.2 s"):
        Local(timeout=0.2).run({})


@pytest.mark.parametrize("said", ["", "hello", "[1]"])
def test_an_answer_that_is_no_object_is_refused(agent: Path, said: str) -> None:
    agent.write_text(f"print({said!r}, end='')")
    with pytest.raises(BenchError, match="no JSON object"):
        Local().run({})


def test_push_and_pull_leave_files_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a").write_text("1")
    place = Local().push(folder)
    assert Path(place) == folder.resolve()
    Local().pull(place, folder)
    Local().pull(place, tmp_path / "copy")
    assert (tmp_path / "copy" / "a").read_text() == "1"


def test_info_leaves_out_what_it_does_not_know() -> None:
    info = Local().info()
    assert {"architecture", "cores", "python", "onnxruntime"} <= set(info)
    assert None not in info.values()

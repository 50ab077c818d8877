"""A device behind a real sshd: the same answers as here, nothing sent twice, and one line for all that can be wrong."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec.runtime.memory import memory_kib
from edgerec_bench import read_results
from edgerec_devices import Local, Ssh
from edgerec_devices.ssh.connection import NoAnswerError
from tests.conftest import CommandLine, interrupted
from tests.devices.conftest import Server, awaited, client, one_line, write_script

QUICK = ("--processes", "2", "--calls", "10", "--seconds", "0")
QUESTION = {"task": "bundle", "calls": 5, "seconds": 0, "k": 10, "exclude": 5, "history": 5, "threads": 1, "seed": 0}


def test_answers_are_those_of_this_machine(server: Server, bundle: Path) -> None:
    here = Local()
    asked = {**QUESTION, "ask": [0, 2, 3, 39]}
    with Ssh(server.address) as there:
        far = there.run({**asked, "bundle": there.push(bundle)})
    near = here.run({**asked, "bundle": here.push(bundle)})
    assert far["answers"] == near["answers"]
    assert far["scenarios"].keys() == near["scenarios"].keys()
    assert far["memory"].keys() == near["memory"].keys()


def test_the_second_run_sends_and_makes_nothing(server: Server, bundle: Path) -> None:
    def run(told: list[str]) -> None:
        with Ssh(server.address, tell=told.append) as device:
            device.push(bundle)
            assert device.run({"task": "bare", "threads": 1})["memory"].keys() == memory_kib().keys() | {
                *("Pss", "Pss_Anon", "Pss_File")
            }

    first: list[str] = []
    run(first)
    before, told = server.files(), list[str]()
    run(told)
    assert told == [f"connecting to {server.address}"]
    assert server.files() == before
    assert not server.leftovers()


@pytest.mark.slow
def test_bench_compare_and_report(server: Server, bundle: Path, command_line: CommandLine, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        done = command_line("bench", bundle, *QUICK, "--device", server.address, "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (result,) = read_results(tmp_path / "a.json")
    assert f"--device {server.address}" in result.to_json()["command"]
    assert result.device["cores"] == os.cpu_count()
    compared = command_line("compare", "a.json", "b.json", "--json", cwd=tmp_path)
    assert json.loads(compared.stdout)["comparisons"][0]["base"] == "films.bundle"
    reported = command_line("report", "a.json", "b.json", "--out", "r.html", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert result.device["onnxruntime"] in (tmp_path / "r.html").read_text()


def test_a_check_measures_a_bundle_there(server: Server, command_line: CommandLine) -> None:
    done = command_line("devices", "check", server.address, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[-1]["found"].endswith("the device returns this machine's recommendations")


def test_what_it_is_is_what_this_machine_is(server: Server) -> None:
    """Of the Python there, which is another."""
    changing = {"python", "memory_available_bytes", "mhz", "temperature_c", "clocks", "usable_cores"}
    with Ssh(server.address) as device:
        far, near = device.info(), Local().info()
    assert {name: far[name] for name in far.keys() - changing} == {name: near[name] for name in near.keys() - changing}


def test_files_come_back(server: Server, bundle: Path, tmp_path: Path) -> None:
    with Ssh(server.address) as device:
        device.pull(device.push(bundle), tmp_path)
        with pytest.raises(BenchError, match=r"no folder .*nowhere on the device"):
            device.pull("nowhere", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }


def test_only_what_is_missing_or_damaged_is_sent(server: Server, bundle: Path, tmp_path: Path) -> None:
    server.force(cache=tmp_path)
    told: list[str] = []
    with Ssh(server.address, tell=told.append) as device:
        place = Path(device.push(bundle))
        (card,) = place.glob("README-*")
        card.write_text("what a failing card made of it")
        (tables,) = place.glob("tables-*")
        tables.unlink()
        assert Path(device.push(bundle)) == place
    assert [line.partition(",")[0] for line in told] == [
        f"connecting to {server.address}",
        f"sending {len(list(bundle.iterdir()))} files",
        "sending 2 files",
    ]
    assert card.read_bytes() == (bundle / card.name).read_bytes()


@pytest.mark.slow
def test_a_device_without_internet_gets_its_wheels_from_here(server: Server, bundle: Path, tmp_path: Path) -> None:
    # No index can be reached from there: the proxy of every request is a closed port.
    server.force(cache=tmp_path, around="PIP_CONFIG_FILE=/dev/null PIP_PROXY=http://127.0.0.1:1")
    with (
        Ssh(server.address) as device,
        pytest.raises(BenchError, match="the device reaches no package index; connect it, or give --offline"),
    ):
        device.info()
    with Ssh(server.address, offline=True) as device:
        assert device.run({"task": "bare", "threads": 1})["memory"]
    told: list[str] = []
    with Ssh(server.address, offline=True, tell=told.append) as device:
        device.info()
    assert told == [f"connecting to {server.address}"]
    assert not list(server.kept.rglob("*.whl"))
    assert not server.leftovers()


def test_a_closed_port_and_an_unknown_name(server: Server, bundle: Path, command_line: CommandLine) -> None:
    refused = one_line(command_line("bench", bundle, "--device", "ssh://127.0.0.1:1"))
    assert "cannot be reached (connect to host 127.0.0.1 port 1: Connection refused)" in refused
    unknown = one_line(command_line("bench", bundle, "--device", "ssh://device.invalid"))
    assert "cannot be reached (Could not resolve hostname device.invalid" in unknown


def test_a_key_that_is_not_accepted(server: Server, bundle: Path, command_line: CommandLine) -> None:
    client(server, key="stranger")
    line = one_line(command_line("bench", bundle, "--device", server.address))
    assert "permission denied: the device accepts none of your keys; install one: ssh-copy-id -p" in line


def test_a_host_that_is_unknown_and_one_that_changed(server: Server, bundle: Path) -> None:
    known = server.folder / "known_hosts"
    known.write_text("")
    with (
        Ssh(server.address) as device,
        pytest.raises(BenchError, match=rf"unknown here.*ssh-keyscan -p {server.port} "),
    ):
        device.push(bundle)
    known.write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'stranger.pub').read_text()}")
    with Ssh(server.address) as device, pytest.raises(BenchError, match=r"another than before.*ssh-keygen -R '\["):
        device.push(bundle)


def test_no_python3_there(server: Server, bundle: Path, tmp_path: Path) -> None:
    server.force(path=str(tmp_path))
    with (
        Ssh(server.address) as device,
        pytest.raises(BenchError, match=r"no python3 on its PATH; .*apt install python3"),
    ):
        device.push(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "sys.version_info = (3, 9, 2); sys.version = '3.9.2 (default)'",
            "its python3 is 3.9.2, and EdgeRec needs 3.11",
        ),
        ("sys.modules['ensurepip'] = None", "has no ensurepip; on the device: sudo apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do(server: Server, tmp_path: Path, change: str, said: str) -> None:
    """The python3 of this machine, changed as it starts: called with -I -c CODE."""
    real = "/usr/bin/env PATH=/usr/bin:/bin python3"
    write_script(tmp_path / "python3", f'exec {real} -I -c "import sys; {change}; exec(sys.argv[1])" "$3"')
    server.force(cache=tmp_path / "cache", path=f"{tmp_path}:/usr/bin:/bin")
    with Ssh(server.address) as device, pytest.raises(BenchError, match=said):
        device.info()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
def test_a_full_device(server: Server, large: Path, tmp_path: Path) -> None:
    # A mount that only this login sees.
    mount = f"/usr/bin/unshare -m /bin/sh -c 'mount -t tmpfs -o size=64m none {tmp_path} && exec \"$@\"' sh"
    server.force(cache=tmp_path, around=mount)
    with Ssh(server.address) as device, pytest.raises(BenchError, match=r"no space on the device: 272 MiB are needed"):
        device.push(large)


def test_ctrl_c_while_files_are_sent_leaves_none(server: Server, tmp_path: Path, large: Path, bundle: Path) -> None:
    server.force(cache=tmp_path)
    heavy = tmp_path / "heavy.bundle"
    heavy.mkdir()
    for path in [*bundle.iterdir(), *large.iterdir()]:
        (heavy / path.name).hardlink_to(path)
    done = interrupted(["bench", heavy, "--device", server.address], lambda: bool(server.leftovers()))
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert awaited(lambda: not server.leftovers())
    assert not list(server.kept.rglob("tables.bin"))


def test_ctrl_c_stops_the_process_there(server: Server, bundle: Path) -> None:
    words = ["bench", bundle, "--device", server.address, "--seconds", "600"]
    done = interrupted(words, lambda: bool(server.measuring()))
    assert done.returncode == 130, done.stderr
    assert awaited(lambda: not server.measuring())
    assert not server.leftovers()


@pytest.mark.slow
def test_a_process_that_takes_too_long_is_stopped_there(server: Server, bundle: Path) -> None:
    with Ssh(server.address, timeout=2) as device:
        request = {**QUESTION, "bundle": device.push(bundle), "seconds": 600}
        with pytest.raises(BenchError, match="longer than 2 s"):
            device.run(request)
    assert awaited(lambda: not server.measuring())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_transfer_that_stands_still_is_given_up(server: Server, large: Path, tmp_path: Path, verb: str) -> None:
    """The far end does nothing where it would touch the files, as one whose card is failing; sshd goes on."""
    stuck = {"put": "hashlib.sha256", "get": "shutil.copyfileobj"}[verb]
    change = f"import hashlib, shutil, time; {stuck} = lambda *_: time.sleep(60)"
    real = "/usr/bin/env PATH=/usr/bin:/bin python3"
    write_script(tmp_path / "python3", f'exec {real} -I -c "import sys; {change}; exec(sys.argv[1])" "$3"')
    with Ssh(server.address) as device:
        place = device.push(large)
    server.force(cache=server.cache if verb == "get" else tmp_path, path=f"{tmp_path}:/usr/bin:/bin")
    with Ssh(server.address, timeout=1) as device:
        device.patience = 9  # for a login on a machine that has more to do
        with pytest.raises(NoAnswerError, match="gave no answer for 10 s; is the device alive"):
            device.push(large) if verb == "put" else device.pull(place, tmp_path / "back")
    assert not list(tmp_path.rglob("tables.bin"))


def test_a_link_that_drops(server: Server, bundle: Path) -> None:
    """The connection's own sshd is killed, as a device that loses its power ends it."""

    def cut() -> None:
        awaited(server.measuring)
        children = Path(f"/proc/{server.sshd.pid}/task/{server.sshd.pid}/children").read_text().split()
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)

    with Ssh(server.address) as device:
        request = {**QUESTION, "bundle": device.push(bundle), "seconds": 600}
        device.info()
        cutting = threading.Thread(target=cut)
        cutting.start()
        with pytest.raises(BenchError, match="the connection was lost"):
            device.run(request)
        cutting.join()
    assert awaited(lambda: not server.measuring())


def test_a_damaged_bundle_is_told_by_the_agent(server: Server, bundle: Path, tmp_path: Path) -> None:
    with Ssh(server.address) as device:
        place = device.push(tmp_path)  # an empty folder
        with pytest.raises(BenchError, match=r"the measuring process failed: .* is no bundle"):
            device.run({**QUESTION, "bundle": place})


@pytest.mark.slow
def test_a_damaged_agent_is_sent_anew(server: Server) -> None:
    with Ssh(server.address) as device:
        device.info()
    (agent,) = (server.kept / "agents").iterdir()
    content = agent.read_bytes()
    agent.write_bytes(content[:1000])
    told: list[str] = []
    with Ssh(server.address, tell=told.append) as device:
        assert device.run({"task": "bare", "threads": 1})["memory"]
    assert [line.partition(",")[0] for line in told[1:]] == ["sending 1 file"]
    assert agent.read_bytes() == content


@pytest.mark.slow
def test_an_environment_of_another_version_is_not_used(server: Server) -> None:
    """It is made anew; here, where no index can be reached, that is refused."""
    with Ssh(server.address) as device:
        version = device.info()["onnxruntime"]
    (metadata,) = (server.kept / "environments").glob("*/lib/*/site-packages/onnxruntime-*.dist-info/METADATA")
    right = metadata.read_text()
    metadata.write_text(right.replace(f"\nVersion: {version}\n", "\nVersion: 1.0\n"))
    server.force(around="PIP_CONFIG_FILE=/dev/null PIP_PROXY=http://127.0.0.1:1")
    try:
        with Ssh(server.address) as device, pytest.raises(BenchError, match="the device reaches no package index"):
            device.info()
    finally:
        metadata.write_text(right)
    with Ssh(server.address) as device:
        assert device.info()["onnxruntime"] == version
    assert not server.leftovers()


def test_what_a_loss_of_power_left_is_removed(server: Server, bundle: Path) -> None:
    left = server.kept / "parts" / "4194305-half"  # no process has so high a number
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half a bundle")
    with Ssh(server.address) as device:
        device.push(bundle)
    assert not left.exists()

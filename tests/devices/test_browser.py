"""Headless Chromium as a device: real measurements, nothing that leaves the machine, and all that can go wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest

from edgerec.errors import BenchError, DoesNotFitError
from edgerec.runtime import Recommender
from edgerec_bench import read_results
from edgerec_devices import open_device
from edgerec_devices.web import chromium
from edgerec_devices.web import files as web_files
from edgerec_devices.web.browser import Address, Browser
from edgerec_devices.web.server import OTHER, OVER, WebServer
from tests.conftest import CommandLine
from tests.devices.conftest import awaited
from tests.devices.netlog import log_flags, requested
from tests.devices.web import BUNDLES, QUICK, benched, large_bundle, need, questions

MIXED = BUNDLES / "mixed-fp32-users"
ONCE: dict[str, Any] = {**QUICK, "task": "bundle", "scenarios": ["recommend"]}
LONG = {**ONCE, "seconds": 600}


@pytest.fixture(scope="module")
def ready() -> None:
    need("chromium")


@pytest.fixture
def browser(ready: None) -> Iterator[Browser]:
    with Browser() as device:
        yield device


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed-fp32-users", "csc-int8-ials"])
def test_a_real_bench(browser: Browser, name: str) -> None:
    result = benched(browser, name)
    (process,) = result.measured.processes
    for figure in ("wasm_heap", "page"):
        assert process.memory[figure] >= process.bare[figure] > 0
    assert process.verify_ms is not None
    device = result.device
    assert (device["runtime"], device["provider"], device["ort_telemetry"]) == ("browser", "wasm", "off")
    assert device["onnxruntime"] == web_files.version()
    assert device["browser"].startswith("Chrom")
    assert device["cross_origin_isolated"] is True
    assert 0 < device["clock_ns"] <= 20_000
    assert device["cores"] == os.cpu_count()
    assert "cpu" in device


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csc-int4-users", "mixed-int8-linear"])
def test_answers_are_those_of_the_vectors(browser: Browser, name: str) -> None:
    asked = list(questions(name))
    place = browser.push(BUNDLES / name)
    told = browser.run(
        {"task": "answers", "questions": [{**question.asked, "bundle": place} for question in asked], "threads": 2}
    )
    failures = [question.failure(answer) for question, answer in zip(asked, told["answers"], strict=True)]
    assert failures == [None] * len(asked)


def test_nothing_leaves_this_machine_and_the_console_is_silent(ready: None, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    with Browser(flags=log_flags(log)) as device:
        answer = device.run({**ONCE, "bundle": device.push(MIXED), "ask": [0, 7]})
        served, address = list(device.server.log), device.server.address
    expected, _ = Recommender.load(MIXED).recommend_rows({"user": np.array([0, 7])}, np.empty((2, 0)), 10)
    assert answer["rows"] == expected.tolist()
    assert "complaints" not in answer
    assert not [path for path in served if path.startswith("!")]
    asked = [url.removeprefix(address).partition("?")[0] for url in requested(log)]
    assert {"worker.mjs", "ort/ort-wasm-simd-threaded.wasm", "bundles/0/manifest.json", "answer"} <= set(asked)
    assert set(asked) <= set(served)


@pytest.mark.slow
def test_webgpu_answers_alike(ready: None) -> None:
    """By SwiftShader where there is no graphics processor: right or wrong is told, not how fast."""
    asked = [question for question in questions(MIXED.name) if question.request["call"] == "recommend"]
    with Browser("browser:webgpu", flags=["--use-webgpu-adapter=swiftshader"]) as device:
        place = device.push(MIXED)
        told = device.run({"task": "answers", "questions": [{**question.asked, "bundle": place} for question in asked]})
        failures = [question.failure(answer) for question, answer in zip(asked, told["answers"], strict=True)]
        assert failures == [None] * len(asked)
        facts = device.info()
        with pytest.raises(
            BenchError, match=r"cannot do this with WebGPU here \(.*f16.*\); measure with --device browser"
        ):
            device.run({**ONCE, "bundle": device.push(BUNDLES / "mixed-fp16-users")})
    assert facts["provider"] == "webgpu"
    assert facts["webgpu"] == "google swiftshader"


def test_a_page_that_somebody_opens(ready: None, capsys: pytest.CaptureFixture[str]) -> None:
    with open_device("browser:open") as device:
        assert isinstance(device, Browser)
        address = capsys.readouterr().err.split()[1]
        assert address == device.server.address
        with chromium.launch(address):
            place = device.push(MIXED)
            first, second = (device.run({**ONCE, "bundle": place, "ask": [3]}) for _ in range(2))
            assert first["rows"] == second["rows"]
            assert device.info()["isolation"] == "fresh page"
            assert "cpu" not in device.info()
            with pytest.raises(BenchError, match="the page went away"), meanwhile(device, end_pages):
                device.run({**LONG, "bundle": place})


def test_one_page_is_measured_and_told_when_it_is_over() -> None:
    server, asked = WebServer(), {"connect": 60.0, "seconds": 60.0, "ended": lambda: None, "same": True}
    answers = ThreadPoolExecutor().map(lambda task: server.request({"task": task}, **asked), ["a"])
    with urlopen(f"{server.address}request?tab=one") as told:
        turn = json.load(told)
    assert turn == {"id": 1, "request": {"task": "a"}}
    urlopen(f"{server.address}answer?id={turn['id']}", data=b'{"ok": {}}').close()
    assert list(answers) == [{"ok": {}}]
    answers = ThreadPoolExecutor().map(lambda task: server.request({"task": task}, **asked), ["b"])
    with urlopen(f"{server.address}request?tab=two") as told:
        assert json.load(told) == {"end": OTHER}
    urlopen(f"{server.address}answer?id=2", data=b'{"ok": {}}').close()
    assert list(answers) == [{"ok": {}}]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: json.load(urlopen(f"{server.address}request?tab=one")))
        time.sleep(0.2)
        server.close()
        assert waiting.result() == {"end": OVER}


def test_a_page_that_is_not_isolated(ready: None) -> None:
    """As on a phone that opens it over the network: no threads, a coarse clock, and no checksums."""
    with Browser("browser:open") as device:
        place = device.push(MIXED)
        device.server._http.host = "laptop.test"  # as with browser:open@laptop.test
        address = device.server.address.replace("127.0.0.1", "laptop.test")
        with chromium.launch(address, ["--host-resolver-rules=MAP laptop.test 127.0.0.1"]):
            answer = device.run({**ONCE, "bundle": place})
            assert answer["verify_ms"] is None
            assert answer["scenarios"]["recommend"]["batch"] > 1
            assert set(answer["memory"]) == {"wasm_heap"}
            with pytest.raises(BenchError, match=r"no threads: it is not cross-origin isolated; .*--threads 1"):
                device.run({**ONCE, "bundle": place, "threads": 2})
            facts = device.info()
            assert facts["cross_origin_isolated"] is False
            assert facts["clock_ns"] >= 50_000


@pytest.mark.slow
def test_a_bundle_that_does_not_fit(ready: None, tmp_path: Path) -> None:
    with Browser(heap=20 << 20) as device:
        assert device.run({**ONCE, "bundle": device.push(MIXED)})["memory"]["wasm_heap"] <= 20 << 10
        assert device.info()["heap_limit_bytes"] == 20 << 20
        with pytest.raises(DoesNotFitError, match=r"WebAssembly's heap of \d+ MiB could not grow as the bundle needs"):
            device.run({**ONCE, "bundle": device.push(large_bundle(tmp_path))})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("page", "the page went away before it answered: .*is there enough memory"),
        ("browser", "the browser ended before the page answered, killed by SIGKILL"),
    ],
)
def test_a_crash(browser: Browser, kind: str, said: str) -> None:
    place = browser.push(MIXED)
    with pytest.raises(BenchError, match=said), meanwhile(browser, end_pages if kind == "page" else end_browsers):
        browser.run({**LONG, "bundle": place})
    assert browser.run({**ONCE, "bundle": place})["scenarios"]


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Chromium makes a socket below it, whose path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="er-") as folder:
        yield Path(folder)


def test_a_browser_ends_with_what_started_it(ready: None, short_tmp: Path) -> None:
    """Even where that is killed and can end nothing: the page closes itself."""
    code = "from tests.devices import test_browser; test_browser.killed_while_measuring()"
    environment = {**os.environ, "TMPDIR": str(short_tmp)}
    started = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment)
    assert started.wait(180) == -signal.SIGKILL
    assert awaited(lambda: not processes_of(started.pid))


def killed_while_measuring() -> None:
    with Browser() as device, meanwhile(device, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        device.run({**ONCE, "bundle": device.push(MIXED), "seconds": 1})


def processes_of(pid: int) -> list[int]:
    """Those of browsers that a process started, by their profile's name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"edgerec-browser-{pid}-".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def test_a_page_that_takes_too_long_and_one_that_never_comes(browser: Browser) -> None:
    browser.timeout = 1
    with pytest.raises(BenchError, match="took longer than 1 s and was stopped"):
        browser.run({**LONG, "bundle": browser.push(MIXED)})
    server = WebServer()
    with pytest.raises(BenchError, match=r"no browser opened http://127\.0\.0\.1:\d+/\S+ within 0\.2 s"):
        server.request({}, connect=0.2, seconds=1, ended=lambda: None, same=True)
    server.close()


def test_damaged_bundles_and_what_it_does_not_do(browser: Browser, tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"browser: .*manifest\.json cannot be fetched .status 404.; is the address right"
    ):
        browser.run({**ONCE, "bundle": browser.push(tmp_path)})
    with pytest.raises(BenchError, match="a browser measures bundles only, no task 'plain'"):
        browser.run({"task": "plain"})
    with pytest.raises(BenchError, match="has no folder 'elsewhere'"):
        browser.pull("elsewhere", tmp_path)
    browser.pull(browser.push(MIXED), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in MIXED.iterdir()}


def test_the_server_gives_out_what_it_was_given(browser: Browser) -> None:
    browser.push(MIXED)
    parts = urlsplit(browser.server.address)

    def status(path: str, method: str = "GET") -> int:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        response = connection.getresponse()
        content = response.read()
        assert response.status != 404 or not content
        connection.close()
        return response.status

    root = parts.path
    assert status(root) == status(f"{root}page.mjs") == status(f"{root}bundles/0/manifest.json") == 200
    for path in ("/", "/page.mjs", f"{root}bundles/0/", f"{root}bundles/0/../../page.mjs", f"{root}../../etc/passwd"):
        assert status(path) == 404
    for path in (
        f"{root}%2e%2e/%2e%2e/etc/passwd",
        f"{root}//etc/passwd",
        f"{root}bundles/1/manifest.json",
        "/x/request",
    ):
        assert status(path) == 404
    assert status(f"{root}page.mjs", "POST") == status("/answer?id=1", "POST") == 404
    assert status(root, "PUT") == 501


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("browser", Address()),
        ("browser:webgpu", Address(webgpu=True)),
        ("browser:open", Address(opened=True)),
        ("browser:open@192.168.0.7", Address(opened=True, host="192.168.0.7")),
        ("browser:webgpu:open@laptop.local:8000", Address(True, True, "laptop.local", 8000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["browser:", "browser:firefox", "browser:open@", "browser:open@a:b", "browser@host"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BenchError, match="is no address of a browser; give browser"):
        Address.parse(text)
    with pytest.raises(BenchError, match=r"0\.0\.0\.0 is no address that a browser can open"):
        Address.parse("browser:open@0.0.0.0")


def test_no_browser_and_no_port(ready: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = WebServer()
    port = urlsplit(taken.address).port
    with pytest.raises(BenchError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
        Browser(f"browser:open@127.0.0.1:{port}")
    taken.close()
    with pytest.raises(BenchError, match=r"cannot listen on .*; give an address of this machine"):
        Browser("browser:open@198.51.100.1")
    with pytest.raises(BenchError, match="leave --offline out"), open_device("browser", offline=True):
        pass
    with Browser() as device:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            BenchError, match=r"no Chromium or Chrome .*: sudo apt-get install chromium; .*browser:open"
        ):
            device.run({"task": "bare"})


@pytest.mark.slow
def test_the_command_line(ready: None, command_line: CommandLine, tmp_path: Path) -> None:
    quick = ("--processes", "1", "--calls", "5", "--seconds", "0", "--scenario", "recommend")
    done = command_line("bench", MIXED, *quick, "--device", "browser", "--out", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = read_results(tmp_path / "r.json")
    assert "--device browser" in result.to_json()["command"]
    reported = command_line("report", "r.json", "--out", "r.html", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert result.device["browser"] in (tmp_path / "r.html").read_text()
    refused = command_line("bench", MIXED, "--device", "browser:firefox", cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1


@contextmanager
def meanwhile(device: Browser, action: Callable[[], None]) -> Iterator[None]:
    """Do something to the page as soon as it reads the bundle of the next request."""
    seen = len(device.server.log)

    def act() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if any(path.startswith("bundles/") for path in device.server.log[seen:]):
                action()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


def end_browsers() -> None:
    """As a crash does."""
    for leader, pid, _ in our_browsers():
        if pid == leader:
            os.kill(pid, signal.SIGKILL)


def end_pages() -> None:
    """The processes of pages alone: as where memory runs out."""
    for _, pid, command in our_browsers():
        if b"--type=renderer" in command:
            os.kill(pid, signal.SIGKILL)


def our_browsers() -> Iterator[tuple[int, int, bytes]]:
    """Processes of those that this one started: their session, number and command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            leader = os.getsid(int(folder.name))
            parent = int(Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
            if parent == os.getpid() and b"chrom" in command:
                yield leader, int(folder.name), command

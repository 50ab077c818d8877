"""How a phone's parts are brought: the published archive is verified, the runner is built or taken, all or nothing."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from edgerec.errors import BenchError, DownloadError
from edgerec_devices.adb import parts as android
from edgerec_devices.adb.facts import android_facts, read_answer
from edgerec_devices.adb.parts import (
    AAR_VARIABLE,
    COMPILERS,
    LIBRARY,
    NDK_VARIABLES,
    RUNNER,
    RUNNER_VARIABLE,
    Archive,
    runtime_files,
    set_up,
)
from edgerec_devices.protocol import setup_folder, silent
from tests.data.conftest import Host, host  # noqa: F401
from tests.devices.android.parts import ABI, need
from tests.devices.conftest import write_script

HOST_ABI = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}.get(platform.machine(), ABI)


@pytest.fixture(autouse=True)
def _nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NDK_VARIABLES, AAR_VARIABLE, RUNNER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def ndk(tmp_path: Path) -> Path:
    """A folder as the NDK's, whose compiler for this processor is this machine's own."""
    need("gcc")
    folder = tmp_path / "ndk"
    compilers = folder / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    compilers.mkdir(parents=True)
    write_script(compilers / f"{COMPILERS[HOST_ABI]}24-clang", 'exec gcc "$@"')
    return folder


def archive_of(path: Path, **files: bytes) -> Path:
    """A small archive."""
    with zipfile.ZipFile(path, "w") as content:
        for name, value in files.items():
            content.writestr(name, value)
    return path


def leftovers() -> list[str]:
    return [path.name for path in setup_folder("adb").parent.glob("*") if path.name != "onnxruntime.aar"]


@pytest.mark.slow
def test_the_published_archive_and_the_ndk(
    archive: Path,
    ndk: Path,
    host: Host,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = archive.read_bytes()
    host.files["/onnxruntime.aar"] = content
    published = Archive(f"{host.url}/onnxruntime.aar", f"sha256:{hashlib.sha256(content).hexdigest()}")
    monkeypatch.setattr(android, "ONNXRUNTIME", published)
    monkeypatch.setenv(NDK_VARIABLES[0], str(ndk))
    host.cuts = [20_000_000]
    told: list[str] = []
    set_up(told.append)
    assert [line.partition(" http")[0] for line in told] == [
        "downloading",
        "downloading",
        f"building the runner for {HOST_ABI}",
    ]
    found = runtime_files(HOST_ABI)
    with zipfile.ZipFile(archive) as given:
        assert found.library.read_bytes() == given.read(f"jni/{HOST_ABI}/{LIBRARY}")
    done = subprocess.run([str(found.runner)], capture_output=True, text=True, check=False)
    assert done.stderr.startswith(f"usage: {found.runner} LIBRARY")
    told.clear()
    set_up(told.append)
    assert not told
    with pytest.raises(
        BenchError, match=f"no runner for 'armeabi-v7a' here, only for: {HOST_ABI}; edgerec devices setup"
    ):
        runtime_files("armeabi-v7a")
    with pytest.raises(BenchError, match="the device is 'mips', and onnxruntime has no library for that"):
        runtime_files("mips")


def test_another_archive_is_refused(host: Host, ndk: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    host.files["/onnxruntime.aar"] = b"something else"
    monkeypatch.setattr(android, "ONNXRUNTIME", Archive(f"{host.url}/onnxruntime.aar", f"sha256:{'0' * 64}"))
    monkeypatch.setenv(NDK_VARIABLES[1], str(ndk))
    with pytest.raises(DownloadError, match=r"its sha256 is .*; the file was removed"):
        set_up(silent)
    assert not leftovers()


def test_the_official_archive_is_pinned() -> None:
    version = "1.29.0"
    assert android.ONNXRUNTIME.url.endswith(f"/onnxruntime-android/{version}/onnxruntime-android-{version}.aar")
    assert len(android.ONNXRUNTIME.digest.removeprefix("sha256:")) == 64


def test_without_an_ndk_nothing_is_fetched() -> None:
    with pytest.raises(
        BenchError, match="is built with Google's NDK; install it and name its folder in ANDROID_NDK_HOME"
    ):
        set_up(silent)
    with pytest.raises(BenchError, match="is not here: edgerec devices setup adb"):
        runtime_files(ABI)


def test_a_folder_that_is_no_ndk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NDK_VARIABLES[0], str(tmp_path))
    with pytest.raises(BenchError, match="is no NDK for this machine: there is no compiler in "):
        set_up(silent)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, r"there is no .*none\.aar; name onnxruntime's archive for Android in EDGEREC_ANDROID_AAR"),
        (b"no zip", "is no archive of onnxruntime for Android"),
        ({f"jni/{ABI}/{LIBRARY}": b""}, "has no libonnxruntime.so or no onnxruntime_c_api.h in it"),
        ({"headers/onnxruntime_c_api.h": b""}, "has no libonnxruntime.so or no onnxruntime_c_api.h in it"),
        (
            {f"jni/{ABI}/{LIBRARY}": b"", "headers/onnxruntime_c_api.h": b"#error none\n"},
            "clang cannot build the runner: .*error: #error none",
        ),
    ],
)
def test_archives_that_are_none(
    files: bytes | dict[str, bytes] | None, said: str, ndk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "none.aar"
    if isinstance(files, bytes):
        path.write_bytes(files)
    elif files is not None:
        archive_of(path, **files)
    monkeypatch.setenv(AAR_VARIABLE, str(path))
    monkeypatch.setenv(NDK_VARIABLES[0], str(ndk))
    with pytest.raises(BenchError, match=said):
        set_up(silent)
    assert not leftovers()


def test_a_runner_that_is_built_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"jni/{abi}/{LIBRARY}": abi.encode() for abi in COMPILERS}
    aar = archive_of(tmp_path / "a.aar", **files, **{"headers/onnxruntime_c_api.h": b""})
    monkeypatch.setenv(AAR_VARIABLE, str(aar))
    for name, content, said in (
        ("none", None, "there is no .*none; name a runner in EDGEREC_ANDROID_RUNNER"),
        ("text", b"#!/bin/sh", "is no program for Android"),
        ("mips", b"\x7fELF".ljust(18, b"\0") + b"\x08\0", "is no program for Android"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        monkeypatch.setenv(RUNNER_VARIABLE, str(tmp_path / name))
        with pytest.raises(BenchError, match=said):
            set_up(silent)
    assert not leftovers()
    built = tmp_path / "arm"
    built.write_bytes(b"\x7fELF".ljust(18, b"\0") + b"\xb7\0" + b"the rest")
    monkeypatch.setenv(RUNNER_VARIABLE, str(built))
    set_up(silent)
    found = runtime_files("arm64-v8a")
    assert found.library.read_bytes() == b"arm64-v8a"
    assert found.runner.read_bytes() == built.read_bytes()
    assert found.runner.stat().st_mode & 0o111
    assert [path.parent.name for path in setup_folder("adb").glob(f"*/{RUNNER}")] == ["arm64-v8a"]
    shutil.rmtree(setup_folder("adb"))


ANSWER = """
edgerec-fact manufacturer
google

edgerec-fact model
Pixel 8

edgerec-fact soc_manufacturer
Google

edgerec-fact soc_model
Tensor G3

edgerec-fact release
14

edgerec-fact sdk
34

edgerec-fact abi
arm64-v8a

edgerec-fact machine
aarch64

edgerec-fact cpuinfo
processor\t: 0
BogoMIPS\t: 49.15
processor\t: 1

edgerec-fact meminfo
MemTotal:        7800000 kB
MemAvailable:    3900000 kB

edgerec-fact governor
sched_pixel

edgerec-fact khz
1704000

edgerec-fact max_khz

edgerec-fact clocks
324000/1704000/sched_pixel/0 1 2 3
500000/2914000/sched_pixel/8

edgerec-fact temperatures
-273000
0
41000
38500
999999999

edgerec-fact battery
Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 90
"""


def test_facts_of_a_phone() -> None:
    assert android_facts(read_answer(ANSWER)) == {
        "board": "Google Pixel 8",
        "soc": "Google Tensor G3",
        "abi": "arm64-v8a",
        "architecture": "aarch64",
        "cores": 2,
        "governor": "sched_pixel",
        "mhz": 1704.0,
        "clocks": "cores 0 1 2 3: 324 of 1704 MHz, sched_pixel; cores 8: 500 of 2914 MHz, sched_pixel",
        "temperature_c": 41.0,
        "memory_bytes": 7800000 * 1024,
        "memory_available_bytes": 3900000 * 1024,
        "os": "Android 14 (API 34)",
        "power": "usb",
    }


def test_what_cannot_be_read_is_absent() -> None:
    assert android_facts(read_answer("\nedgerec-fact machine\naarch64\n")) == {
        "abi": "arm64-v8a",
        "architecture": "aarch64",
    }

"""The runner and a phone, once a session; tests take `phone`, which is set up and on the PATH."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from edgerec_devices.adb.device import KIND
from edgerec_devices.adb.parts import AAR_VARIABLE, LIBRARY, NDK_VARIABLES, RUNNER_VARIABLE, build
from edgerec_devices.protocol import set_up, silent
from tests.devices.android.parts import ABI, android_archive, linux_archive, need, shim_libraries
from tests.devices.android.phone import Phone, switched_on

SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")


@pytest.fixture(scope="session")
def archive() -> Path:
    """onnxruntime's for Android."""
    return android_archive()


@pytest.fixture(scope="session")
def headers(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime's C headers."""
    folder = tmp_path_factory.mktemp("headers")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder, [name for name in content.namelist() if name.startswith("headers/")])
    return folder / "headers"


@pytest.fixture(scope="session")
def runner(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner as it is shipped, for this machine."""
    need("gcc")
    return build(["gcc"], headers, tmp_path_factory.mktemp("runner") / "runner")


@pytest.fixture(scope="session")
def checked(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner with the sanitizers of memory and of undefined behaviour: what they find ends it."""
    need("gcc")
    return build(["gcc"], headers, tmp_path_factory.mktemp("checked") / "runner", *SANITIZERS)


@pytest.fixture(scope="session")
def pip_library() -> Path:
    """onnxruntime's library of this Python."""
    (found,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    return found


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Android's system libraries, for Linux."""
    return shim_libraries(tmp_path_factory.mktemp("shim") / "lib")


@pytest.fixture(scope="session")
def on_linux(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime's archive for Android, with a library that runs here beside `shim`."""
    return linux_archive(archive, tmp_path_factory.mktemp("archive") / "onnxruntime.aar")


@pytest.fixture(scope="session")
def android_library(on_linux: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of it."""
    folder = tmp_path_factory.mktemp("android")
    with zipfile.ZipFile(on_linux) as content:
        return Path(content.extract(f"jni/{ABI}/{LIBRARY}", folder))


@pytest.fixture(scope="session")
def _cache(on_linux: Path, runner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which `edgerec devices setup adb` was done."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in NDK_VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv(AAR_VARIABLE, str(on_linux))
        patch.setenv(RUNNER_VARIABLE, str(runner))
        set_up(KIND, silent)
    return folder


@pytest.fixture(scope="session")
def _switched_on(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with switched_on(tmp_path_factory.mktemp("phone"), shim) as phone:
        yield phone


@pytest.fixture
def set_up_here(_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent to phones is on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache))


@pytest.fixture
def phone(_switched_on: Phone, set_up_here: None, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """The phone, and what is sent to it."""
    use(_switched_on, monkeypatch)
    return _switched_on


def use(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make its client the only adb of a test."""
    monkeypatch.setenv("PATH", f"{phone.client}{os.pathsep}{os.environ['PATH']}")

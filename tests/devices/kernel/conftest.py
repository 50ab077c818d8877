"""The kernel, compiled for the tests: the vectors' checker under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from tests.devices.conftest import lacking
from tests.vectors import make
from tests.vectors.cases import cases
from tests.vectors.check import FOLDER

HERE = Path(__file__).parent
KERNEL = HERE.parents[2] / "devices" / "kernel"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
INTEGERS = ("int8", "int4")


def sources() -> list[str]:
    """Return the paths of the kernel's source files."""
    return sorted(map(str, (KERNEL / "src").glob("*.c")))


def compiled(out: Path, program: str, options: Sequence[str], parts: Sequence[str] | None = None) -> Path:
    """Compile a program of this folder with the kernel, or with some of its files, by gcc."""
    if shutil.which("gcc") is None:
        lacking("gcc", "apt-get install gcc libc6-dev")
    command = ["gcc", *STRICT, *options, *(parts or sources()), str(HERE / program), "-lm", "-o", str(out)]
    subprocess.run(command, check=True, timeout=300)
    return out


# Blocks of the vectors' small catalogues are skipped, tiles end inside of blocks, loops are vectorised; of a tile of
# 48 rows, a part is summed by wide.h, and the rest by the plain loops.
SKIPPING = ("-O3", "-DER_LARGE=1", "-DER_TILE=48")
VARIANTS = {
    "plain": (*SANITIZED, "-DER_WIDE=0"),
    "skipping": (*SANITIZED, *SKIPPING),
    # With bounds, as WebAssembly has them; the Cortex-M has none.
    "small": (*SANITIZED, "-Os", "-DER_BOUNDS=1", "-DER_LARGE=1"),
}


@pytest.fixture(scope="session")
def checkers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The checker of the vectors under the sanitizers, as it is built for machines of each kind."""
    folder = tmp_path_factory.mktemp("kernel")
    return [compiled(folder / name, "check.c", options) for name, options in VARIANTS.items()]


@pytest.fixture(scope="session")
def checker(checkers: list[Path]) -> Path:
    """The first of them."""
    return checkers[0]


@pytest.fixture(scope="session")
def second_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors of integers of version 1.0, exported as version 2.0, whose scales stand in sections."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "keys").mkdir()
    some = [replace(case, version="2.0") for case in cases() if is_refused(case.version, case.options.precision)]
    with mock.patch.object(make, "cases", return_value=some):
        make.make(folder)
    return folder


def answers_all(command: Callable[[Path, Path], Sequence[str | Path]], second_version: Path, scratch: Path) -> None:
    """Run a checker on every vector, all of a folder in one process.

    Args:
        command: returns the command of a folder of vectors, and of the list of its bundles and requests.
    """
    taken = [case.name for case in cases() if not is_refused(case.version, case.options.precision)]
    later = sorted(path.name for path in (second_version / "bundles").iterdir())
    for folder, names in ((FOLDER, taken), (second_version, later)):
        files = [place for name in names for place in (folder / "bundles" / name, folder / "requests" / f"{name}.json")]
        (scratch / "list").write_text("".join(f"{path}\n" for path in files), encoding="utf-8")
        done = subprocess.run(
            command(folder, scratch / "list"),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (done.stdout + done.stderr).endswith(" 0 failures\n")
        assert int(re.findall(r"(\d+) requests", done.stdout + done.stderr)[-1]) > 20 * len(names)


def is_refused(version: str, precision: str) -> bool:
    """Return True for bundles whose scales only their graphs hold."""
    return version == "1.0" and precision in INTEGERS


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Python package, compiled."""
    if importlib.util.find_spec("ziglang") is None:
        lacking("ziglang", "pip install ziglang")
    folder, source = tmp_path_factory.mktemp("package"), KERNEL / "python"
    shutil.copytree(source / "edgerec_kernel", folder / "edgerec_kernel")
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    library = folder / "edgerec_kernel" / f"libedgerec_kernel{suffix}"
    subprocess.run([sys.executable, source / "build_library.py", library], check=True, timeout=300)
    return folder


@pytest.fixture
def python_package(package_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Python package, importable."""
    monkeypatch.syspath_prepend(str(package_folder))
    yield
    sys.modules.pop("edgerec_kernel", None)

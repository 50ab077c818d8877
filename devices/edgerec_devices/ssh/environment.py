"""The software for a device: numpy and onnxruntime at this machine's versions, and the agent as one zip."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from edgerec import errors, extras, files, outputs, runtime, signatures
from edgerec.errors import BenchError
from edgerec_devices import agent, facts
from edgerec_devices.facts import Platform, wheel_advice

PACKAGES = ("numpy", "onnxruntime")
OLDEST_GLIBC = 17
"""glibc 2.17 of manylinux2014, the oldest that current wheels are built for."""


@dataclass(frozen=True)
class Target:
    """The properties of a device that decide which wheels run on it.

    Attributes:
        libc: name and version of the C library; ('', '') if unknown.
    """

    platform: Platform
    libc: tuple[str, str]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Target:
        """Create a target from the remote agent's description."""
        major, minor = fields["python"]
        platform = Platform(fields["system"], fields["machine"], fields["bits"], (major, minor), fields["musl"])
        name, version = fields["libc"]
        return cls(platform, (name, version))

    @property
    def key(self) -> str:
        """The name of an environment, which depends on the package versions and on Python."""
        here = self.platform
        parts = [pins(), here.system, here.machine, here.bits, here.python, here.musl]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.platform.python))} on {self.platform.system} {self.platform.machine}"

    def tags(self) -> list[str]:
        """Return pip's platform tags of wheels that run there, newest first. Raises BenchError if they are unknown."""
        here, (name, version) = self.platform, self.libc
        machine = "armv7l" if here.is_32_bit_arm else here.machine
        if here.musl:
            return [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
        numbers = re.fullmatch(r"2\.(\d+)", version)
        if here.system != "Linux" or name != "glibc" or numbers is None:
            raise BenchError(f"--offline knows Linux devices with glibc or musl, not {self}; leave --offline out")
        newest = int(numbers[1])
        return [f"manylinux_2_{minor}_{machine}" for minor in range(newest, OLDEST_GLIBC - 1, -1)] + [
            f"manylinux2014_{machine}"
        ]


def pins() -> list[str]:
    """Return the versions on this machine, which devices get too: 'numpy==2.4.6', 'onnxruntime==1.32.0'."""
    return list(_pins())


def _pins() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package}=={metadata.version(package)}"
        except metadata.PackageNotFoundError:
            raise BenchError(
                f"a device gets the version of {package} on this machine, which has none: pip install {package}"
            ) from None


def download(target: Target, folder: Path) -> list[Path]:
    """Download the wheels of the packages and their requirements for the device. Raises BenchError."""
    here = target.platform
    version, abi = ".".join(map(str, here.python)), f"cp{here.python[0]}{here.python[1]}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "1"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--implementation", "cp", "--python-version", version]
    command += [word for name in (abi, "abi3", "none") for word in ("--abi", name)]
    command += [word for tag in target.tags() for word in ("--platform", tag)]
    done = subprocess.run([*command, *pins()], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise pip_failure(done.stdout + done.stderr, target, "this machine")
    return sorted(folder.glob("*.whl"))


def pip_failure(said: str, target: Target, where: str) -> BenchError:
    """Return pip's failure as an error with its fix.

    Args:
        where: the machine that pip ran on.
    """
    lines = [line for line in said.strip().splitlines() if line.strip()] or ["it said nothing"]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]).removeprefix("ERROR: ")
    if "No module named pip" in said:
        return BenchError(f"{where} has no pip: python3 -m ensurepip")
    if "No space left" in said:
        return BenchError(f"no space on {where} for {' and '.join(pins())}; free some there")
    if "CA certificate bundle" in said:
        return BenchError(f"{where} has no CA certificates for HTTPS: sudo apt install ca-certificates")
    if re.search(r"Retrying|NewConnectionError|name resolution|Network is unreachable", said):
        fix = "connect it" if where == "this machine" else "connect it, or give --offline to send wheels from here"
        return BenchError(f"{where} reaches no package index; {fix}")
    if missing := re.search(r"No matching distribution found for (\S+)", said):
        package = missing[1].partition("=")[0]
        otherwise = f"install a {package} here that both have, and measure again"
        advice = wheel_advice(target.platform) or otherwise
        return BenchError(f"there is no wheel of {missing[1]} for {target}: {advice}")
    return BenchError(f"pip failed on {where}: {last}")


AGENT_MODULES = (errors, extras, files, outputs, signatures, facts)
AGENT_PACKAGES = (runtime, agent)
"""Packages that are sent as whole folders. They import the modules above, which are sent with the `__init__` of their
package."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip can store: equal sources give equal bytes, which are not sent again."""


def agent_zip() -> tuple[str, bytes]:
    """Return the zip's name, which contains its sha256, and its bytes. Raises BenchError if a source is missing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(set(_sources())):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), source.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return f"agent-{hashlib.sha256(content).hexdigest()[:32]}.zip", content


def _sources() -> Iterator[tuple[str, Path]]:
    for module in AGENT_MODULES:
        path, (package, _, name) = _source(module), module.__name__.partition(".")
        yield f"{package}/{name}.py", path
        yield f"{package}/__init__.py", path.with_name("__init__.py")
    for folder in AGENT_PACKAGES:
        root = _source(folder).parent
        for path in root.rglob("*"):
            if path.suffix in (".py", ".json"):
                yield f"{folder.__name__.replace('.', '/')}/{path.relative_to(root).as_posix()}", path


def _source(module: ModuleType) -> Path:
    if module.__file__ is None or not Path(module.__file__).is_file():
        raise BenchError(
            f"the source of {module.__name__} is missing; install EdgeRec again: pip install --force-reinstall edgerec"
        )
    return Path(module.__file__)

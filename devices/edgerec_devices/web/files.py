"""JavaScript files for browsers and Node: EdgeRec's own, which are part of the package, and onnxruntime-web.

`web/dist/` is built from the npm project in `devices/web/`; its `packages.json` names the npm packages with their
versions and sha512, which `set_up` downloads through npm. Only the required files are stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgerec.errors import BenchError
from edgerec.files import storage_failure
from edgerec_devices.protocol import Missing, Tell, setup_folder

WEB = Path(__file__).parent
DIST, PAGE = WEB / "dist", WEB / "page"
KERNELS = (DIST / "edgerec-kernel.wasm", DIST / "edgerec-kernel-relaxed.wasm")
"""Builds of the kernel, the second with relaxed dot products: the library takes the one that the platform can run."""
RUNTIME = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
    "ort.node.min.mjs",
)
"""Files of onnxruntime-web: for the CPU, for WebGPU, and for Node."""
SETUP = "edgerec devices setup browser"
NPM = Missing("npm", "sudo apt-get install npm")
FETCH_S = 600.0


class Package(NamedTuple):
    """An npm package to download."""

    name: str
    version: str
    integrity: str

    def place(self, member: str) -> str | None:
        """Return where to store a file of the package's archive; None to skip it."""
        path = member.removeprefix("package/")
        if self.name == "onnxruntime-web":
            name = path.removeprefix("dist/")
            return name if name in RUNTIME else None
        wanted = path == "package.json" or (path.startswith("dist/esm/") and path.endswith((".js", ".json")))
        return f"node_modules/{self.name}/{path}" if wanted else None


def packages() -> list[Package]:
    """Return onnxruntime-web and its dependencies, as the build recorded them."""
    return [Package(**fields) for fields in json.loads((DIST / "packages.json").read_text())]


def version() -> str:
    """Return the version of onnxruntime-web."""
    return packages()[0].version


def runtime_folder() -> Path:
    """Return the folder for the files of onnxruntime-web, which browsers and Node share."""
    return setup_folder("browser") / f"onnxruntime-web-{version()}"


def installed() -> Path:
    """Return the folder of onnxruntime-web's files. Raises BenchError if it is not set up."""
    folder = runtime_folder()
    if not folder.is_dir():
        raise BenchError(f"onnxruntime-web {version()} is not here; fetch it: {SETUP}")
    return folder


def missing() -> list[Missing]:
    """List onnxruntime-web if it is missing, and npm if that is missing too."""
    if runtime_folder().is_dir():
        return []
    return [*([] if shutil.which("npm") else [NPM]), Missing(f"onnxruntime-web {version()}", SETUP)]


def set_up(tell: Tell) -> None:
    """Download onnxruntime-web through npm into the cache folder, and compare its checksum.

    Raises:
        BenchError: no npm, no connection to its registry, or the checksum differs.
        StorageError: a file system operation failed.
    """
    folder = runtime_folder()
    if folder.is_dir():
        tell(f"onnxruntime-web {version()} is here already: {folder}")
        return
    tell(f"fetching onnxruntime-web {version()}, 35 MB")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetched-", dir=folder.parent) as scratch:
            whole = Path(scratch, "whole")
            for package in packages():
                _unpack(fetch(package, Path(scratch)), package, whole)
            try:
                whole.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
    except OSError as error:
        storage_failure(folder, error, "write")


def fetch(package: Package, folder: Path) -> Path:
    """Download a package's archive and compare its checksum. Raises BenchError."""
    named = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError(f"there is no npm on this machine, which fetches {named}; install it: {NPM.fix}")
    command = [npm, "pack", named, "--json", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"npm did not fetch {named} within {FETCH_S:g} s; is its registry reachable?") from None
    found = list(folder.glob(f"{package.name.removeprefix('@').replace('/', '-')}-*.tgz"))
    if done.returncode != 0 or len(found) != 1:
        raise BenchError(f"npm could not fetch {named}: {_complaint(done.stderr)}; is its registry reachable?")
    digest = base64.b64encode(hashlib.sha512(found[0].read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise BenchError(f"what npm fetched as {named} is another file (sha512 differs); npm cache clean --force")
    return found[0]


def _complaint(said: str) -> str:
    """Return the most informative line of npm's errors."""
    lines = [line.removeprefix("npm error ") for line in said.splitlines() if line.startswith("npm error ")]
    telling = [line for line in lines if not re.match(r"(code|errno|syscall|type|A complete log) ", line)]
    return (telling or lines or ["it said nothing"])[0].rstrip(".")


def _unpack(archive: Path, package: Package, folder: Path) -> None:
    """Write the required files of an archive; no other member is written to the disk."""
    for place, content in _members(archive, package):
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _members(archive: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            place, stream = package.place(member.name), opened.extractfile(member)
            if place is not None and stream is not None:
                yield place, stream.read()

"""workerd, the runtime of Cloudflare's workers, from npm: a worker behind a port of this machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgerec.errors import BenchError
from edgerec_devices.web import files as web_files
from edgerec_devices.web.files import Package
from tests.devices.android.parts import kept
from tests.devices.web import lacking, need_programs

VERSION = "1.20260426.1"
PACKAGES = {
    "x86_64": (
        "64",
        "sha512-C8LlC8uSYzg49y51n++75esxZmMp+Uz1OKHHA/4lkv6rjOTbcHQJuEwSLppjybVIXpv7A8MBhbu9iyCTvyv1mw==",
    ),
    "aarch64": (
        "arm64",
        "sha512-ESVp/OIFMAqjQsa8BOP2BQQz5Vpfv6ncN6lNnIuNeOgsISQBdYk+LA60bwQHMud9tvmnSYtONp1zkZ8OQz+x6w==",
    ),
}
"""For the processors of Linux: the end of the package's name, and its sha512."""
DATE = "2026-04-01"
KINDS = {".mjs": "esModule", ".wasm": "wasm"}


def workerd() -> Path:
    """Return the program; fetched once for all runs, without the package's script."""
    need_programs("npm")
    if platform.system() != "Linux" or platform.machine() not in PACKAGES:
        lacking(f"workerd is not tested on {platform.system()} {platform.machine()}")
    return kept(f"workerd-{VERSION}", _fetch)


def _fetch(target: Path) -> None:
    processor, integrity = PACKAGES[platform.machine()]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            package = Package(f"@cloudflare/workerd-linux-{processor}", VERSION, integrity)
            archive = web_files.fetch(package, Path(scratch))
        except BenchError as error:
            lacking(str(error))
        with tarfile.open(archive) as opened, target.open("wb") as out:
            program = opened.extractfile("package/bin/workerd")
            assert program is not None
            shutil.copyfileobj(program, out)
    target.chmod(0o755)


@contextmanager
def worker(modules: Mapping[str, Path], folder: Path, vectors: Path) -> Iterator[str]:
    """Run a worker until the block ends; its address.

    Args:
        modules: its files, the first of which answers; those that are no code are data.
        folder: an empty one, for what it is started with.
        vectors: a folder that the worker reads as the service `vectors`.
    """
    entries = []
    for name, path in modules.items():
        shutil.copyfile(path, folder / name)
        entries.append(f'(name = "{name}", {KINDS.get(path.suffix, "data")} = embed "{name}")')
    (folder / "config.capnp").write_text(
        'using Workerd = import "/workerd/workerd.capnp";\n'
        "const config :Workerd.Config = (\n"
        '  services = [(name = "main", worker = .main),\n'
        f'    (name = "vectors", disk = (path = {json.dumps(str(vectors))}))],\n'
        '  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],\n'
        ");\n"
        "const main :Workerd.Worker = (\n"
        f"  modules = [{', '.join(entries)}],\n"
        '  bindings = [(name = "vectors", service = "vectors")],\n'
        f'  compatibilityDate = "{DATE}",\n'
        ");\n"
    )
    read, write = os.pipe()
    command = [str(workerd()), "serve", str(folder / "config.capnp"), f"--control-fd={write}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(write,), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    os.close(write)
    try:
        with os.fdopen(read) as control:
            line = control.readline()
        assert line, (folder / "log").read_text()
        yield f"http://127.0.0.1:{json.loads(line)['port']}/"
    finally:
        process.kill()
        process.wait()

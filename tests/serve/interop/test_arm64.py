"""The emulated Raspberry Pi with 256 MB installs the server from wheels without a network, and answers node-wot."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from edgerec_devices.arm64 import setup
from edgerec_devices.arm64.image import TARGET
from edgerec_devices.arm64.vm import HOST, Machine
from tests.devices.test_arm64 import made  # noqa: F401
from tests.serve.conftest import Client
from tests.serve.interop.clients import NodeWot, free_port
from tests.serve.interop.conftest import best
from tests.serve.interop.test_wot import ACTIONS, PROPERTIES, description, inputs, items

MEMORY = 256 << 20
PORT = 8080
PYTHON = f".cache/edgerec/environments/{TARGET.key}/bin/python"
"""The image's Python, in whose environment numpy and onnxruntime are installed."""
MOST_KIB = 96 << 10


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_a_small_pi_serves(bundle: Path, runtime_wheel: Path, node: Path, tmp_path: Path) -> None:
    folder, forwarded = tmp_path / "wheels", free_port()
    pip = wheels(runtime_wheel, folder)
    with Machine(setup.home(), MEMORY, counting=False) as machine:
        ssh = ["ssh", "-F", str(machine.ssh_config)]
        push(ssh, folder, bundle)
        install = f"{PYTHON} wheels/{pip}/pip install --quiet --no-index --find-links wheels 'edgerec-runtime[serve]'"
        subprocess.run([*ssh, HOST, install], check=True)
        # The image has neither grep nor pgrep.
        serve = f"echo $$ > server.pid; exec {PYTHON} -m edgerec.serve {bundle.name} --port {PORT}"
        command = [*ssh, "-L", f"{forwarded}:127.0.0.1:{PORT}", HOST, serve]
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as server,
        ):
            assert server.stdout is not None
            assert server.stdout.readline() == f"http://127.0.0.1:{PORT}/\n".encode(), (tmp_path / "log").read_text()
            client = Client(f"http://127.0.0.1:{forwarded}/")
            td = description(client)
            plan = {"url": f"{client.url}.well-known/wot", "invoke": [*inputs(td).items()], "hear": ["model"]}
            reader = NodeWot(node, plan)
            reader.rest()
            read = [*ssh, HOST, "cat /proc/$(cat server.pid)/status; kill $(cat server.pid)"]
            status = subprocess.run(read, capture_output=True, text=True, check=True).stdout
            assert server.wait(120) == 0
        assert machine.out_of_memory() == 0
    assert reader.failures() == []
    assert reader.found("property").keys() == {*PROPERTIES}
    assert reader.found("action").keys() == {*ACTIONS[:6]}
    given = inputs(td)["recommend"]
    assert items(reader.found("action")["recommend"]) == best(bundle, given["history"], given["k"])
    (kib,) = map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))
    print(f"peak memory of the server: {kib / 1024:.1f} MiB")
    assert kib < MOST_KIB


def wheels(runtime: Path, folder: Path) -> str:
    """Fill a folder with the runtime's wheel, those that its extra 'serve' needs, and pip's, whose name is returned."""
    folder.mkdir()
    shutil.copy(runtime, folder)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*download, "starlette", "uvicorn", "pip"], check=True)
    assert all(path.name.endswith("-none-any.whl") for path in folder.iterdir())
    (pip,) = folder.glob("pip-*.whl")
    return pip.name


def push(ssh: list[str], *paths: Path) -> None:
    """Copy files and folders to the machine's home folder."""
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path in paths:
                archive.add(path, path.name)
        stream.seek(0)
        subprocess.run([*ssh, HOST, "tar -xf -"], stdin=stream, check=True)

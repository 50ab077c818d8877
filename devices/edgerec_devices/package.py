"""The agent as one file: a zip of the few modules that run on a device, which Python imports as it is."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from edgerec.errors import BenchError

MODULES = (
    *("edgerec", "edgerec.errors", "edgerec.extras", "edgerec.files", "edgerec.signatures"),
    *("edgerec_bench", "edgerec_devices", "edgerec_devices.facts"),
)
PACKAGES = ("edgerec.runtime", "edgerec_bench.agent")
"""Whole folders; the modules above are what they import of the rest."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip holds: equal sources make equal bytes, which are not sent again."""


def agent_zip() -> tuple[str, bytes]:
    """Its name, which holds its sha256, and its bytes. Raises BenchError where a module has no source file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(_sources()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), source.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return f"agent-{hashlib.sha256(content).hexdigest()[:32]}.zip", content


def _sources() -> Iterator[tuple[str, Path]]:
    for module in MODULES:
        path = _source(module)
        folder = module.replace(".", "/")
        yield (f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"), path
    for package in PACKAGES:
        for path in _source(package).parent.iterdir():
            if path.suffix not in (".py", ".json"):
                continue
            yield f"{package.replace('.', '/')}/{path.name}", path


def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise BenchError(
            f"the source of {module} is not here; install EdgeRec whole: pip install --force-reinstall edgerec"
        )
    return Path(spec.origin)

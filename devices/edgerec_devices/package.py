"""The agent as one file: a zip of the few modules that run on a device, which Python imports as it is."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from edgerec import errors, extras, files, runtime, signatures
from edgerec.errors import BenchError
from edgerec_devices import agent, facts

MODULES = (errors, extras, files, signatures, facts)
PACKAGES = (runtime, agent)
"""Whole folders; the modules above, each with the `__init__` of its package, are what they import of the rest."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip holds: equal sources make equal bytes, which are not sent again."""


def agent_zip() -> tuple[str, bytes]:
    """Its name, which holds its sha256, and its bytes. Raises BenchError where a module has no source file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(set(_sources())):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), source.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return f"agent-{hashlib.sha256(content).hexdigest()[:32]}.zip", content


def _sources() -> Iterator[tuple[str, Path]]:
    for module in MODULES:
        path, (package, _, name) = _source(module), module.__name__.partition(".")
        yield f"{package}/{name}.py", path
        yield f"{package}/__init__.py", path.with_name("__init__.py")
    for folder in PACKAGES:
        for path in _source(folder).parent.iterdir():
            if path.suffix in (".py", ".json"):
                yield f"{folder.__name__.replace('.', '/')}/{path.name}", path


def _source(module: ModuleType) -> Path:
    if module.__file__ is None or not Path(module.__file__).is_file():
        raise BenchError(
            f"the source of {module.__name__} is not here; install EdgeRec whole: pip install --force-reinstall edgerec"
        )
    return Path(module.__file__)

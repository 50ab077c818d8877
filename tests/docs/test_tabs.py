"""The tabs of the guides (no-users.md, embeddings.md, updates.md): their programs in JavaScript answer as Python does.

Those in Java are run by tests/devices/android/test_java.py.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgerec_devices.web import files as web_files
from tests.devices.web import need_programs
from tests.docs.pages import ROOT
from tests.docs.tabs import PAGES, check, prepare, program


def test_the_programs_in_javascript(tmp_path: Path) -> None:
    need_programs("node")
    prepare(tmp_path)
    library = tmp_path / "node_modules" / "edgerec"
    shutil.copytree(web_files.DIST, library / "dist")
    shutil.copy(ROOT / "devices" / "web" / "package.json", library)
    said = {}
    for page in PAGES:
        (tmp_path / page / "program.mjs").write_text(program(page, "js"))
        done = subprocess.run(
            ["node", "program.mjs"], cwd=tmp_path / page, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        said[page] = done.stdout
    check(tmp_path, said)

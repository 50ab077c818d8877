"""The real page in headless Chromium, served by the server: it computes as Python does, also after a patch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgerec.runtime import Recommender
from edgerec_devices.web.demo_site import write_demo
from edgerec_export import diff
from tests.devices.chrome import chrome
from tests.devices.test_demo import BEST, answers, expected, films, opened, pick, shown
from tests.devices.web import need
from tests.serve.conftest import UPDATE, Serve


@pytest.mark.slow
def test_the_page_recommends_from_the_bundle_that_the_server_has(
    serve: Serve, token_file: Path, tmp_path: Path
) -> None:
    need("chromium")
    bundle, other = films(tmp_path), films(tmp_path / "other", precision="int8")
    diff(bundle, other, tmp_path / "patch")
    live = Path(shutil.copytree(bundle, tmp_path / "live"))
    write_demo([bundle], tmp_path / "site")
    served = serve(f"films={live}", "--token-file", token_file, "--page", tmp_path / "site")
    with chrome() as browser:
        page = opened(browser, served.url)  # which leads to the page
        assert page.js(BEST) == [shown(n) for n in range(12)]
        pick(page, "iron fist 1", 1)
        answers(page, expected(bundle, [1]))
        assert served.holding(UPDATE).patch((tmp_path / "patch").read_bytes()).status == 200
        assert Recommender.load(live).sha256 == Recommender.load(other).sha256
        page = opened(browser, f"{served.url}films/page/")
        answers(page, expected(other, [1]))
        assert page.complaints() == []

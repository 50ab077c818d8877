"""The browser of a module of tests, whose own fixture `ready` says what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devices.chrome import Chrome, chrome


@pytest.fixture(scope="module")
def browser(ready: None) -> Iterator[Chrome]:
    with chrome() as running:
        yield running

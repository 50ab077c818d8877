"""What readers of bundles in every language take: `bundle-spec.json`, which this reads and others are built from.

TypeScript imports the file when it is built; Java and C have sources that `python -m tests.spec_sources` makes of it.
export/README.md explains each limit.
"""

from __future__ import annotations

import json
from pkgutil import get_data
from typing import Any

FILE_NAME = "bundle-spec.json"


def _read() -> dict[str, Any]:
    """The specification; from a zip too, where the agent of a device lies in one."""
    content = get_data("edgerec.runtime", FILE_NAME)
    if content is None:  # a loader that holds no data
        raise ImportError(f"edgerec/runtime/{FILE_NAME} is missing; install EdgeRec whole")
    found: dict[str, Any] = json.loads(content)
    return found


SPEC = _read()
LIMITS: dict[str, int] = SPEC["limits"]
OPERATORS = frozenset(SPEC["operators"])
"""Of bundles of version 1, in every minor version."""

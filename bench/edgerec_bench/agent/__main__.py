"""Reads a request, does it, writes the answer."""

from __future__ import annotations

import json
import sys

from edgerec.errors import EdgeRecError, reason_of
from edgerec_bench.agent.tasks import TASKS


def main() -> None:
    """Exit status 1 and one line on standard error where the request cannot be done."""
    request = json.load(sys.stdin)
    task = TASKS.get(request.get("task"))
    if task is None:
        sys.exit(f"the agent knows no task {request.get('task')!r}; it knows: {', '.join(TASKS)}")
    try:
        answer = task(request)
    except EdgeRecError as error:
        sys.exit(reason_of(error))
    json.dump(answer, sys.stdout, allow_nan=False)


if __name__ == "__main__":
    main()

"""Reads a request, does it, writes the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from edgerec.errors import EdgeRecError, reason_of
from edgerec_devices.agent.tasks import TASKS, Task


def main(tasks: Mapping[str, Task] = TASKS) -> None:
    """Exit with status 1 and one line on standard error if the request cannot be done.

    Args:
        tasks: by name; an agent of another module has more than the device's.
    """
    request = json.load(sys.stdin)
    task = tasks.get(request.get("task"))
    if task is None:
        sys.exit(f"the agent knows no task {request.get('task')!r}; it knows: {', '.join(tasks)}")
    try:
        answer = task(request)
    except EdgeRecError as error:
        sys.exit(reason_of(error))
    json.dump(answer, sys.stdout, allow_nan=False)


if __name__ == "__main__":
    main()

"""The agent's entry point: read a request, run its task, write the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from edgerec.errors import EdgeRecError, reason_of
from edgerec_devices.agent.tasks import TASKS, Task


def main(tasks: Mapping[str, Task] = TASKS) -> None:
    """Answer the request on standard input; on an error, exit with status 1 and one line on standard error.

    Args:
        tasks: tasks by name; an agent in another module can offer more.
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

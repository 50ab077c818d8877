"""Fresh processes in turns, so that a drift of the machine hits everything that is compared alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgerec_devices import Device, Request

Progress = Callable[[str, int, int], None]
"""Called with what is measured now, and how many of how many measurements are done."""


def measure_in_turns(
    requests: Sequence[tuple[str, Request]], rounds: int, device: Device, progress: Progress | None = None
) -> list[list[dict[str, Any]]]:
    """Run every request once a round, each in a process of its own; a round starts with the next request.

    Args:
        requests: with the names that `progress` shows.
        rounds: 1 or more; each begins with a bare session, whose memory is given to the round's answers as 'bare'.

    Returns:
        For each request, its answers in the order of the rounds.

    Raises:
        BenchError: a process failed.
    """
    answers: list[list[dict[str, Any]]] = [[] for _ in requests]
    total = rounds * len(requests)
    for number in range(rounds):
        bare = device.run({"task": "bare", "threads": requests[0][1]["threads"]})["memory"]
        for turn in range(len(requests)):
            which = (number + turn) % len(requests)
            name, request = requests[which]
            if progress:
                progress(name, number * len(requests) + turn, total)
            answers[which].append({**device.run(request), "bare": bare})
    if progress:
        progress("done", total, total)
    return answers

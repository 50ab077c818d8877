"""Interleaved measurement in fresh processes: a drift of the machine's speed affects every compared bundle alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices import Device, Request
from edgerec_devices.agent.clock import summary

Progress = Callable[[str, int, int], None]
"""Callback with the name of the current measurement, the number of finished measurements and their total."""

EACH_ROUND, ONCE = ("load", "offline"), ("sustained",)
"""Scenarios that run in a process of their own: in each round, or (because they take minutes) only in the last one."""
OWN = {"load": ("cold", "warm_because"), "offline": ("offline",), "sustained": ("sustained",)}
"""Fields to take from the answers of these processes."""

Answers = list[list[dict[str, Any]]]
"""The answers to each request, in the order of the rounds."""


def run_interleaved(
    requests: Sequence[tuple[str, Request]],
    rounds: int,
    device: Device,
    progress: Progress | None = None,
    *,
    into: Answers | None = None,
) -> Answers:
    """Run every request once per round, each in a fresh process; the first request of a round rotates.

    Args:
        requests: names (for `progress`) and requests. The scenarios load, offline and sustained run in processes of
            their own.
        rounds: number of rounds, at least 1. Each begins with a bare session, whose memory is added to the answers of
            the round as 'bare'.
        into: an empty list for each request, to which answers are appended; it holds them even if a later run fails.

    Returns:
        The answers to each request, in the order of the rounds. Raw call times of an agent are summarised.

    Raises:
        DoesNotFitError: a process was killed for its memory; the message begins with the request's name.
        BenchError: a process failed.
    """
    answers: Answers = [[] for _ in requests] if into is None else into
    total = rounds * len(requests)
    for number in range(rounds):
        bare = _run("a bare session", {"task": "bare", "threads": requests[0][1]["threads"]}, device)["memory"]
        for turn in range(len(requests)):
            which = (number + turn) % len(requests)
            name, request = requests[which]
            answer: dict[str, Any] = {"bare": bare}
            for suffix, part, fields in _parts(request, last=number == rounds - 1):
                if progress:
                    progress(name + suffix, number * len(requests) + turn, total)
                reply = _run(name, part, device)
                if fields:
                    answer |= {key: reply[key] for key in fields if key in reply}
                else:  # comes first, and stays in `answers` even if a later part fails
                    answer |= _summarised(reply)
                    answers[which].append(answer)
    if progress:
        progress("done", total, total)
    return answers


def _parts(request: Request, *, last: bool) -> Iterator[tuple[str, Request, Sequence[str]]]:
    """Split a request into one per process: the suffix of its name, the request, the fields to take (none: all)."""
    scenarios = request.get("scenarios")
    if scenarios is None:
        yield "", request, ()
        return
    yield "", {**request, "scenarios": [name for name in scenarios if name not in OWN]}, ()
    for name in (*EACH_ROUND, *(ONCE if last else ())):
        if name in scenarios:
            yield f", {name}", {**request, "scenarios": [name]}, OWN[name]


def _run(name: str, request: Request, device: Device) -> dict[str, Any]:
    try:
        return device.run(request)
    except DoesNotFitError as error:
        raise DoesNotFitError(f"{name} does not fit: {error}") from error


def _summarised(answer: dict[str, Any]) -> dict[str, Any]:
    """Replace the raw nanoseconds that an agent may answer by summary figures. Raises BenchError."""
    if "scenarios" not in answer:
        return answer
    try:
        scenarios = {name: _figures(scenario) for name, scenario in answer["scenarios"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BenchError(
            f"invalid agent response ({error!r}); update the agent to the version of this edgerec"
        ) from error
    return {**answer, "scenarios": scenarios}


def _figures(scenario: dict[str, Any]) -> dict[str, Any]:
    if "times_ns" not in scenario:
        return scenario
    rest = {name: value for name, value in scenario.items() if name not in ("first_ns", "times_ns")}
    return {**summary(scenario["first_ns"], scenario["times_ns"]), **rest}

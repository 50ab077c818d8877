"""Fresh processes in turns, so that a drift of the machine hits everything that is compared alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices import Device, Request
from edgerec_devices.agent.clock import summary

Progress = Callable[[str, int, int], None]
"""Called with what is measured now, and how many of how many measurements are done."""

EACH_ROUND, ONCE = ("load", "offline"), ("sustained",)
"""Scenarios that have a process of their own: in each round, and in the last one alone, because it takes minutes."""
OWN = {"load": ("cold", "warm_because"), "offline": ("offline",), "sustained": ("sustained",)}
"""What is taken from the answers of their processes."""

Answers = list[list[dict[str, Any]]]
"""For each request, its answers in the order of the rounds."""


def run_interleaved(
    requests: Sequence[tuple[str, Request]],
    rounds: int,
    device: Device,
    progress: Progress | None = None,
    *,
    into: Answers | None = None,
) -> Answers:
    """Run every request once a round, each in a process of its own; a round starts with the next request.

    Args:
        requests: with the names that `progress` shows. Their scenarios load, offline and sustained are measured in
            processes of their own.
        rounds: 1 or more; each begins with a bare session, whose memory is given to the round's answers as 'bare'.
        into: an empty list for each request, which has what was measured so far where this fails.

    Returns:
        For each request, its answers in the order of the rounds; calls that an agent only timed are summarised.

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
            for said, part, wanted in _parts(request, last=number == rounds - 1):
                if progress:
                    progress(name + said, number * len(requests) + turn, total)
                told = _run(name, part, device)
                if wanted:
                    answer |= {key: told[key] for key in wanted if key in told}
                else:  # first, and kept even if what follows fails
                    answer |= _summarised(told)
                    answers[which].append(answer)
    if progress:
        progress("done", total, total)
    return answers


def _parts(request: Request, *, last: bool) -> Iterator[tuple[str, Request, Sequence[str]]]:
    """One request a process: what to say of it, and which fields of its answer are wanted, all without any."""
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
    """With figures in place of the list of nanoseconds that an agent may answer. Raises BenchError."""
    if "scenarios" not in answer:
        return answer
    try:
        scenarios = {name: _figures(said) for name, said in answer["scenarios"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BenchError(
            f"the device answered something else than figures ({error!r}); is its agent this one's?"
        ) from error
    return {**answer, "scenarios": scenarios}


def _figures(said: dict[str, Any]) -> dict[str, Any]:
    if "times_ns" not in said:
        return said
    rest = {name: value for name, value in said.items() if name not in ("first_ns", "times_ns")}
    return {**summary(said["first_ns"], said["times_ns"]), **rest}

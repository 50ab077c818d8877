"""Contenders at scale, made from the same tables and measured in turns."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError, MissingExtraError
from edgerec_bench.interleave import Progress, run_interleaved
from edgerec_bench.record import now
from edgerec_bench.result import KIB, Contender, Measured, ScaleResult
from edgerec_bench.scale import peers as peer_agent
from edgerec_bench.scale.forms import Entry, Form, K, Workshop, forms_named
from edgerec_devices import Device, Local

TOLERANCE = 1e-5
"""Two scores closer than this, relative to the best, are a tie: float32 sums depend on their order."""
QUESTION = {
    "seconds": 0.5, "k": K, "exclude": 20, "history": 20, "candidates": [1, 50, 1000], "threads": 1, "seed": 0
}  # fmt: skip
GRAPHS = {"task": "graphs", "graphs": ["recommend", "score", "similar"], "calls": 5}
PROFILED_CALLS = 20
TIMEOUT = 3600.0
"""Seconds: an approximate index of a million items takes minutes to build."""


def compare(
    items: int,
    *,
    dimensions: int = 64,
    users: int = 1000,
    rounds: int = 5,
    only: Sequence[str] = (),
    peers: bool = False,
    device: Device | None = None,
    progress: Progress | None = None,
) -> ScaleResult:
    """Make the tables, write the contenders, measure them in turns and check their answers.

    Args:
        rounds: fresh processes of each contender.
        only: names of contenders, beside the baseline; all without any.
        peers: all are other libraries and other roundings, and a few bundles.

    Raises:
        BenchError: a process failed, or an fp32 contender does not return numpy's exact best.
    """
    _check(items, dimensions, users, rounds)
    machine, started = device or Local(timeout=TIMEOUT, agent=peer_agent.__name__), now()
    forms = forms_named(only, peers=peers)
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        workshop = Workshop(items, dimensions, users, Path(scratch), machine)
        entries, left_out = _make(workshop, forms, progress)
        requests = [(entry.form.name, _request(entry, workshop)) for entry in entries]
        answers = run_interleaved(requests, rounds, machine, progress)
        contenders = [_contender(entry, workshop, taken) for entry, taken in zip(entries, answers, strict=True)]
    return ScaleResult(
        items=items,
        dimensions=dimensions,
        users=users,
        kept=workshop.kept(),
        settings={**QUESTION, "rounds": rounds},
        device=machine.info(),
        contenders=tuple(contenders),
        left_out=tuple(left_out),
        started=started,
        finished=now(),
        command=command_of(items=items, dimensions=dimensions, users=users, rounds=rounds, only=only, peers=peers),
    )


def command_of(*, items: int, dimensions: int, users: int, rounds: int, only: Sequence[str], peers: bool) -> str:
    """What measures one size, as others type it."""
    words = ["--items", items, "--dimensions", dimensions, "--users", users, "--rounds", rounds]
    words += ["--peers"] if peers else []
    for name in only:
        words += ["--only", name]
    return f"python -m edgerec_bench.scale {shlex.join(map(str, words))}"


def _check(items: int, dimensions: int, users: int, rounds: int) -> None:
    if min(dimensions, users, rounds) < 1 or items < K:
        raise BenchError(f"dimensions, users and rounds must be 1 or more and items {K} or more")


def _make(
    workshop: Workshop, forms: Sequence[Form], progress: Progress | None
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The contenders that can be made, and the others with the reason."""
    entries, left_out = [], []
    for number, form in enumerate(forms):
        if progress:
            progress(f"writing {form.name}", number, len(forms))
        if form.most_items is not None and workshop.items > form.most_items:
            left_out.append((form.name, f"left out above {form.most_items:,} items: it decodes every row for a score"))
            continue
        try:
            entries.append(workshop.make(form))
        except (BenchError, MissingExtraError) as error:
            if form.kind != "peer" and form.rounded_to is None:
                raise
            left_out.append((form.name, str(error).removeprefix("the measuring process failed: ")))
    return entries, left_out


def _request(entry: Entry, workshop: Workshop) -> dict[str, Any]:
    calls = entry.form.effort(workshop.items)["calls"]
    return {**QUESTION, **entry.request, "calls": calls, "ask": workshop.asked(entry.form)}


def _contender(entry: Entry, workshop: Workshop, taken: list[dict[str, Any]]) -> Contender:
    form = entry.form
    share = _same_top(form, taken[0]["answers"], *workshop.best(form))
    pss: dict[str, int] = {}
    if form.kind == "bundle":
        opened = workshop.device.run({**QUESTION, **entry.request, **GRAPHS})["graphs"]
        pss = {name: memory["Pss"] * KIB for name, memory in opened.items() if "Pss" in memory}
    # Of another library, what it took before it opened its index stands for the bare session.
    measured = Measured.from_json({"processes": [{**one, "bare": one.get("imported", one["bare"])} for one in taken]})
    about = form.name, form.kind, form.tables, entry.nbytes, entry.apart
    return Contender(*about, share, measured, pss, entry.made_with)


def _same_top(form: Form, answers: list[list[int]], scores: NDArray[np.float32], limit: NDArray[np.float32]) -> float:
    """The share of answers whose exact score reaches the k-th best. Raises BenchError where an exact one misses."""
    items = np.array(answers)
    reached = np.take_along_axis(scores, items, 1) >= (limit - TOLERANCE * np.abs(scores).max(1))[:, None]
    distinct = all(np.unique(row).size == K for row in items)
    share = float(reached.mean())
    if form.exact and not (distinct and share == 1):
        raise BenchError(
            f"{form.name} returns {share:.2%} of numpy's best {K}; its speed means nothing, please report this"
        )
    return share


def profile(
    name: str, items: int, *, dimensions: int = 64, users: int = 1000, device: Device | None = None
) -> dict[str, Any]:
    """Milliseconds a call by operator of one bundle: what `agent.profile` returns.

    Raises BenchError for a name that is no bundle's, or where a process failed.
    """
    _check(items, dimensions, users, 1)
    form = forms_named([name])[-1]
    if form.kind != "bundle":
        raise BenchError(f"{form.name} is no bundle; give the name of one, such as 'mixed int8'")
    machine = device or Local()
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        entry = Workshop(items, dimensions, users, Path(scratch), machine).make(form)
        return machine.run({**QUESTION, **entry.request, "task": "profile", "calls": PROFILED_CALLS})

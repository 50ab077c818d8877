"""Build contenders from the same tables, and measure them interleaved."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.experiments.scale import peers as peers_agent
from bench.experiments.scale.contenders import BuiltContender, ContenderBuilder, ContenderSpec, K, contenders_named
from edgerec.errors import BenchError, MissingExtraError
from edgerec_bench.interleave import Progress, run_interleaved
from edgerec_bench.record import now
from edgerec_bench.result import KIB, Contender, Measured, ScaleResult
from edgerec_devices import Device, Local

TOLERANCE = 1e-5
"""Scores that differ by less than this, relative to the best, are ties: float32 sums depend on their order."""
CALL_SETTINGS = {
    "seconds": 0.5, "k": K, "exclude": 20, "history": 20, "candidates": [1, 50, 1000], "threads": 1, "seed": 0
}  # fmt: skip
GRAPHS = {"task": "graphs", "graphs": ["recommend", "score", "similar"], "calls": 5}
PROFILED_CALLS = 20
TIMEOUT = 3600.0
"""Seconds per process: building an approximate index of a million items takes minutes."""


class PeersDevice(Local):
    """This machine, with an agent that knows other libraries; without -P, since the checkout holds it."""

    program = ("-m", peers_agent.__name__)


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
    """Generate the tables, build the contenders, measure them interleaved and check their answers.

    Args:
        rounds: number of fresh processes of each contender.
        only: names of contenders to measure with the baseline; empty for all.
        peers: measure other libraries and other quantisers instead of EdgeRec's layouts.

    Raises:
        BenchError: a process failed, or an exact contender does not return numpy's best.
    """
    _check(items, dimensions, users, rounds)
    machine, started = device or PeersDevice(timeout=TIMEOUT), now()
    specs = contenders_named(only, peers=peers)
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        builder = ContenderBuilder(items, dimensions, users, Path(scratch), machine)
        entries, left_out = _build_all(builder, specs, progress)
        requests = [(entry.spec.name, _request(entry, builder)) for entry in entries]
        answers = run_interleaved(requests, rounds, machine, progress)
        contenders = [_contender(entry, builder, taken) for entry, taken in zip(entries, answers, strict=True)]
    return ScaleResult(
        items=items,
        dimensions=dimensions,
        users=users,
        densities=builder.densities(),
        settings={**CALL_SETTINGS, "rounds": rounds},
        device=machine.info(),
        contenders=tuple(contenders),
        left_out=tuple(left_out),
        started=started,
        finished=now(),
        command=command_of(items=items, dimensions=dimensions, users=users, rounds=rounds, only=only, peers=peers),
    )


def command_of(*, items: int, dimensions: int, users: int, rounds: int, only: Sequence[str], peers: bool) -> str:
    """Return the command line that measures one size."""
    words = ["--items", items, "--dimensions", dimensions, "--users", users, "--rounds", rounds]
    words += ["--peers"] if peers else []
    for name in only:
        words += ["--only", name]
    return f"python -m bench.experiments.scale {shlex.join(map(str, words))}"


def _check(items: int, dimensions: int, users: int, rounds: int) -> None:
    if min(dimensions, users, rounds) < 1 or items < K:
        raise BenchError(f"dimensions, users and rounds must be 1 or more and items {K} or more")


def _build_all(
    builder: ContenderBuilder, specs: Sequence[ContenderSpec], progress: Progress | None
) -> tuple[list[BuiltContender], list[tuple[str, str]]]:
    """Build the contenders; return them, and the names of those left out with the reason."""
    entries, left_out = [], []
    for number, spec in enumerate(specs):
        if progress:
            progress(f"writing {spec.name}", number, len(specs))
        if spec.most_items is not None and builder.items > spec.most_items:
            left_out.append((spec.name, f"left out above {spec.most_items:,} items: it decodes every row for a score"))
            continue
        try:
            entries.append(builder.build(spec))
        except (BenchError, MissingExtraError) as error:
            if spec.kind != "peer" and spec.rounded_to is None:
                raise
            left_out.append((spec.name, str(error).removeprefix("the measuring process failed: ")))
    return entries, left_out


def _request(entry: BuiltContender, builder: ContenderBuilder) -> dict[str, Any]:
    calls = entry.spec.effort(builder.items)["calls"]
    return {**CALL_SETTINGS, **entry.request, "calls": calls, "ask": builder.compared_users(entry.spec)}


def _contender(entry: BuiltContender, builder: ContenderBuilder, taken: list[dict[str, Any]]) -> Contender:
    spec = entry.spec
    share = _same_top(spec, taken[0]["answers"], *builder.best(spec))
    pss: dict[str, int] = {}
    if spec.kind == "bundle":
        opened = builder.device.run({**CALL_SETTINGS, **entry.request, **GRAPHS})["graphs"]
        pss = {name: memory["Pss"] * KIB for name, memory in opened.items() if "Pss" in memory}
    # For another library, the memory before it opened its index takes the role of the bare session.
    measured = Measured.from_json({"processes": [{**one, "bare": one.get("imported", one["bare"])} for one in taken]})
    about = spec.name, spec.kind, spec.tables, entry.nbytes, entry.excluded_nbytes
    return Contender(*about, share, measured, pss, entry.built_with)


def _same_top(
    spec: ContenderSpec, answers: list[list[int]], scores: NDArray[np.float32], limit: NDArray[np.float32]
) -> float:
    """Return the share of answers whose exact score reaches the k-th best. Raises BenchError if an exact one misses."""
    items = np.array(answers)
    reached = np.take_along_axis(scores, items, 1) >= (limit - TOLERANCE * np.abs(scores).max(1))[:, None]
    distinct = all(np.unique(row).size == K for row in items)
    share = float(reached.mean())
    if spec.exact and not (distinct and share == 1):
        raise BenchError(
            f"{spec.name} returns {share:.2%} of numpy's best {K}; its speed means nothing, please report this"
        )
    return share


def profile(
    name: str, items: int, *, dimensions: int = 64, users: int = 1000, device: Device | None = None
) -> dict[str, Any]:
    """Measure the milliseconds per call of each operator of a bundle; return the figures of `profile_bundle`.

    Raises BenchError if the name is not that of a bundle, or a process fails.
    """
    _check(items, dimensions, users, 1)
    spec = contenders_named([name])[-1]
    if spec.kind != "bundle":
        raise BenchError(f"{spec.name} is not a bundle; give the name of one, such as 'mixed int8'")
    machine = device or PeersDevice()
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        entry = ContenderBuilder(items, dimensions, users, Path(scratch), machine).build(spec)
        return machine.run({**CALL_SETTINGS, **entry.request, "task": "profile", "calls": PROFILED_CALLS})

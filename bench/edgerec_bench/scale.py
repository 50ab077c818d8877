"""A large synthetic catalogue against the dense model that most people would export, and against other libraries.

usage: python -m edgerec_bench.scale [--items 1000000] [--dimensions 64] [--users 1000] [--rounds 5] [--out result.json]
       python -m edgerec_bench.scale --peers [--items 100000]          other libraries and other roundings
       python -m edgerec_bench.scale --growth [--out growth.json]      from 10,000 to 10,000,000 items
       python -m edgerec_bench.scale --profile 'csc int8'              its time by operator
       python -m edgerec_bench.scale --show result.json [--markdown]   measured before; several --show as a growth

Every contender answers for the same users in fresh processes, one after the other in rounds, so that a drift of the
machine hits all alike. One thread, batch 1, k = 20. Bundles exclude 20 random items a call inside the graph; the plain
models and other libraries have nothing to exclude with, which favours them.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError, MissingExtraError
from edgerec_bench import scale_rows
from edgerec_bench.command import bench_command
from edgerec_bench.figures import Measured
from edgerec_bench.process import KIB
from edgerec_bench.record import now
from edgerec_bench.results_file import read_results, write_results
from edgerec_bench.scale_forms import RIVAL, Entry, Form, K, Workshop, forms_named
from edgerec_bench.scale_result import Contender, ScaleResult
from edgerec_bench.turns import Progress, measure_in_turns
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
GROWTH = (10_000, 100_000, 1_000_000, 10_000_000)


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
        only: names of contenders, beside the rival; all without any.
        peers: all are other libraries and other roundings, and a few bundles.

    Raises:
        BenchError: a process failed, or an fp32 contender does not return numpy's exact best.
    """
    _check(items, dimensions, users, rounds)
    machine, started = device or Local(timeout=TIMEOUT), now()
    forms = forms_named(only, peers=peers)
    with tempfile.TemporaryDirectory(prefix="edgerec-scale-") as scratch:
        workshop = Workshop(items, dimensions, users, Path(scratch), machine)
        entries, left_out = _make(workshop, forms, progress)
        requests = [(entry.form.name, _request(entry, workshop)) for entry in entries]
        answers = measure_in_turns(requests, rounds, machine, progress)
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
        command=_command(items=items, dimensions=dimensions, users=users, rounds=rounds, only=only, peers=peers),
    )


def _command(*, items: int, dimensions: int, users: int, rounds: int, only: Sequence[str], peers: bool) -> str:
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


@bench_command
@click.option("--items", default=1_000_000, show_default=True)
@click.option("--dimensions", default=64, show_default=True)
@click.option("--users", default=1000, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Fresh processes of each contender.")
@click.option("--only", multiple=True, metavar="NAME", help=f"A contender beside {RIVAL.name}; may be repeated.")
@click.option("--peers", is_flag=True, help="Other libraries and roundings: pip install 'edgerec[peers]'.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON.")
@click.option("--growth", is_flag=True, help=f"{GROWTH[0]:,} to {GROWTH[-1]:,} items one by one.")
@click.option("--profile", "profiled", metavar="NAME", help="Print onnxruntime's time by operator of a bundle.")
@click.option(
    "--show",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Print what was measured before; may be repeated.",
)
@click.option("--markdown", is_flag=True, help="Print the tables as the documentation has them.")
def main(
    out: Path | None, growth: bool, profiled: str | None, show: tuple[Path, ...], markdown: bool, **chosen: Any
) -> None:
    """Measure a large catalogue against the dense model that most people would export, or other libraries."""
    from edgerec_bench.console import print_profile

    if growth + bool(profiled) + bool(show) > 1:
        raise BenchError("--growth, --profile and --show are three things to do; give one of them")
    if profiled:
        print_profile(profiled, profile(profiled, **{name: chosen[name] for name in ("items", "dimensions", "users")}))
    elif show:
        _print([result for path in show for result in _kept(path)], markdown)
    else:
        _print(_measured(chosen, GROWTH if growth else (chosen["items"],), out), markdown)


def _measured(chosen: dict[str, Any], sizes: Sequence[int], out: Path | None) -> list[ScaleResult]:
    """Each size's result, in `out` as soon as it is there. Of several sizes, those that `out` holds are taken from it:
    the largest takes longest, and what was measured before it is kept."""
    from edgerec_bench.console import show_progress

    before = {result.command: result for result in _kept(out)} if out and out.exists() and len(sizes) > 1 else {}
    results: list[ScaleResult] = []
    for items in sizes:
        wanted = {**chosen, "items": items}
        result = before.get(_command(**wanted))
        if result is None:
            with show_progress("making the tables") as progress:
                result = compare(**wanted, progress=progress)
        results.append(result)
        if out:
            write_results(out, results)
    return results


def _kept(path: Path) -> list[ScaleResult]:
    return [result for result in read_results(path) if isinstance(result, ScaleResult)]


def _print(results: Sequence[ScaleResult], markdown: bool) -> None:
    from edgerec_bench.console import print_growth, print_scale

    if len(results) > 1:
        print_growth(results, markdown=markdown)
    for result in results if len(results) == 1 else ():
        if markdown and "--peers" in result.command.split():
            sys.stdout.write(
                scale_rows.markdown(scale_rows.PEERS, scale_rows.scale_rows(result, scale_rows.PEERS)) + "\n"
            )
        else:
            print_scale(result, markdown=markdown)


if __name__ == "__main__":
    main()

"""Upper limit of the gain from sizes in a stream: random actions of SCALL, each evaluated on every segment.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.stream_hindsight --data ml-100k --budget 10% --out result.json

The same actions are evaluated on the test part of each segment after the first, relative to equal sizes (the mean of
Recall@20 and NDCG@20, iALS trained from scratch on all known interactions). The figures are the best action of each
segment, the best over all segments, and the agreement of consecutive segments: whether the best action of one segment
is good in the next.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import mean
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.streams import DIMENSIONS, HOLDOUT, SEGMENTS
from edgerec.console import messages, print_facts
from edgerec.data import StreamSpec, load_data, stream
from edgerec.methods.stream.policy import SegmentContext
from edgerec.methods.stream.scall import SizeAction
from edgerec.methods.stream.warm_start import PastSegment
from edgerec.streaming import StreamRequest


def measure(data: str, budget: str, actions: int) -> dict[str, Any]:
    """Return the ratios (segments, actions) to equal sizes, with the figures that summarise them."""
    spec = StreamSpec.parse(SEGMENTS, holdout=HOLDOUT)
    request = StreamRequest.make("ials", "uniform", budget=budget, dimensions=DIMENSIONS, segments=spec, threads=1)
    drawn = [SizeAction.of(action) for action in np.random.default_rng(0).random((actions, 3))]
    ratios = []
    for segment in stream(load_data(data), request.spec):
        if segment.number == 0:
            continue
        messages.print(f"segment {segment.number}")
        context = SegmentContext(segment, request.size_budget(segment.known), None)
        evaluate = PastSegment(request.training, segment, None).evaluate
        equal = evaluate(context.uniform_sizes()).mean()
        ratios.append([float(evaluate(action.plan(context)).mean() / equal) for action in drawn])
    return report(np.array(ratios), drawn)


def report(ratios: np.ndarray[Any, np.dtype[np.float64]], drawn: list[SizeAction]) -> dict[str, Any]:
    """Summarise the ratios (segments, actions)."""
    best = int(ratios.mean(0).argmax())
    return {
        "best_of_each_segment": ratios.max(1).tolist(),
        "best_of_all": {"ratio": float(ratios.mean(0)[best]), "action": drawn[best].to_json()},
        "best_of_the_segment_before": [float(then[now.argmax()]) for now, then in pairwise(ratios)],
        "correlation_with_the_next": [float(np.corrcoef(now, then)[0, 1]) for now, then in pairwise(ratios)],
        "ratios": ratios.tolist(),
    }


COLUMNS = ("data", "best of each segment", "best of all segments", "best of the segment before", "agreement")


def cells(data: str, figures: dict[str, Any]) -> list[str]:
    """Format the means over the segments as table cells; agreement is the mean correlation of the last four pairs of
    segments, which have enough users."""
    ratios = [mean(figures["best_of_each_segment"]), figures["best_of_all"]["ratio"]]
    ratios.append(mean(figures["best_of_the_segment_before"]))
    return [data, *(f"{ratio - 1:+.1%}" for ratio in ratios), f"{mean(figures['correlation_with_the_next'][-4:]):.2f}"]


@experiment("stream-hindsight")
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--budget", default="10%", show_default=True, help="Size limit of the tables.")
@click.option("--actions", type=click.IntRange(2), default=24, show_default=True, help="Number of random actions.")
def main(data: str, budget: str, actions: int) -> Figures:
    """Evaluate random actions on every segment of a stream."""
    figures = measure(data, budget, actions)
    print_facts(f"{data}, {budget}", {name: str(value) for name, value in figures.items() if name != "ratios"})
    return figures


if __name__ == "__main__":
    main()

"""Conditions that make a comparison fail: 'p50 > 1.1x'."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgerec.errors import BenchError
from edgerec_bench.changes import Change, Comparison

GRAMMAR = re.compile(r"\s*(?P<figure>[a-z][a-z0-9 ]*?)\s*>\s*(?P<times>\d+(\.\d+)?)\s*x\s*")


@dataclass(frozen=True)
class Limit:
    """A figure, and the ratio to the base that it must not surely exceed."""

    figure: str
    times: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read 'FIGURE > NUMBERx'. Raises BenchError where it is anything else."""
        match = GRAMMAR.fullmatch(text)
        if match is None or float(match["times"]) == 0:
            raise BenchError(f"{text!r} is no condition; write FIGURE > NUMBERx, such as 'p50 > 1.1x'")
        return cls(match["figure"], float(match["times"]))

    def __str__(self) -> str:
        return f"{self.figure} > {self.times:g}x"

    def change(self, comparison: Comparison) -> Change:
        """The change that the limit is about. Raises BenchError where the comparison has no such figure."""
        for change in comparison.changes:
            if change.figure == self.figure:
                return change
        known = ", ".join(change.figure for change in comparison.changes)
        raise BenchError(f"no figure {self.figure!r} in both results of {comparison.new}; there is {known}")

    def exceeded(self, comparison: Comparison) -> bool:
        """Whether the whole interval lies above the limit, by more than the same thing may differ there."""
        change = self.change(comparison)
        return change.interval.low > self.times * change.allowed


def failures(limits: Sequence[Limit], comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each limit that a bundle exceeds. Raises BenchError for a figure that is not compared."""
    return [
        f"{comparison.new}: {limit} holds: {(ratio := limit.change(comparison).interval).ratio:.3f}x, "
        f"at least {ratio.low:.3f}x"
        for comparison in comparisons
        for limit in limits
        if limit.exceeded(comparison)
    ]

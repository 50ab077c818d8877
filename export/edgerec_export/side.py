"""A planned table at its place: the pieces from which graphs are made."""

from __future__ import annotations

from dataclasses import dataclass

from edgerec_export.flat import Rows
from edgerec_export.graph import Graph, Name
from edgerec_export.layouts.base import Placed, Plan


@dataclass(frozen=True)
class Side:
    """A table with its place: the pieces from which graphs are made."""

    plan: Plan
    placed: Placed

    def add_rows(self, g: Graph, rows: Name) -> Rows:
        return self.plan.add_rows(g, self.placed, rows)

    def add_scores(self, g: Graph, user: Rows, blocks: range | None = None) -> list[Name]:
        return self.plan.add_scores(g, self.placed, user, blocks)

    def add_scale(self, g: Graph, sums: Name, user: Rows) -> Name:
        """What some of the scores are worth: [B, k], of the type of sums or float32  ->  [B, k] float32."""
        if self.plan.has_one_scale and self.placed.scales is not None:
            sums = g.op("Mul", g.cast(sums, "float32"), g.constant(self.placed.scales[0], "float32"))
        return sums if user.scale is None else g.op("Mul", sums, user.scale)

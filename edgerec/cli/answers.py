"""Recommended items, printed as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from edgerec.cli.output import print_json
from edgerec.console import print_table
from edgerec.runtime import Recommendation, Recommender


def show_answers(model: Recommender, answers: Sequence[Recommendation], as_json: bool) -> None:
    """Print items (rows if the bundle has no ids) with their scores, and their titles if the bundle has any."""
    kind = "row" if model.manifest.items.ids == "none" else "item"
    if as_json:
        print_json([{"item": a.item, "score": a.score, "title": model.title(a.item)} for a in answers])
        return
    rows = [[place, a.item, f"{a.score:.4f}", model.title(a.item)] for place, a in enumerate(answers, 1)]
    if all(row[3] is None for row in rows):
        print_table("", ["", kind, "score"], [row[:3] for row in rows])
    else:
        print_table("", ["", kind, "score", "title"], rows)

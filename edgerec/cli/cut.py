"""What was lost where training did not cut vectors and what ships is cut (`--mask-at ego`): numbers, and for people."""

from __future__ import annotations

from typing import Any

from edgerec.training import Run
from edgerec.training.fit import SELECTION


def cut_of(run: Run) -> dict[str, Any] | None:
    """The share of the squared norm that the cut kept, and the test score before and after it; None where nothing was
    cut after training. Runs of older versions do not know the score before."""
    kept = run.metrics.get("training", {}).get("kept")
    if kept is None:
        return None
    return {
        "kept": kept,
        "before": run.metrics.get("uncut", {}).get(SELECTION),
        "after": run.metrics["test"][SELECTION],
    }


def cut_text(cut: dict[str, Any]) -> str:
    """For people."""
    before = "" if cut["before"] is None else f" {cut['before']:.4f} before,"
    lost = f"{1 - cut['kept']:.2%} of the propagated tables' squared norm lost"
    return f"{lost}; test {SELECTION}{before} {cut['after']:.4f} after"

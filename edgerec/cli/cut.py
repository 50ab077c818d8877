"""What was lost where training did not cut vectors and what ships is cut (`--mask-at ego`): numbers, and for people."""

from __future__ import annotations

from typing import Any

from edgerec.training import Run
from edgerec.training.fit import SELECTION


def cut_of(run: Run) -> dict[str, Any] | None:
    """The share of the squared norm that the cut kept, and the validation score after it where something was held
    back; None where nothing was cut after training. The score before the cut is not measured."""
    kept = run.metrics.get("training", {}).get("kept")
    return None if kept is None else {"kept": kept, SELECTION: run.metrics.get("validation", {}).get(SELECTION)}


def cut_text(cut: dict[str, Any]) -> str:
    """For people."""
    score = "" if cut[SELECTION] is None else f"; validation {SELECTION} of what is left {cut[SELECTION]:.4f}"
    return f"{1 - cut['kept']:.2%} of the propagated tables' squared norm lost{score}"

"""Training of a backbone within sizes, checkpoints, and runs."""

from edgerec.training.checkpoint import SEARCH, Checkpoint, Snapshot
from edgerec.training.fit import SELECTION, Fit, FitOptions, FitResult, Progress, Start, Step, shared_start, validate
from edgerec.training.run import Run

__all__ = [
    "SEARCH",
    "SELECTION",
    "Checkpoint",
    "Fit",
    "FitOptions",
    "FitResult",
    "Progress",
    "Run",
    "Snapshot",
    "Start",
    "Step",
    "shared_start",
    "validate",
]

"""Fitting a backbone within sizes, and the run that it leaves."""

from edgerec.training.checkpoint import Checkpoint
from edgerec.training.fit import Fit, FitOptions, FitResult, Progress, Start, Step, validate
from edgerec.training.run import Run

__all__ = ["Checkpoint", "Fit", "FitOptions", "FitResult", "Progress", "Run", "Start", "Step", "validate"]

"""Fitting a backbone, and the run that it leaves."""

from edgerec.training.run import Run

__all__ = ["Run"]

"""`edgerec.fit`: the best bundle within a size, found by training, exporting and measuring."""

from edgerec.fitting.again import Refitted, fit_again
from edgerec.fitting.fit import METRICS, Fitted, check_out, fit, trials_folder
from edgerec.fitting.recipes import Recipe, Variant
from edgerec.fitting.search import FitProgress
from edgerec.fitting.study import Exported, FitTrial, Study

__all__ = [
    "METRICS",
    "Exported",
    "FitProgress",
    "FitTrial",
    "Fitted",
    "Recipe",
    "Refitted",
    "Study",
    "Variant",
    "check_out",
    "fit",
    "fit_again",
    "trials_folder",
]

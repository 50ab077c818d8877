"""From a bundle and a device to figures: measured in fresh processes, kept as results, compared on one page.

Names are resolved on first use: the agent lives in this package and must load nothing that it does not measure.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgerec_bench.changes import compare
    from edgerec_bench.measure import bench, bench_all
    from edgerec_bench.page import report
    from edgerec_bench.result import Result, Settings
    from edgerec_bench.results_file import read_results, write_results

_HOME = {
    "Result": "edgerec_bench.result",
    "Settings": "edgerec_bench.result",
    "bench": "edgerec_bench.measure",
    "bench_all": "edgerec_bench.measure",
    "compare": "edgerec_bench.changes",
    "read_results": "edgerec_bench.results_file",
    "report": "edgerec_bench.page",
    "write_results": "edgerec_bench.results_file",
}

__all__ = ["Result", "Settings", "bench", "bench_all", "compare", "read_results", "report", "write_results"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edgerec_bench' has no attribute {name!r}")

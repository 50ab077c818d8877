"""Benchmarks of bundles on devices: measure in fresh processes, store results, compare and report them.

Names are resolved on first use, so that reading a result loads no exporter and measuring loads no charts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgerec_bench.comparison import compare
    from edgerec_bench.measure import bench_all, bench_request
    from edgerec_bench.reports.page import report
    from edgerec_bench.result import Result, Settings, read_results, write_results

_HOME = {
    "Result": "edgerec_bench.result.result",
    "Settings": "edgerec_bench.result.result",
    "bench": "edgerec_bench.measure",
    "bench_all": "edgerec_bench.measure",
    "bench_request": "edgerec_bench.measure",
    "compare": "edgerec_bench.comparison",
    "read_results": "edgerec_bench.result.file",
    "report": "edgerec_bench.reports.page",
    "write_results": "edgerec_bench.result.file",
}

__all__ = [
    "Result",
    "Settings",
    "bench",
    "bench_all",
    "bench_request",
    "compare",
    "read_results",
    "report",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edgerec_bench' has no attribute {name!r}")

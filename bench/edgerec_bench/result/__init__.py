"""Results, the fourth artefact: written by bench, read again, and formatted as table rows."""

from __future__ import annotations

from edgerec_bench.result.figures import CONTESTED, STREAM_SECONDS, Measured, calls_needed, more_processes
from edgerec_bench.result.file import AnyResult, read_results, schema, write_results
from edgerec_bench.result.process import CLOCKS, INSTRUCTIONS, KIB, TIME, Clock, Process, clock_of
from edgerec_bench.result.result import FORMAT, SCENARIOS, USUAL, BundleFacts, Result, Settings
from edgerec_bench.result.scale import (
    COLUMNS,
    MORE,
    NOTES,
    SPEED,
    Contender,
    ScaleResult,
    heading,
    markdown,
    scale_rows,
    scale_warnings,
    short_ms,
    short_ratio,
)
from edgerec_bench.result.side_by_side import (
    Line,
    answered_by,
    differences,
    lines,
    milliseconds,
    reference,
    shown,
    unlike_devices,
    with_unique_names,
)

__all__ = [
    "CLOCKS",
    "COLUMNS",
    "CONTESTED",
    "FORMAT",
    "INSTRUCTIONS",
    "KIB",
    "MORE",
    "NOTES",
    "SCENARIOS",
    "SPEED",
    "STREAM_SECONDS",
    "TIME",
    "USUAL",
    "AnyResult",
    "BundleFacts",
    "Clock",
    "Contender",
    "Line",
    "Measured",
    "Process",
    "Result",
    "ScaleResult",
    "Settings",
    "answered_by",
    "calls_needed",
    "clock_of",
    "differences",
    "heading",
    "lines",
    "markdown",
    "milliseconds",
    "more_processes",
    "read_results",
    "reference",
    "scale_rows",
    "scale_warnings",
    "schema",
    "short_ms",
    "short_ratio",
    "shown",
    "unlike_devices",
    "with_unique_names",
    "write_results",
]

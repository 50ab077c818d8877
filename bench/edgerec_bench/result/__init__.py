"""Results, the fourth artefact: written by bench, read again, and formatted as table rows."""

from __future__ import annotations

from edgerec_bench.result.figures import CONTESTED, STREAM_SECONDS, Measured, calls_needed, more_processes
from edgerec_bench.result.file import AnyResult, read_results, schema, write_results
from edgerec_bench.result.process import CLOCKS, INSTRUCTIONS, KIB, TIME, Clock, Process, clock_of
from edgerec_bench.result.result import FORMAT, SCENARIOS, USUAL, BundleFacts, Result, Settings
from edgerec_bench.result.scale import Contender, ScaleResult, targets
from edgerec_bench.result.scale_table import (
    COLUMNS,
    MORE,
    NOTES,
    PEERS,
    PROFILE_COLUMNS,
    SHORT,
    SPEED,
    growth_columns,
    growth_rows,
    heading,
    markdown,
    profile_rows,
    scale_rows,
    scale_warnings,
)
from edgerec_bench.result.side_by_side import (
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
    "PEERS",
    "PROFILE_COLUMNS",
    "SCENARIOS",
    "SHORT",
    "SPEED",
    "STREAM_SECONDS",
    "TIME",
    "USUAL",
    "AnyResult",
    "BundleFacts",
    "Clock",
    "Contender",
    "Measured",
    "Process",
    "Result",
    "ScaleResult",
    "Settings",
    "calls_needed",
    "clock_of",
    "differences",
    "growth_columns",
    "growth_rows",
    "heading",
    "lines",
    "markdown",
    "milliseconds",
    "more_processes",
    "profile_rows",
    "read_results",
    "reference",
    "scale_rows",
    "scale_warnings",
    "schema",
    "shown",
    "targets",
    "unlike_devices",
    "with_unique_names",
    "write_results",
]

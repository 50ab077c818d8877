"""From one result to the next: ratios, how sure they are, and conditions that fail."""

from __future__ import annotations

from edgerec_bench.comparison.changes import UNSTABLE, Change, Comparison, Limit, compare, failures

__all__ = ["UNSTABLE", "Change", "Comparison", "Limit", "compare", "failures"]

"""Comparison of two results: ratios with confidence intervals, and conditions on them."""

from __future__ import annotations

from edgerec_bench.comparison.changes import UNSTABLE, Change, Comparison, Limit, compare, failures

__all__ = ["UNSTABLE", "Change", "Comparison", "Limit", "compare", "failures"]

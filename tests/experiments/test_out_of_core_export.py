"""A table in a file is exported without coming into memory whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiments.out_of_core_export import export_isolated, write_table

HAS_PROC = Path("/proc/self/status").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PROC, reason="peak memory is read from /proc")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_peak_memory_hardly_grows_with_the_table(precision: str, tmp_path: Path) -> None:
    """Parts of the table, ids and a number or two a row are in memory at once; 77 MB more of table are not."""
    peaks = []
    for items in (300_000, 600_000):
        table = tmp_path / f"{items}.npy"
        write_table(table, items, 64)
        done = export_isolated(table, tmp_path / f"{items}.bundle", "dense", precision)
        assert done["max_error"] < 1e-3
        peaks.append(done["peak_bytes"])
    assert peaks[1] - peaks[0] < 0.6 * 4 * 64 * 300_000

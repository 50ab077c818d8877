"""The process of one grid cell, started by `run_grid`."""

from __future__ import annotations

import sys
from pathlib import Path

from edgerec_bench.grid.rows import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""One cell of a grid, in a process of its own: `run_grid` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from edgerec_bench.grid.rows import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

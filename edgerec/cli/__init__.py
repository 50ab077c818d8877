"""The command line: it parses, calls the Python API and prints; it decides nothing of its own."""

from __future__ import annotations

import sys

from edgerec.errors import EdgeRecError
from edgerec.extras import require


def main() -> None:
    """Run `edgerec`. A user's error is one line on standard error and status 2; Ctrl-C is status 130."""
    try:
        require("click", "cli")
        require("rich", "cli")
        from edgerec.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    except EdgeRecError as error:
        sys.stderr.write(f"Error: {error}\n")
        status = 2
    sys.exit(status)

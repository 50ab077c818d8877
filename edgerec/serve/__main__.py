"""`python -m edgerec.serve`: the command 'edgerec serve' without click, for the runtime alone."""

from __future__ import annotations

import sys
from functools import partial

from edgerec.errors import EdgeRecError
from edgerec.serve import serve
from edgerec.serve.settings import parsed


def main() -> int:
    """Run the server, and return the exit status."""
    try:
        serve(parsed(), partial(print, flush=True))
    except EdgeRecError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m edgerec.cli`: the same as `edgerec`."""

from edgerec.cli import main

main()

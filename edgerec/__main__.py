"""`python -m edgerec`: the same as `edgerec`, so that torchrun starts its ranks by `-m edgerec`."""

from edgerec.cli import main

main()

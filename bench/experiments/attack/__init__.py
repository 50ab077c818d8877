"""An attack on EdgeRec by someone who has only the specification and the command line.

`python -m bench.experiments.attack tables --out tables.json` from the root of the repository; also `commands`,
`mutants` and `summary`. Nothing here imports the exporter's or the runtime's internals: `oracle` decodes a bundle by
docs/reference/bundle.md alone.
"""

MOST_MESSAGE = 2200
"""Characters of a message of ours, by docs/reference/security.md."""

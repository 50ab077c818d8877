"""Experiments: one file per figure of the documentation, run as `python -m bench.experiments.NAME` in a checkout."""

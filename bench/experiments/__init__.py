"""Experiments: one file a figure of the documentation, each run as `python -m bench.experiments.NAME` in a checkout."""

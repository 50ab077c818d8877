"""Searching sizes: actions are judged by short trainings, and the best are trained in full."""

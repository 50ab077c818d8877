"""CIESS: a continuous search of each row's size by reinforcement learning."""

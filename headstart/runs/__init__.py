"""Whole runs: the stages in order over a run folder. `fit` makes one, `evaluate` looks at a saved model."""

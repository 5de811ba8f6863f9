"""A training run: from options to a run, and the loop."""

"""A training run: steps, clock, state on disk, log and plots."""

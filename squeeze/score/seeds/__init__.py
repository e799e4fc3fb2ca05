"""Seeds of a run: means, spread, and tests of the difference between two runs."""

"""Calibration tokens: written by the model, read from a corpus, or drawn at random."""

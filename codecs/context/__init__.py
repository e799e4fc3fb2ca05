"""Adaptive context models of weight indices and of words, over the range coder."""

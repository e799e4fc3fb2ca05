"""Taps: which part of which parameter every product of a forward uses, however it is written."""

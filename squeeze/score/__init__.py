"""Scoring in bits per byte."""

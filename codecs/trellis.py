"""Entropy-coded trellis quantization. Tables first; see docs/trellis.md for the theory."""

from squeeze.codecs.trellis_tables import next_states, supersets

__all__ = ["next_states", "supersets"]

"""Proof by decoding: text through a packed model and back."""

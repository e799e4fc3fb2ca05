"""Allocation of bits to rows, columns and matrices, down to a byte limit."""

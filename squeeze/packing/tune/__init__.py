"""Packing with training between the rounding of one share of the matrices and of the next."""

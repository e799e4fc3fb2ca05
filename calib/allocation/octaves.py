"""Rates of a rate–loss curve, as multiples of the scale a matrix is quantized with.

Loads nothing, so that a question about other bits (`squeeze.views.what_if`) is answered at once.
"""

# Powers of two, coarse first.
OCTAVES = (
    4.0,
    3.0,
    2.0,
    1.0,
    0.5,
    0.0,
    -0.5,
    -1.0,
    -2.0,
    -3.0,
    -4.0,
)

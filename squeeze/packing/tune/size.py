"""How large updates may be: smaller ones are tried as long as they gain more.

The usual size, a share of the weights, is too large for some models: wide ones, whose updates add up
over more inputs, and those with hardly an error to make up for (docs/log.md). A few updates show it.
"""

from __future__ import annotations

from squeeze.calib.tuning.distil import Course
from squeeze.packing.tune.student import Student

TRIED = 12  # updates of a trial
SMALLER = 0.3  # from a size to the next
SIZES = 5
UPDATES = 2 * (TRIED + 1)  # of all trials where the usual size is best


def size_of(student: Student, tokens: int, bits: float) -> float:
    """Return the size of updates that gains most, in usual sizes; the student is afterwards as it was.

    tokens: of an update
    bits: a weight, of the file
    """
    weights = student.weights
    best, least = 1.0, float("inf")
    for size in (SMALLER**n for n in range(SIZES)):
        student.learn_(Course(TRIED, tokens), bits, size)
        # the same first batch once more, before anything learns from it
        left = student.learn_(Course(1, tokens), bits, size).first
        student.take_(weights)
        if left >= least:
            break
        best, least = size, left
    return best

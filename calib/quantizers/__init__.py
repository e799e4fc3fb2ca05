"""Quantizers of one matrix: rounding, GPTQ, trellis GPTQ, floats of fewer bits."""

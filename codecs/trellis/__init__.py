"""Trellis quantization: tables of the code, search, rates, and the plain reference."""

"""Optimizers, averages of weights, quantization-aware training, and the recipe that sets them."""

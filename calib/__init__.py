"""Where to spend bits: quantizers and the weights unit they produce."""

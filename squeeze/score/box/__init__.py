"""A box that a strange program runs in: processes, files, memory and network of its own."""

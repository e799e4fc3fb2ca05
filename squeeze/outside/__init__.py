"""Files of others taken apart, byte by byte: exports, checkpoints, self-extracting scripts.

Nothing in them is executed or unpickled; neither torch nor numba is loaded.
"""

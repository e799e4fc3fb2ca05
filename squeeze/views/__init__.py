"""The ledger as people look at it: a tree, a difference, a question, a page. No torch, no numba."""

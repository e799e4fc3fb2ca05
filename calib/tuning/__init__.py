"""Training of a model whose weights are partly rounded, toward the model it was rounded from."""

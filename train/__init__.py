"""Model, optimizers, data and the training loop."""

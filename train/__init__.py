"""Our own model and its training: model, optimizers, data, runs. Imports nothing of calib or codecs."""

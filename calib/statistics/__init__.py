"""Statistics of a model over calibration tokens: Hessians of inputs, gradients of outputs."""

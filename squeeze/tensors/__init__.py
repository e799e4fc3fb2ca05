"""The weights unit: float formats and quantized tensors, shared by packer, reader and evaluator."""

"""Weights of llama2.c model files, under the names of the challenge; int8 groups become float32."""

from __future__ import annotations

import numpy as np

from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.torch_files import Weights
from squeeze.outside import llama_bin
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor

ROPE = "rope."  # begins the names of tables that every reader computes


def looks(data: memoryview) -> bool:
    """Return whether a file is one of llama2.c, of any version."""
    return bytes(data[:4]) == llama_bin.MAGIC or llama_bin.shape_of(data) is not None


def read_llama(data: memoryview, name: str) -> Weights:
    """Return the weights of a file. Raises CorruptData or UnsupportedFormat."""
    plain = llama_bin.read(data, name)
    shape = llama_bin.shape_in(data)
    values: dict[str, Float32] = {}
    for piece in plain.pieces:
        octets = data[piece.start : piece.start + piece.size]
        if piece.kind == "codes":
            values[piece.tensor] = np.frombuffer(octets, np.int8).astype(np.float32)
        elif piece.kind == "step.fp32":
            # a scale follows the codes of each group
            codes, steps = values[piece.tensor], np.frombuffer(octets, "<f4")
            values[piece.tensor] = (codes.reshape(len(steps), -1) * steps[:, None]).ravel()
        elif piece.tensor and not piece.tensor.startswith(ROPE):
            values[piece.tensor] = np.frombuffer(octets, "<f4").astype(np.float32)
    tensors: dict[str, Tensor] = {
        tensor: RawTensor(to_bits(array, "fp32").reshape(shape.of_tensor(tensor)), "fp32")
        for tensor, array in values.items()
    }
    return Weights(tensors, plain.format, [f"a model of llama2.c, {shape.heads} heads"])

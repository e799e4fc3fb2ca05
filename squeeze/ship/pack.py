"""Packer for a script that ships it: a model just trained to an artifact under a byte limit.

    data = pack(model, (model(x, y) for x, y in batches), limit=16_000_000 - len(code))

It follows `squeeze.pack` in what costs few bytes of code: importance is from the training loss, the rows
of a matrix do not make up for each other, and one scale of all matrices is searched until the file fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from squeeze.artifact.layout import StreamRecord, TensorRecord
from squeeze.artifact.streams import Artifact, Coded, Symbols, encode_with, in_order
from squeeze.calib.allocation.waterfill import STEP_FORMAT, Steps, expected_bits, waterfill
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import Factor, factorize
from squeeze.codecs.context.codec import Context
from squeeze.codecs.context.words import ContextWords
from squeeze.errors import OverBudget
from squeeze.ship.uses import Moments, Uses, uses_of
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor

SMALL = 1024  # tensors of fewer weights stay floats
WIDEST = 8192  # columns of a matrix that no product is known of
LARGEST_HALF = 6e4
SCOUT_STATES = 8  # of the trellis as long as the file is far from the limit
NEAR, CLOSE = 1e-3, 1e-5  # shares of the limit that a file may leave, while scouting and at last
TRIALS = 12
FEW = 64  # bytes that a file may leave at any limit
FINEST, COARSEST = -60.0, 60.0  # octaves of the scale
LARGEST = 2.0  # octaves between two trials
MOST_BITS = 11.0  # a weight
LEAST = 1e-30  # importance


@dataclass(frozen=True)
class Matrix:
    """A matrix to quantize: weights [R, C], the factor of its inputs, the importance of its rows."""

    weights: Float32
    factor: Factor
    importance: Float32

    def steps(self, octave: float) -> Steps:
        """Return the water-filled steps at the scale 2^octave."""
        return waterfill(self.weights, self.factor, self.importance, 2.0**octave)


@dataclass(frozen=True)
class Contents:
    """Contents of a file that is to be: matrices and floats by name, and the header."""

    matrices: dict[str, Matrix]
    floats: dict[str, RawTensor]
    header: dict[str, Any]

    @property
    def weights(self) -> int:
        """Number of weights of all matrices."""
        return sum(matrix.weights.size for matrix in self.matrices.values())

    def file(self, octave: float, states: int) -> bytes:
        """Return the file whose matrices are quantized at the scale 2^octave."""

        def quantized(matrix: Matrix) -> Any:
            steps = matrix.steps(octave)
            options = TrellisOptions(n_states=states, step_format=STEP_FORMAT)
            return trellis_gptq(
                matrix.weights, matrix.factor, steps.rows, steps.columns, options
            ).tensor

        tensors = in_order(quantized, list(self.matrices.values()))
        every = {**self.floats, **dict(zip(self.matrices, tensors, strict=True))}
        return encode_with(Artifact(self.header, every), _coded)

    def estimate(self, octave: float) -> float:
        """Return roughly the bytes of the matrices at the scale 2^octave."""
        bits = 0.0
        for matrix in self.matrices.values():
            bits += expected_bits(matrix.weights, matrix.steps(octave))
        return bits / 8


def pack(module: nn.Module, losses: Iterable[Tensor], limit: int, states: int = 32) -> bytes:
    """Return a model as an artifact of at most `limit` bytes, on every rank of a process group.

    module: uncompiled, as `squeeze.ship.decode.load_into` will fill it
    losses: mean losses of batches of text, as `model(x, y)` of the training gives them, each computed
        when it is asked for; on every rank other text, some 100,000 tokens in all
    states: of the trellis; 8 take half the time and need 0.02 bit a weight more

    Raises OverBudget when nothing fits.
    """
    uses = uses_of(module, losses)
    results: list[Any] = [None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            results = [_fitted(contents_of(module, uses), limit, states)]
        except Exception as error:
            results = [error]
    if dist.is_initialized():
        dist.broadcast_object_list(results)
    if isinstance(results[0], Exception):
        raise results[0]
    data: bytes = results[0]
    return data


def contents_of(module: nn.Module, uses: Uses) -> Contents:
    """Return what the file of a module will hold."""
    contents = Contents({}, {}, {})
    parts: dict[str, Any] = {}
    tied: dict[str, str] = {}
    names: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if names.setdefault(id(tensor), name) != name:
            tied[name] = names[id(tensor)]
        elif tensor.dim() < 2 or tensor.numel() < SMALL:
            values = _numpy(tensor)
            number = "fp16" if np.abs(values).max(initial=0) < LARGEST_HALF else "fp32"
            contents.floats[name] = RawTensor(to_bits(values, number), number)
        else:
            places = _matrices(tensor, uses.moments.get(name, {}), uses.squares.get(name))
            plain = places[0][0].shape == tensor.shape and places[0][0].is_contiguous()
            slices = []
            for at, (view, matrix) in enumerate(places):
                contents.matrices[name if plain else f"{name}[{at}]"] = matrix
                axes = [[axis] for axis in zip(view.shape, view.stride(), strict=True)]
                slices.append([view.storage_offset(), *axes])
            if not plain:
                parts[name] = [list(tensor.shape), slices]
    for key, field in (("parts", parts), ("tied", tied)):
        if field:
            contents.header[key] = field
    return contents


def _matrices(
    tensor: Tensor, moments: dict[Any, Moments], squares: Tensor | None
) -> list[tuple[Tensor, Matrix]]:
    """Return the matrices that make up a tensor, each with where it lies: a view of the shape's zeros.

    Of a tensor that the known products do not make up only the squares of its gradients count.
    """
    counts, first = torch.zeros(tensor.shape), tensor.storage_offset()
    places = []
    for use in moments.values():
        view, own = counts, use.weights
        view = counts.as_strided(own.shape, own.stride(), own.storage_offset() - first)
        view += 1
        mean = use.inputs / use.count.clamp_min(1)
        energy = float(mean.diagonal().mean())
        rows = use.outputs + use.lookups / (energy or 1.0)
        factor = factorize(_numpy(mean))
        places.append((view, Matrix(_numpy(own), factor, _numpy(rows.clamp_min(LEAST)))))
    if tensor.is_contiguous() and bool((counts == 1).all()):
        return places
    width = tensor[0].numel() if tensor[0].numel() <= WIDEST else tensor.size(-1)
    white = Factor(np.arange(width), np.eye(width), np.zeros(width, np.bool_))
    squares = torch.ones(tensor.shape) if squares is None else squares
    rows = squares.reshape(-1, width).mean(1).clamp_min(LEAST)
    matrix = Matrix(_numpy(tensor).reshape(-1, width), white, _numpy(rows))
    return [(counts if tensor.dim() == 2 else counts.view(-1, width), matrix)]


def _fitted(contents: Contents, limit: int, states: int) -> bytes:
    """Return the largest file under the limit that a few trials find. Raises OverBudget."""
    rest = sum(tensor.bits.nbytes for tensor in contents.floats.values())
    most = min(limit, int(MOST_BITS * contents.weights / 8) + rest)
    low, octave = FINEST, COARSEST
    while octave - low > 1 / 64:
        middle = (low + octave) / 2
        if contents.estimate(middle) + rest > most:
            low = middle
        else:
            octave = middle
    octave, _ = _searched(contents, octave, most, min(SCOUT_STATES, states), NEAR)
    _, data = _searched(contents, octave, most, states, CLOSE)
    if not data:
        raise OverBudget("nothing fits this limit", expected=f"{limit:,} bytes")
    return data


def _searched(
    contents: Contents, octave: float, limit: int, states: int, share: float
) -> tuple[float, bytes]:
    """Return the octave of the last trial, and the largest file under the limit, b"" for none.

    share: of the limit that a file may leave
    """
    best, aim = b"", limit * (1 - share / 2)
    over: list[tuple[float, int]] = []
    under: list[tuple[float, int]] = []
    for _ in range(TRIALS):
        data = contents.file(octave, states)
        size = len(data)
        (under if size <= limit else over).append((octave, size))
        if len(best) < size <= limit:
            best = data
        if abs(size - aim) <= max(share * limit, FEW) / 2 and (best or share == NEAR):
            break
        if over and under:
            (a, large), (b, small) = max(over), min(under)
            octave = a + (b - a) * min(max((large - aim) / max(large - small, 1), 0.05), 0.95)
        else:
            octave += min(max(8 * (size - aim) / contents.weights, -LARGEST), LARGEST)
    return octave, best


def _coded(stream: StreamRecord, record: TensorRecord, symbols: Symbols) -> Coded:
    indices = stream.kind in ("codes", "column")
    states = record.states if stream.kind == "codes" else 0
    codec = Context(states) if indices else ContextWords()
    return codec.wire_id, codec.encode(symbols)


def _numpy(tensor: Tensor) -> Float32:
    array: Float32 = tensor.detach().float().cpu().numpy()
    return array

"""Spend bits where the loss feels them, and land just under the byte limit.

One number decides everything: `scale`, the loss a step may cost (`squeeze.calib.waterfill`). A larger
scale means coarser steps in every tensor alike and a smaller file; the search finds the scale whose
*encoded file* fits, then a trim of one tensor uses up what is left.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from squeeze.artifact import Artifact, CodeStreams, Tensor, encode
from squeeze.calib.curvature import Factor, factorize
from squeeze.calib.fisher import OutputGradients
from squeeze.calib.floats import Float32
from squeeze.calib.hessian import Hessians
from squeeze.calib.quantized import QuantizedTensor
from squeeze.calib.trellis_gptq import LAMBDA, trellis_gptq
from squeeze.calib.waterfill import STEP_FORMAT, expected_loss, waterfill
from squeeze.errors import BadData, OverBudget

START = -14.7  # log2 of the scale that gives START_BITS on the reference checkpoint
START_BITS = 3.4
CLOSE = 0.002  # of the limit: near enough to leave the rest to the trim
SPARE = 100  # bytes under the limit that end the trim
MAX_TRIES = 12
COARSEST = 8.0  # log2 scale at which every code is zero


@dataclass(frozen=True)
class Try:
    """One point of the search: log2 of the scale, and the size of the file it gives, in bytes."""

    octaves: float
    size: int


@dataclass(frozen=True)
class Fitted:
    """The packed model, its file, and how it came about.

    losses: expected nats per token that each tensor's quantization adds.
    """

    artifact: Artifact
    data: bytes
    octaves: float
    losses: dict[str, float]
    tries: list[Try]


@dataclass
class Quantizer:
    """Quantizes the model's matrices at any scale; everything that does not depend on it is kept.

    matrices: float32 tensors to quantize. others: tensors stored as they are. n_states: of the trellis.
    """

    matrices: Mapping[str, Float32]
    others: Mapping[str, Tensor]
    order: list[str]
    config: dict[str, object]
    hessians: Hessians
    gradients: OutputGradients
    n_states: int
    _factors: dict[int, Factor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # queries, keys and values read one input: their Hessians are one array, factored once
        shared = {id(h): h for n, h in self.hessians.matrices.items() if n in self.matrices}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._factors = dict(zip(shared, pool.map(factorize, shared.values()), strict=True))

    def tensor(self, name: str, octaves: float) -> QuantizedTensor:
        """One matrix at scale 2^octaves."""
        weights = self.matrices[name]
        factor = self._factors[id(self.hessians.matrices[name])]
        steps = waterfill(weights, factor, self.gradients.rows[name], 2.0**octaves)
        result = trellis_gptq(
            weights, factor, steps.rows, steps.columns,
            n_states=self.n_states, lam=LAMBDA, step_format=STEP_FORMAT,
        )  # fmt: skip
        return result.tensor

    def model(self, octaves: float) -> dict[str, QuantizedTensor]:
        """All matrices at scale 2^octaves, on all cores."""
        # the largest first, so that no core is left with it at the end
        names = sorted(self.matrices, key=lambda name: -self.matrices[name].size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            tensors = pool.map(lambda name: self.tensor(name, octaves), names)
            return dict(zip(names, tensors, strict=True))

    def artifact(self, quantized: Mapping[str, Tensor]) -> Artifact:
        """The artifact with these matrices, in the order of the model's tensors."""
        every = {**self.others, **quantized}
        return Artifact(self.config, {name: every[name] for name in self.order})

    def loss(self, name: str, tensor: QuantizedTensor) -> float:
        """Expected nats per token that a matrix's quantization adds."""
        delta = tensor.dequantize() - self.matrices[name]
        hessian = self.hessians.matrices[name]
        return expected_loss(delta.reshape(len(delta), -1), hessian, self.gradients.rows[name])


def fit(quantizer: Quantizer, limit: int, on_try: Callable[[Try], None] = lambda t: None) -> Fitted:
    """Quantize so that the file has at most `limit` bytes, and as few fewer as can be had.

    Raises OverBudget with the smallest possible size when even codes of zero do not fit.
    """
    tries: list[Try] = []

    def attempt(octaves: float) -> tuple[int, dict[str, QuantizedTensor], CodeStreams]:
        streams: CodeStreams = {}
        try:
            quantized = quantizer.model(octaves)
        except BadData:  # steps so fine that codes would not fit: larger than any limit
            if octaves < START:
                return 1 << 60, {}, streams
            raise
        size = len(encode(quantizer.artifact(quantized), streams_=streams))
        tries.append(Try(octaves, size))
        on_try(tries[-1])
        return size, quantized, streams

    weights = sum(w.size for w in quantizer.matrices.values())
    octaves = START + START_BITS - 8 * limit / weights
    best: tuple[int, float, dict[str, QuantizedTensor], CodeStreams] | None = None
    low, high = -math.inf, COARSEST  # too large a file; small enough, as far as is known
    for _ in range(MAX_TRIES):
        size, quantized, streams = attempt(octaves)
        if size <= limit:
            high = octaves
            if best is None or size > best[0]:
                best = size, octaves, quantized, streams
            if limit - size <= CLOSE * limit:
                break
        else:
            low = octaves
        octaves = _next(tries, octaves, limit, weights, low, high)
        if high - low < 1e-6 or octaves >= COARSEST:
            break
    if best is None:
        size, quantized, streams = attempt(COARSEST)
        if size > limit:
            raise OverBudget(
                "no quantization fits the limit",
                expected=f"≤ {limit:,} bytes",
                found=f"{size:,}, the smallest possible",
                fix="Raise the limit or train a smaller model.",
            )
        best = size, COARSEST, quantized, streams
    _, octaves, quantized, streams = best
    quantized, data = _trim(quantizer, octaves, quantized, streams, limit)
    losses = {name: quantizer.loss(name, tensor) for name, tensor in quantized.items()}
    return Fitted(quantizer.artifact(quantized), data, octaves, losses, tries)


def _next(
    tries: list[Try], octaves: float, limit: int, weights: int, low: float, high: float
) -> float:
    """The next scale: a bit per weight and octave at first, then the secant of the nearest two."""
    aim = limit * (1 - CLOSE / 2)
    near = sorted(tries, key=lambda t: abs(t.size - aim))[:2]
    if len(near) < 2 or near[0].size == near[1].size:
        size = near[0].size if near else 2 * limit
        guess = octaves + 8 * (size - aim) / weights
    else:
        a, b = near
        guess = a.octaves + (aim - a.size) * (b.octaves - a.octaves) / (b.size - a.size)
    if math.isfinite(low) and not low < guess < high:
        guess = (low + high) / 2
    return min(guess, high)


def _trim(
    quantizer: Quantizer,
    octaves: float,
    quantized: dict[str, QuantizedTensor],
    streams: CodeStreams,
    limit: int,
) -> tuple[dict[str, QuantizedTensor], bytes]:
    """Make the steps of one tensor finer until the file is within SPARE bytes of the limit.

    That tensor is the one with the largest code stream: the finest grid of sizes to choose from.
    """
    data = encode(quantizer.artifact(quantized), streams_=dict(streams))
    name = max(streams, key=lambda n: len(streams[n][1]))
    fits, over = 0.0, None  # finer by so many octaves
    finer = 8 * (limit - len(data)) / quantizer.matrices[name].size
    for _ in range(MAX_TRIES):
        if limit - len(data) <= SPARE:
            break
        tried = {**quantized, name: quantizer.tensor(name, octaves - finer)}
        known = {other: stream for other, stream in streams.items() if other != name}
        candidate = encode(quantizer.artifact(tried), streams_=known)
        if len(candidate) > limit:
            over = finer
        else:
            fits = finer
            if len(candidate) > len(data):
                quantized, data = tried, candidate
        finer = 2 * finer if over is None else (fits + over) / 2
    return quantized, data

"""The model that is tuned: some matrices hold their rounded values, everything else still learns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F

from squeeze.artifact.streams import Tensor
from squeeze.calib.statistics.inputs import InputSums
from squeeze.calib.statistics.probed import probed_on
from squeeze.calib.statistics.tapped import ids_of
from squeeze.calib.text.sources import Sequences
from squeeze.calib.tuning.answers import Answers
from squeeze.calib.tuning.distil import Course, Learnt, Trained, distil_
from squeeze.errors import BadConfig
from squeeze.packing.calibrate import Calibrated
from squeeze.packing.costs import MEASURED
from squeeze.packing.presets import LOW
from squeeze.packing.quantizer import Contents
from squeeze.packing.recipe import as_floats
from squeeze.ranks.group import Ranks
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.native import has_bf16

# Largest step of Adam, as a share of a tensor's root mean square times 2^(-BITS · bits): an error of b
# bits a weight is about 2^-b of the weight and what makes up for it no larger, but of smaller errors a
# batch shows less. Of matrices it is that share where a million weights learn and falls with the square
# root of their number: what batches tell them wrongly adds up like that (docs/log.md).
RATE, SMALL_RATE, BITS = 0.0365, 0.031, 1.5
MILLION, FEWEST = 1_000_000, 100_000  # weights that learn; fewer count as so many
SEEN = 32_768  # tokens from which the inputs are taken again
# Share of the text's next tokens in the loss, where real text is learnt from below LOW bits. The score
# gains by it at once, and the divergence loses little, since it has its minimum at none: at 1.27 bits a
# well-trained model's gap was a third less, and its divergence no more; with 2 %, 2.7 % (docs/log.md).
LABELS = 0.01
LEAST = 0.01  # root mean square that a tensor counts as having, since some begin at zero


class Student:
    """A copy of a model whose weights learn, but for those that are rounded already.

    contents: matrices and other tensors of the file, as they were before
    small_floats: format in which the file holds what is not quantized
    """

    def __init__(
        self, piece: Workpiece, calibrated: Calibrated, contents: Contents, small_floats: str
    ) -> None:
        self.piece, self.calibrated = piece, calibrated
        self.small_floats = small_floats
        inside: dict[str, list[str]] = {}
        for name in contents.matrices:
            inside.setdefault(self._tensor_of(name), []).append(name)
        others = {n for n, t in contents.others.items() if isinstance(t, RawTensor)}
        named = dict(calibrated.subject.module.named_parameters())
        learning = [n for n in piece.stored if n in named and (n in inside or n in others)]
        self.inside = {name: inside.get(name, []) for name in learning}
        subject = calibrated.subject
        self.subject = subject.with_weights({n: piece.tensors[n] for n in learning})
        self.parameters = dict(self.subject.module.named_parameters())
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in self.inside)
        self.rounded: dict[str, torch.Tensor] = {}
        text = calibrated.text
        learnt = Sequences(text.ids[untuned_rows(text) :], text.source)
        self.answers = Answers(subject.logits, learnt)

    @property
    def has_floats(self) -> bool:
        """True where the file holds floats that learn."""
        return not all(self.inside.values())

    def label_share(self, bits: float) -> float:
        """Return the share of the text's next tokens in the loss; 0 where they teach nothing.

        So does text that the model wrote, or chance did, and any text a model that does not foretell the
        next token, as one of masked tokens.

        bits: a weight, of the file
        """
        real = self.answers.text.source == "shards" and not self.calibrated.subject.hidden
        return LABELS if bits < LOW and real and self._foretells else 0.0

    @cached_property
    def _foretells(self) -> bool:
        """True where the first model knows more than nothing of the next token of the first sequence."""
        row, device = np.arange(1), self.subject.device
        answer, ids = self.answers.to(row, device), ids_of(self.answers.text, row, device)
        nats = float(F.cross_entropy(answer[0, :-1].float(), ids[0, 1:]))
        return nats < math.log(self.subject.vocab_size)

    def round_(self, tensors: Mapping[str, Tensor]) -> None:
        """Give matrices the values of their stored form, which they keep from now on."""
        device = self.subject.device
        for name, tensor in tensors.items():
            self.rounded[name] = torch.tensor(tensor.dequantize(), device=device)
        self._put_back(tensors)

    def learn_(self, course: Course, bits: float, reporter: Reporter) -> Learnt | None:
        """Distil all that is not rounded; return None where nothing learns.

        bits: a weight, of the file
        """
        waiting = {
            name
            for name, matrices in self.inside.items()
            if any(matrix not in self.rounded for matrix in matrices)
        }
        count = sum(self.parameters[name].numel() for name in waiting)
        rate = RATE * math.sqrt(MILLION / max(count, FEWEST))
        trained = []
        for name, matrices in self.inside.items():
            if matrices and name not in waiting:
                continue
            parameter = self.parameters[name]
            size = max(float(parameter.detach().square().mean().sqrt()), LEAST)
            share = rate if matrices else SMALL_RATE
            trained.append(Trained(parameter, share * size * 2.0 ** (-BITS * bits)))
        if not trained or not course.steps:
            return None
        half = bits < LOW and has_bf16(self.subject.device)
        subject = self.subject.computing_in("bf16" if half else "fp32")
        # matrices that do not learn, of tensors that do
        beside = [matrix for matrix in self.rounded if self._tensor_of(matrix) in waiting]
        return distil_(
            self.answers,
            partial(subject.run, subject.module),
            trained,
            self.calibrated.divergence,
            course,
            partial(self._put_back, beside),
            self.label_share(bits),
            reporter,
        )

    def hessians(self, tokens: int = SEEN) -> dict[str, Float32]:
        """Return the second moments of the inputs of the matrices that are not rounded, by name.

        They are what the rounded ones before them make of the text, not what the model had.

        tokens: of text that they are taken from
        """
        text = self.answers.text
        tapped = probed_on(self.subject.tapped, text, self.subject.device)
        seen = Sequences(text.ids[: max(1, tokens // text.length)], text.source)
        sums = InputSums(tapped, seen, Ranks())
        return {n: h for n, h in sums.hessians().matrices.items() if n not in self.rounded}

    @property
    def weights(self) -> dict[str, Float32]:
        """Copies of all tensors that learn, by name."""
        return {name: self._values(name).copy() for name in self.inside}

    def take_(self, weights: Mapping[str, Float32]) -> None:
        """Continue from weights that an earlier run had at this point."""
        for name, values in weights.items():
            self.parameters[name].detach().copy_(torch.tensor(values))

    def updated(self, contents: Contents) -> Contents:
        """Return contents with the present weights in place of all but the rounded matrices."""
        matrices = dict(contents.matrices)
        raw: dict[str, Tensor] = {}
        for tensor, names in self.inside.items():
            values = self._values(tensor)
            for name in names:
                if name not in self.rounded:
                    part = self.calibrated.layout.matrices[name].slice
                    matrices[name] = part.matrix_of(values).copy()
            if not names:
                logical = self.piece.stored[tensor].logical
                raw[tensor] = RawTensor(to_bits(values, "fp32"), "fp32", logical)
        others = {**contents.others, **as_floats(raw, self.small_floats)}
        return replace(contents, matrices=matrices, others=others)

    def _put_back(self, names: Iterable[str]) -> None:
        for name in names:
            part = self.calibrated.layout.matrices[name].slice
            values = self.parameters[part.tensor].detach()
            offset = values.storage_offset() + part.offset
            place = values.as_strided(part.sizes, part.strides, offset)
            place.copy_(self.rounded[name].view(part.sizes))

    def _values(self, tensor: str) -> Float32:
        """Return the present values of a tensor; on the CPU they share its memory."""
        values: Float32 = self.parameters[tensor].detach().cpu().numpy()
        return values

    def _tensor_of(self, matrix: str) -> str:
        return self.calibrated.layout.matrices[matrix].slice.tensor


def untuned_rows(text: Sequences) -> int:
    """Return the sequences on which the cost is measured and nothing learns: at most a quarter.

    Raises BadConfig for a text of one sequence.
    """
    if len(text.ids) < 2:
        raise BadConfig(
            "calibration text of a tuned pack",
            expected="two sequences or more: one to learn from, one to measure the cost on",
            found="one",
            fix=f"Ask for --tokens {2 * text.length} or more.",
        )
    return max(1, min(MEASURED // text.length, len(text.ids) // 4))

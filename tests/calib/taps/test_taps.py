"""Taps on small subjects of every style: each weight is covered as it should be, each product is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.calib.taps.coverage import Coverage
from squeeze.calib.taps.layout import Probe
from squeeze.calib.taps.observer import Lookup
from squeeze.calib.taps.products import Product
from squeeze.calib.taps.taps import Taps
from squeeze.calib.taps.weights import Parameters, Weight
from squeeze.subject.script import load_script
from squeeze.subject.subject import Subject
from squeeze.tensors.matrices import Slice
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.subjects.expected import EXPECTED, NAMES

SUBJECTS = Path(__file__).parents[2] / "subjects"
SMALL = 1024


def subject(name: str) -> Subject:
    return load_script(str(SUBJECTS / name))


def some_ids(batch: int = 2, count: int = 16, vocab: int = 256) -> Tensor:
    return torch.randint(0, vocab, (batch, count), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_covered_as_it_is_used(name: str) -> None:
    model = subject(name)
    coverage = Coverage.of(model.tapped(some_ids()).layout, SMALL)
    assert coverage.elements == sum(weight.numel() for weight in model.module.parameters())
    rows = {
        row.matrix: f"{row.how} {row.role}" + (f", {row.why}" if row.why else "")
        for row in coverage.rows
        if row.elements >= SMALL
    }
    assert rows == EXPECTED[name]


class Checking(Probe):
    """Probe that multiplies every product again, from the matrix that it names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.arrays = {n: w.detach().numpy() for n, w in module.named_parameters()}
        self.products = self.lookups = 0

    def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
        inputs, outputs = product.inputs().double(), product.outputs(output).double()
        assert len(inputs) == len(outputs) == len(product.slices)
        for x, y, part in zip(inputs, outputs, product.slices, strict=True):
            if product.factors:
                continue
            expected = x @ torch.from_numpy(part.matrix_of(self.arrays[part.tensor])).double().T
            bias = (y - expected).mean(0)
            tolerance = 0.03 if output.dtype == torch.bfloat16 else 1e-5
            assert torch.allclose(expected + bias, y, atol=tolerance * float(y.abs().max()))
        self.products += len(product.slices)
        return super().on_product(product, output, source)

    def on_lookup(self, lookup: Lookup, output: Tensor, source: str) -> Tensor:
        table = lookup.slice.matrix_of(self.arrays[lookup.slice.tensor])
        assert np.array_equal(output.flatten(0, -2).numpy(), table[lookup.ids.flatten().numpy()])
        self.lookups += 1
        return super().on_lookup(lookup, output, source)


@pytest.mark.parametrize("name", NAMES)
def test_every_product_is_its_inputs_times_its_matrix(name: str) -> None:
    model = subject(name)
    check = Checking(model.module)
    parameters = Parameters(model.module.named_parameters())
    with torch.no_grad(), Taps(parameters, check) as taps:
        tapped = model.forward(model.module, taps.begin(some_ids()))
    assert check.products and check.lookups
    # torch has another kernel for encoders where nobody looks
    torch.testing.assert_close(tapped.float(), model.logits(some_ids()))


def test_scaled_weights_are_the_weights_with_scaled_inputs_and_outputs() -> None:
    weight, row, column = nn.Parameter(torch.randn(5, 4)), torch.rand(5, 1), torch.rand(4)
    x = torch.randn(7, 4)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    class Keep(Probe):
        def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
            inputs.append(product.inputs()[0])
            outputs.append(product.outputs(torch.ones_like(output))[0])
            return output

    with torch.no_grad(), Taps(Parameters([("w", weight)]), Keep()) as taps:
        ids = taps.begin(torch.zeros(7, 4))
        F.linear(x + ids, (weight * row * column / 2.0).T.contiguous().T)
    torch.testing.assert_close(inputs[0], x * column / 2.0)
    torch.testing.assert_close(outputs[0], torch.ones(7, 5) * row.T)


def test_our_own_model_s_matrices_share_inputs_as_its_layers_do() -> None:
    model = Subject.of_gpt(GPT(ModelConfig(50, 2, 24, 2, 1, 40, layer_schedule=(0, 1, 0, 1, 1))))
    layout = model.tapped(some_ids(vocab=50)).layout
    owners = {name: matrix.owner for name, matrix in layout.matrices.items()}
    assert owners["blocks.1.attn.c_v.weight"] == "blocks.1.attn.c_q.weight"
    assert owners["blocks.1.mlp.fc.weight"] == "blocks.1.mlp.fc.weight"
    assert len(set(owners.values())) == 2 * 4 + 1
    assert layout.matrices["tok_emb.weight"].how == "product+lookup"


def test_a_product_that_reads_part_of_a_matrix_lies_inside_it() -> None:
    layout = subject("decoders.py:Grouped").tapped(some_ids()).layout
    parts = [place for part, place in layout.places.items() if part.tensor == "shared"]
    (inner,) = [place for place in parts if place.rows is not None]
    assert inner.matrix == "shared[0]" and inner.columns is not None
    assert inner.rows.tolist() == list(range(32)) and inner.columns.tolist() == list(range(64))


def test_a_slice_s_matrix_is_read_and_written() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    part = Slice.of_axes("w", 12, ((4, 1),), ((3, 4),))
    assert np.array_equal(part.matrix_of(values), values[1].T)
    other = np.zeros_like(values)
    part.put_(other, values[1].T)
    assert np.array_equal(other[1], values[1]) and not other[0].any()
    assert np.array_equal(values.reshape(-1)[part.index], part.matrix_of(values))


def test_axes_that_step_evenly_are_joined() -> None:
    assert Slice.of_axes("w", 0, ((2, 12), (3, 4)), ((4, 1),)) == Slice.whole("w", (6, 4))
    assert Slice.whole("w", (6, 4)).shape == (6, 4)


@pytest.mark.parametrize("equation", ["ij,kj->ik", "ij,kj", "...j,kj->...k"])
def test_einsums_are_read_whatever_their_spelling(equation: str) -> None:
    parts: list[tuple[Slice, ...]] = []

    class Keep(Probe):
        def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
            parts.append(product.slices)
            return output

    weight = nn.Parameter(torch.randn(5, 4))
    with torch.no_grad(), Taps(Parameters([("w", weight)]), Keep()) as taps:
        torch.einsum(equation, taps.begin(torch.ones(3, 4)), weight)
        torch.einsum("kj,ij->ik", weight, taps.begin(torch.ones(3, 4)))
    assert parts == [(Slice.whole("w", (5, 4)),)] * 2


def test_a_weight_that_is_used_in_no_product_is_shown_as_other() -> None:
    weight = nn.Parameter(torch.randn(5, 4))
    shown: list[str] = []

    class Keep(Probe):
        def on_other(self, weight: Weight, function: str) -> None:
            shown.append(function)

    with torch.no_grad(), Taps(Parameters([("w", weight)]), Keep()) as taps:
        taps.begin(torch.ones(5, 4)) + weight
        weight.T @ weight
        torch.ones(2, 5) @ weight
        taps.begin(torch.ones(3)).to(weight.dtype).sum()
    assert shown == ["add", "matmul", "matmul", "matmul"]


class Masked(nn.Module):
    """A model that makes its mask by vmap, as FlexAttention does, from a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(256, 16), nn.Linear(16, 256, bias=False)
        self.register_buffer("first", torch.zeros(16, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        from torch.nn.attention.flex_attention import create_mask

        x, length = self.embed(ids), ids.size(1)
        mask = create_mask(
            lambda batch, head, query, key: (key <= query) & (key >= self.first[query]),
            *(None, None, length, length),
            device="cpu",
        )
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=mask)
        return self.head(x[:, 0])


def test_a_mask_made_by_vmap_hides_no_weight() -> None:
    coverage = Coverage.of(Subject.of_module(Masked()).tapped(some_ids()).layout, SMALL)
    assert {row.matrix: row.how for row in coverage.rows if row.elements >= SMALL} == {
        "embed.weight": "lookup",
        "head.weight": "product",
    }

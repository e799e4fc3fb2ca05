"""The packer that scripts ship sees the products of the field's styles, and lands under its limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import squeeze
from squeeze.artifact.container import parse
from squeeze.ship.decode import load, load_into
from squeeze.ship.pack import Contents, contents_of, pack
from squeeze.ship.uses import uses_of
from tests.subjects.decoders import LENGTH, VOCAB, Banks, Baseline, Convolutions, Transposed


def batches(count: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        windows = torch.randint(0, VOCAB, (8, LENGTH + 1), generator=generator)
        yield windows[:, :-1], windows[:, 1:]


def losses(model: nn.Module) -> Iterator[Tensor]:
    for x, y in batches():
        made = model(x, y) if isinstance(model, Baseline | Banks) else model(x)
        yield made if made.dim() == 0 else F.cross_entropy(made.flatten(0, 1), y.flatten())


def contents(model: nn.Module) -> Contents:
    return contents_of(model, uses_of(model, losses(model)))


def test_every_layer_of_a_bank_is_a_matrix_with_inputs_of_its_own() -> None:
    matrices = contents(Banks()).matrices
    names = [f"{bank}[{i}]" for bank in ("qo_bank", "kv_bank") for i in range(4)]
    names += [f"{bank}[{i}]" for bank in ("up_bank", "down_bank") for i in range(2)]
    assert sorted(matrices) == sorted(["tok_emb.weight", *names])
    assert all(len(set(m.factor.upper.diagonal())) > 1 for m in matrices.values())


def test_inputs_are_those_that_hooks_see_and_gradients_those_of_the_outputs() -> None:
    model, inputs, outputs = Baseline(), [], []
    layer = model.blocks[1].fc_proj

    def keep(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        inputs.append(args[0].detach().flatten(0, 1))
        output.register_hook(lambda gradient: outputs.append(gradient.flatten(0, 1)))

    layer.register_forward_hook(keep)
    uses = uses_of(model, losses(model))
    (moments,) = uses.moments["blocks.1.fc_proj.weight"].values()
    x, g = torch.cat(inputs), torch.cat(outputs)
    torch.testing.assert_close(moments.inputs, x.T @ x)
    torch.testing.assert_close(moments.outputs, g.square().sum(0))
    assert int(moments.count) == len(x)


def test_a_tied_table_adds_its_lookups_to_its_products() -> None:
    uses = uses_of(model := Baseline(), losses(model))
    (moments,) = uses.moments["tok_emb.weight"].values()
    assert moments.outputs.gt(0).all() and moments.lookups.gt(0).all()


def test_weights_that_no_known_product_uses_count_by_their_gradients() -> None:
    matrices = contents(Convolutions()).matrices
    assert {"mix.weight[0]", "halves.weight[0]", "lm_head.weight"} <= matrices.keys()
    assert (matrices["mix.weight[0]"].factor.upper == torch.eye(192).numpy()).all()


@pytest.mark.parametrize("kind", [Banks, Transposed, Convolutions])
def test_a_file_lands_under_its_limit_and_loads_as_squeeze_loads_it(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    model, path = kind(), tmp_path / "model.sqz"
    limit = sum(p.numel() for p in model.parameters()) * 3 // 8 + 600
    data = pack(model, losses(model), limit, states=8)
    assert limit - 200 <= len(data) <= limit
    path.write_bytes(data)
    state, other = load(path), squeeze.load(path)
    assert state.keys() == other.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    fresh = kind()
    load_into(fresh, path)
    assert all(torch.equal(fresh.state_dict()[name], state[name]) for name in state)


def test_a_limit_that_nothing_fits_is_refused() -> None:
    with pytest.raises(squeeze.SqueezeError, match="nothing fits"):
        pack(model := Banks(), losses(model), 500)


def test_a_limit_with_room_for_more_than_matters_is_not_filled() -> None:
    data = pack(model := Banks(), losses(model), 1 << 22, states=8)
    weights = sum(p.numel() for p in model.parameters())
    assert len(data) < weights * 12 / 8 and parse(data).tensors


def test_gradients_and_the_compiler_are_left_as_they_were() -> None:
    model = Banks()
    uses_of(model, losses(model))
    assert all(parameter.grad is None for parameter in model.parameters())

"""What holds for every preset and every option, and what each option claims."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.errors import BadConfig
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import levels
from squeeze.train.model.gpt import GPT, shift_whole
from squeeze.train.model.layers import RMSNorm, rotary_table, rotate
from squeeze.train.model.sublayers import Surroundings, without_own_value
from squeeze.train.presets import PRESETS
from tests.tiny_models import EVERYTHING, NARROW, OPTIONS, PLAIN, VOCAB, ids_of, lively, narrow

every = pytest.mark.parametrize("name", EVERYTHING)


@every
def test_tensors_are_those_that_the_config_names(name: str) -> None:
    config = EVERYTHING[name]
    state = GPT(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == config.parameter_shapes()
    assert sum(value.numel() for value in state.values()) == config.num_params


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_tensors_at_full_size(name: str) -> None:
    config = PRESETS[name].model
    with torch.device("meta"):
        state = GPT(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == config.parameter_shapes()


@every
def test_changing_a_token_never_moves_an_earlier_logit(name: str) -> None:
    model, ids = lively(EVERYTHING[name]), ids_of(2, 14, 4, 9)
    before = model(ids)
    for position in (1, 4, 5, 9, 13):
        flipped = ids.clone()
        flipped[:, position] = (flipped[:, position] + 7) % VOCAB
        after = model(flipped)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


_BY_DEPTH = {"by_depth": True, "untied_scalars": True}
ISOLATED = {
    name: replace(config, document_attention=True, inputs_cross_documents=False)
    for name, config in EVERYTHING.items()
}


@pytest.mark.parametrize("name", ISOLATED)
def test_changing_a_document_never_moves_the_next(name: str) -> None:
    model, ids = lively(ISOLATED[name]), ids_of(2, 15, 0, 6, 11)
    before = model(ids)
    other = ids.clone()
    other[:, 1:6] = ids_of(2, 5, seed=9)
    after = model(other)
    assert torch.equal(after[:, 6:], before[:, 6:])
    assert not torch.equal(after[:, 5], before[:, 5])


def test_documents_are_read_as_if_each_stood_alone() -> None:
    model = lively(replace(ISOLATED["bigram and smear"], xsa_layers=4, rope_dims=0))
    first, second = ids_of(1, 7, 0), ids_of(1, 9, 0, seed=4)
    together = model(torch.cat((first, second), 1))
    torch.testing.assert_close(together[:, :7], model(first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[:, 7:], model(second), atol=1e-5, rtol=1e-5)


@every
def test_a_new_model_predicts_close_to_uniformly(name: str) -> None:
    model, ids = GPT(EVERYTHING[name]), ids_of(2, 16, 0, 7)
    assert model.loss(ids, ids.roll(-1, 1)).item() == pytest.approx(math.log(VOCAB), abs=0.02)


@every
def test_gradients_reach_every_parameter(name: str) -> None:
    model, ids = lively(EVERYTHING[name]).requires_grad_(True), ids_of(4, 16, 0, 7)
    model.loss(ids, ids.roll(-1, 1)).backward()
    for key, weight in model.named_parameters():
        if key.startswith(tuple(f"blocks.{n}.attn" for n in model.config.no_attention)):
            assert weight.grad is None
            continue
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), key


@pytest.mark.parametrize("name", NARROW)
def test_presets_learn_from_the_first_steps_on(name: str) -> None:
    model, ids = GPT(NARROW[name]), ids_of(4, 16, 0, 7)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(12):
        model.recurrent = step > 5  # as a trainer switches it on
        loss = model.loss(ids, ids.roll(-1, 1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[6] < losses[0] - 0.05


@every
def test_under_autocast_the_stream_is_16_bits_wide(name: str) -> None:
    model, ids = lively(EVERYTHING[name]), ids_of(2, 14, 4, 9)
    seen: dict[str, set[torch.dtype]] = {}
    for key, module in model.named_modules():
        if key.endswith(("norm", "c_v", "fc")):
            module.register_forward_hook(
                lambda _, x, y, key=key: seen.setdefault(key, set()).update({x[0].dtype, y.dtype})
            )
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
    assert logits.dtype == torch.float32
    kinds = {key: dtypes for key, dtypes in seen.items() if key != "input_norm"}
    assert all(dtypes == {torch.bfloat16} for dtypes in kinds.values()), kinds
    exact = model(ids)
    assert (logits - exact).square().mean().sqrt() < 0.15 * exact.std()


@pytest.mark.parametrize(
    "name", [pytest.param("record-1204", marks=pytest.mark.slow), "record-1855"]
)
def test_presets_are_traced_as_one_graph_for_each_depth(name: str) -> None:
    model, ids = lively(NARROW[name]), ids_of(2, 14, 4, 9)
    torch.compiler.reset()
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    losses = set()
    for recurrent in (False, True):
        model.recurrent = recurrent
        loss = compiled(ids, ids)
        assert torch.equal(loss, model.loss(ids, ids))
        losses.add(loss.item())
    assert len(losses) == 2  # the switch is no constant of the graph


# --- what single options claim


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_exclusive_attention_leaves_nothing_along_a_tokens_own_value(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(2, 4, 5, 8, generator=generator)
    values = torch.randn(2, kv_heads, 5, 8, generator=generator)
    out = without_own_value(mixed, values)
    own = values.repeat_interleave(4 // kv_heads, 1)
    assert ((out * own).sum(-1).abs() < 1e-5).all()
    along = (mixed - out) / own  # what was taken is a multiple of the value
    torch.testing.assert_close(along, along[..., :1].expand_as(along), atol=1e-3, rtol=1e-3)


def test_exclusive_attention_concerns_the_last_blocks_only() -> None:
    layers = levels(replace(PLAIN, xsa_layers=3))
    assert [layer.exclusive for layer in layers] == [False, True, True, True]


def test_options_by_depth_stay_at_their_depth_when_repetition_moves_the_blocks() -> None:
    config = replace(
        PLAIN,
        **_BY_DEPTH,
        layer_schedule=(0, 1, 2, 1, 2, 3),
        norm_scale=True,
        xsa_layers=2,
        value_layers=(2, 3),
        no_attention=(0,),
    )
    off, on = levels(config, recurrent=False), levels(config)
    assert [(layer.block, layer.number) for layer in off] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert [layer.home for layer in on] == [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (3, 0)]
    for fewer in (0, 1, 2, 3):
        assert off[fewer].home == on[fewer].home
        assert off[fewer].factor == on[fewer].factor == (fewer + 1) ** -0.5
    assert [layer.exclusive for layer in on] == [0, 0, 0, 0, 1, 1]
    assert [layer.values for layer in on] == [0, 0, 1, 1, 0, 0]
    assert [layer.mute for layer in on] == [1, 0, 0, 0, 0, 0]
    names = set(config.parameter_shapes())
    assert {"blocks.2.attn.value_scale", "blocks.1.repeats.0.value_scale"} <= names
    assert set(GPT(config).state_dict()) == names


def test_attention_that_is_left_out_begins_at_zero_and_is_never_asked_for() -> None:
    model, ids = GPT(replace(PLAIN, no_attention=(1,))), ids_of(2, 9)
    assert not model.blocks[1].attn.c_q.weight.any() and model.blocks[0].attn.c_q.weight.any()
    before = model(ids)
    for weight in (model.blocks[1].attn.c_v.weight, model.blocks[1].attn.proj.weight):
        torch.nn.init.normal_(weight)
    assert torch.equal(model(ids), before)


def test_by_depth_the_scalars_of_a_later_pass_learn_before_it_exists() -> None:
    config = replace(PLAIN, **_BY_DEPTH, layer_schedule=(0, 1, 2, 1, 2, 3))
    model, ids = lively(config).requires_grad_(True), ids_of(2, 9)
    model.recurrent = False
    model.loss(ids, ids.roll(-1, 1)).backward()
    assert model.blocks[1].repeats[0].attn_scale.grad.any()
    assert model.blocks[3].attn_scale.grad is None
    learned = model.blocks[1].repeats[0].attn_scale.clone()
    model.start_repeats_()
    assert torch.equal(model.blocks[1].repeats[0].attn_scale, learned)


@pytest.mark.parametrize("kind", ["channels", "token"])
def test_inputs_may_read_the_document_before(kind: str) -> None:
    config = replace(PLAIN, smear_gate=kind, bigram_rows=37, bigram_dim=10)
    ids = ids_of(1, 9, 4)
    apart, across = (
        lively(replace(config, inputs_cross_documents=cross)) for cross in (False, True)
    )
    other = ids.clone()
    other[0, 3] += 1
    starts = [
        [model._embed(row, shift_whole)[0, 4] for row in (ids, other)] for model in (apart, across)
    ]
    assert torch.equal(*starts[0]) and not torch.equal(*starts[1])


def test_across_documents_the_first_token_of_all_is_smeared_with_nothing() -> None:
    model = lively(replace(PLAIN, smear_gate="channels", inputs_cross_documents=True))
    ids = ids_of(1, 3)
    first = model.input_norm(model.tok_emb(ids))[0, 0]
    wanted = (1 - torch.sigmoid(model.smear.gate)) * first
    torch.testing.assert_close(model._embed(ids, shift_whole)[0, 0], wanted)


@pytest.mark.parametrize("length", [8, 16, 24])
def test_longer_forwards_turn_slower(length: int) -> None:
    config = replace(PLAIN, rope_length=16, rope_base=100.0)
    model, ids = lively(config), ids_of(1, length)
    base = 100.0 if length <= 16 else 100.0 * 1.5 ** (8 / 6)
    fixed = lively(replace(config, rope_length=0, rope_base=base))
    torch.testing.assert_close(model(ids), fixed(ids))
    cache = Cache(model, 1, length)
    torch.testing.assert_close(cache.step(ids), model(ids), atol=2e-5, rtol=1e-5)


def test_a_lane_takes_its_skip_after_the_split() -> None:
    config = replace(PLAIN, num_layers=2, parallel="lanes", parallel_from=1, residual_mix=False)
    model, ids = lively(config), ids_of(1, 5)
    streams: list[Any] = []
    model.blocks[0].register_forward_hook(lambda _, __, out: streams.append(out))
    model.blocks[1].register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    model(ids)
    whole, (first, second) = streams
    torch.testing.assert_close(first, whole + model.skip_weights[0] * whole)
    assert torch.equal(second, whole)


def test_partial_rope_turns_the_first_dimensions_only() -> None:
    x = torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotary_table(torch.arange(6), 4, 100.0))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    whole = rotate(x[..., :4], rotary_table(torch.arange(6), 4, 100.0))
    assert torch.equal(turned[..., :4], whole) and not torch.equal(
        whole[..., 1:, :], x[..., 1:, :4]
    )


def test_normalised_queries_do_not_feel_the_scale_of_their_matrix() -> None:
    def logits(qk_norm: bool, scale: float) -> Tensor:
        model = lively(replace(PLAIN, qk_norm=qk_norm))
        model.blocks[1].attn.c_q.weight.mul_(scale)
        return model(ids_of(1, 8))

    torch.testing.assert_close(logits(True, 3.0), logits(True, 1.0), atol=1e-4, rtol=1e-4)
    assert (logits(False, 3.0) - logits(False, 1.0)).abs().max() > 1e-2


def test_softcap_bounds_the_logits_and_can_be_off() -> None:
    capped, free = (
        lively(replace(PLAIN, logit_softcap=2.0)),
        lively(replace(PLAIN, logit_softcap=0.0)),
    )
    hidden = 50 * torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    plain = F.linear(hidden, free.tok_emb.weight)
    assert torch.equal(free.head(hidden), plain) and plain.abs().max() > 2
    torch.testing.assert_close(capped.head(hidden), 2 * torch.tanh(plain / 2))


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_activation_is_the_square_of_a_leaky_relu(slope: float) -> None:
    mlp = lively(replace(PLAIN, mlp_slope=slope)).blocks[0].mlp
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    inner = x @ mlp.fc.weight.T
    wanted = torch.where(inner < 0, slope * inner, inner) ** 2 @ mlp.proj.weight.T
    torch.testing.assert_close(mlp(x), wanted)


def test_norms_shrink_with_depth() -> None:
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    config = replace(PLAIN, norm_scale=True)
    for number, layer in enumerate(levels(config)):
        size = RMSNorm()(x, layer.factor).square().mean().sqrt().item()
        assert size == pytest.approx((number + 1) ** -0.5, 1e-4)


@pytest.mark.parametrize(("kind", "most"), [("output", 2.0), ("sparse", 1.0)])
def test_attention_gates_begin_half_open_and_read_few_channels(kind: str, most: float) -> None:
    gate = GPT(replace(PLAIN, attention_gate=kind, gate_window=5)).blocks[0].attn.gate
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    assert gate is not None and torch.equal(gate(x), torch.full((2, 4, 3, 1), most / 2))
    gate.linear.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[..., 5:] += 1
    assert torch.equal(gate(other), gate(x)) and gate(x).std() > 0


def test_value_embeddings_enter_the_values_of_their_layers() -> None:
    config = replace(PLAIN, value_layers=(2,), value_dim=6)
    model, ids = lively(config), ids_of(1, 4)
    assert [block.attn.value_scale is not None for block in model.blocks] == [0, 0, 1, 0]
    embed, attn = model.value_embed, model.blocks[2].attn
    added = embed.table.weight[ids] @ embed.proj.weight.T * embed.scale
    x, scalars = torch.ones(1, 4, 32), model.blocks[2].scalars(0)
    rotary = rotary_table(torch.arange(4), 8, 10.0)
    with_values, without = (
        attn.project(x, Surroundings(x, rotary, torch.add, scalars, values))[2]
        for values in (model.value_embed(ids), None)
    )
    wanted = (attn.value_scale * added).unflatten(-1, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(with_values - without, wanted, atol=1e-5, rtol=1e-5)


def rows_read(model: GPT, table: str, ids: list[int]) -> list[int]:
    """Return the rows that the model looks up for these tokens in one of its hashed tables."""
    rows: list[int] = []
    embedding = getattr(model, table).table
    handle = embedding.register_forward_hook(lambda _, inputs, __: rows.extend(inputs[0][0]))
    model(torch.tensor([ids]))
    handle.remove()
    return [int(row) for row in rows]


def test_bigram_rows_tell_pairs_apart_but_not_what_came_before() -> None:
    rows = partial(rows_read, lively(replace(PLAIN, bigram_rows=37, bigram_dim=10)), "bigram")
    first, second = rows([5, 9, 7, 9, 7]), rows([6, 9, 7])
    assert first[2] == first[4] == second[2] and first[1] != second[1]
    assert first[0] == second[0] == 36  # nothing before
    assert rows([5, 1, 9])[1] == 36  # nothing before the beginning of a document


def test_trigram_rows_tell_triples_apart_but_not_what_came_before() -> None:
    rows = partial(rows_read, lively(replace(PLAIN, trigram_rows=53, trigram_dim=10)), "trigram")
    first, second = rows([5, 9, 7, 6, 5, 9, 7]), rows([2, 8, 5, 9, 7])
    assert first[2] == first[6] == second[4] != rows([6, 9, 7])[2]
    assert first[:2] == [52, 52]  # fewer than two before
    assert rows([5, 7, 1, 9, 8])[2:4] == [52, 52]  # nor at the beginning of a document
    assert rows([5, 7, 1, 9, 8])[4] == rows([1, 9, 8])[2]


@pytest.mark.parametrize("kind", ["channels", "token"])
def test_smearing_mixes_in_the_token_before(kind: str) -> None:
    model, ids = lively(replace(PLAIN, smear_gate=kind)), ids_of(1, 6, 3)
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    before = torch.cat((torch.zeros(1, 1, 32), x[:, :-1]), 1)
    inside = (ids != 1).float()[..., None]
    mixed = model.smear(x, inside, lambda _, x: before)
    if kind == "channels":
        share = torch.sigmoid(model.smear.gate)
        wanted = (1 - share) * x + share * before
    else:
        share = torch.sigmoid(x[..., :12] @ model.smear.gate.weight.T)
        wanted = x + model.smear.scale * share * before
    wanted[:, 3] = x[:, 3]
    torch.testing.assert_close(mixed, wanted)


def test_skip_gates_mix_where_skips_add() -> None:
    stream, skip = torch.full((1, 1, 32), 2.0), torch.full((1, 1, 32), 6.0)
    added = GPT(PLAIN)._joined(stream, 0, skip)
    mixed = GPT(replace(PLAIN, skip_gates=True))._joined(stream, 0, skip)
    assert torch.equal(added, torch.full_like(added, 8.0))
    assert torch.equal(mixed, torch.full_like(mixed, 4.0))  # gates begin at a half


def block_parts(config: ModelConfig, layer: int) -> tuple[GPT, Surroundings, Tensor]:
    model = lively(config)
    x, first = torch.randn(2, 1, 4, 32, generator=torch.Generator().manual_seed(0))
    rotary, scalars = rotary_table(torch.arange(4), 8, 10.0), model.blocks[layer].scalars(0)
    around = Surroundings(first, rotary, lambda q, k, v: q, scalars)
    assert layer >= config.parallel_from
    return model, around, x


def test_parallel_sum_reads_one_input_for_attention_and_mlp() -> None:
    model, around, x = block_parts(replace(PLAIN, parallel="sum", parallel_from=3), 3)
    block = model.blocks[3]
    mixed = block.resid_mix[0] * x + block.resid_mix[1] * around.first
    attended = block.attn_scale * block.attn(block.attn_norm(mixed), around)
    processed = block.mlp_scale * block.mlp(block.mlp_norm(mixed))
    torch.testing.assert_close(block(x, around), mixed + attended + processed)
    assert type(model.blocks[2]) is not type(block)


def test_lanes_read_apart_and_write_to_both() -> None:
    model, around, x = block_parts(replace(PLAIN, parallel="lanes", parallel_from=2), 2)
    block, other = model.blocks[2], 2 * x
    attended = block.attended(block.mix(x, around), around)
    processed = block.processed(other, around)
    (k0, k1), ((a0, a1), (m0, m1)) = block.lane_keep, block.lane_write
    first, second = block((x, other), around)
    torch.testing.assert_close(first, k0 * x + a0 * attended + m0 * processed)
    torch.testing.assert_close(second, k1 * other + a1 * attended + m1 * processed)


def test_lanes_in_turn_let_the_mlp_see_what_attention_wrote() -> None:
    model, around, x = block_parts(replace(PLAIN, parallel="lanes-in-turn", parallel_from=2), 2)
    block, other = model.blocks[2], 2 * x
    keep, write = block.lane_keep, block.lane_write
    attended = block.attended(block.mix(x, around), around)
    lanes = [keep[0] * lane + write[0, i] * attended for i, lane in enumerate((x, other))]
    processed = block.processed(block.mix(lanes[1], around), around)
    wanted = [keep[1] * lane + write[1, i] * processed for i, lane in enumerate(lanes)]
    for found, expected in zip(block((x, other), around), wanted, strict=True):
        torch.testing.assert_close(found, expected)


LOOPED = replace(PLAIN, layer_schedule=(0, 1, 2, 1, 2, 1, 2, 3))


def test_recurrence_switched_off_runs_each_block_once() -> None:
    looped = lively(LOOPED)
    plain = GPT(PLAIN)
    state = looped.state_dict() | {"skip_weights": looped.skip_weights[:2]}
    plain.load_state_dict(state)
    ids = ids_of(2, 9)
    assert not torch.equal(looped(ids), plain(ids))
    looped.recurrent = False
    assert torch.equal(looped(ids), plain(ids))


def test_repeated_passes_use_their_own_mlp_and_scalars_where_untied() -> None:
    config = replace(LOOPED, untied_mlps=(2,), untied_scalars=True)
    model, ids = lively(config), ids_of(2, 9)
    runs: list[str] = []
    for name, module in model.named_modules():
        if name.endswith("fc"):
            module.register_forward_hook(lambda *_, name=name: runs.append(name[7:-7]))
    before = model(ids)
    assert runs == ["0", "1", "2", "1", "2.repeats.0", "1", "2.repeats.1", "3"]
    model.blocks[1].repeats[1].attn_scale.mul_(2)
    assert not torch.equal(model(ids), before)


def test_repeats_start_with_what_their_block_has_learned() -> None:
    tied = lively(LOOPED)
    model = lively(replace(LOOPED, untied_mlps=(1, 2), untied_scalars=True), seed=3)
    model.load_state_dict(tied.state_dict(), strict=False)
    ids = ids_of(2, 9)
    assert not torch.equal(model(ids), tied(ids))
    model.start_repeats_()
    assert torch.equal(model(ids), tied(ids))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_dims": 3}, "rope_dims"),
        ({"rope_dims": 10}, "rope_dims"),
        ({"gate_window": 33, "smear_gate": "token"}, "gate_window"),
        ({"bigram_rows": 1}, "bigram_rows"),
        ({"trigram_rows": 1}, "trigram_rows"),
        ({"skips": False, "skip_gates": True}, "skip_gates"),
        ({"value_layers": (4,)}, "value_layers entry"),
        ({"value_layers": (2, 1)}, "value_layers; expected rising"),
        ({"untied_mlps": (1,)}, "untied_mlps; expected blocks that layer_schedule repeats"),
        ({"parallel": "lanes", "parallel_from": 1}, "second half"),
        ({"parallel": "lanes", "parallel_from": 2, "layer_schedule": (0, 1, 2, 3, 1)}, "stay"),
        ({"parallel": "sum", "parallel_from": 4}, "parallel_from"),
        ({"parallel": "maybe"}, "expected one of none, sum, lanes, lanes-in-turn"),
        ({"mlp_slope": 2.0}, "mlp_slope"),
        ({"by_depth": True}, "by_depth; expected untied_scalars"),
        ({"no_attention": (4,)}, "no_attention entry"),
        ({"no_attention": (2, 1)}, "no_attention; expected rising"),
        ({**_BY_DEPTH, "value_layers": (4,)}, "value_layers entry"),
        ({"attention_window": -1}, "attention_window"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        replace(PLAIN, **change)


def test_narrow_presets_keep_their_options() -> None:
    shape = {"vocab_size", "model_dim", "num_heads", "num_kv_heads", "mlp_hidden", "seq_len"}
    shape |= {"rope_dims", "value_dim", "bigram_dim", "bigram_rows", "trigram_dim", "trigram_rows"}
    for preset in PRESETS.values():
        small = narrow(preset.model)
        for field in preset.model.__dataclass_fields__.keys() - shape:
            assert getattr(small, field) == getattr(preset.model, field)


def test_of_two_lanes_the_head_reads_the_named_one() -> None:
    ids = ids_of(2, 14, 4, 9)
    final: dict[str, Tensor] = {}
    for word in ("mean", "attention", "mlp"):
        model = lively(replace(OPTIONS["lanes, the head on one"], lane_output=word))
        before: list[Tensor] = []
        model.final_norm.register_forward_pre_hook(lambda _, a, out=before: out.append(a[0]))
        model(ids)
        final[word] = before[0]
    torch.testing.assert_close(final["mean"], 0.5 * (final["attention"] + final["mlp"]))
    assert not torch.allclose(final["attention"], final["mlp"])

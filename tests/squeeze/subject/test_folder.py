"""Folders of transformers: packed, unpacked, loaded by the library again; others refused."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import squeeze
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, SqueezeError
from squeeze.subject.folder import is_folder, open_folder

transformers = pytest.importorskip("transformers", reason="the extra transformers is missing")

SIZES = {"vocab_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32}
LLAMA = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 1, "max_position_embeddings": 64}
MODELS = {
    "GPT2LMHeadModel": lambda: transformers.GPT2Config(
        vocab_size=256, n_positions=64, n_embd=32, n_layer=1, n_head=2
    ),
    "LlamaForCausalLM": lambda: transformers.LlamaConfig(**LLAMA),
    "Qwen3ForCausalLM": lambda: transformers.Qwen3Config(
        **LLAMA, head_dim=16, tie_word_embeddings=True
    ),
    "OPTForCausalLM": lambda: transformers.OPTConfig(
        **SIZES, ffn_dim=64, max_position_embeddings=64, word_embed_proj_dim=32
    ),
    "BertModel": lambda: transformers.BertConfig(
        **SIZES, intermediate_size=64, max_position_embeddings=64
    ),
}
IDS = torch.arange(40).reshape(2, 20)


def saved(name, folder, dtype=torch.float32):
    torch.manual_seed(0)
    model = getattr(transformers, name)(MODELS[name]()).to(dtype)
    model.save_pretrained(folder)
    return model


def outputs(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS)[0]


def run(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert not result.exception, result.output
    return result


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_packs_and_comes_back_as_one_that_the_library_loads(tmp_path, name):
    model = saved(name, tmp_path / "in")
    text = np.random.default_rng(0).integers(0, 256, 1024)
    piece = open_folder(tmp_path / "in")
    weights = sum(weight.numel() for weight in model.parameters())
    limit = weights // 2
    packed = squeeze.pack(piece.subject, limit, tokens=text, preset="fast")
    assert limit - 200 <= packed.ledger.total <= limit
    packed.save(tmp_path / "m.sqz")
    run("unpack", tmp_path / "m.sqz", "-o", tmp_path / "out")
    again = getattr(transformers, name).from_pretrained(tmp_path / "out")
    squeeze.load_into(model, tmp_path / "m.sqz")
    assert torch.equal(outputs(again), outputs(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_command_packs_a_folder_without_loss_and_scores_the_file(tmp_path, dtype):
    model = saved("LlamaForCausalLM", tmp_path / "in", dtype)
    run("pack", tmp_path / "in", "-o", tmp_path / "m.sqz", "--lossless")
    state = squeeze.load(tmp_path / "m.sqz")
    own = model.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[name], own[name]) and state[name].dtype == dtype for name in own)
    facts = json.loads(run("inspect", tmp_path / "m.sqz", "--json").stdout)
    assert "LlamaForCausalLM" in json.dumps(facts)


def test_unpacking_writes_no_weights_beside_others(tmp_path):
    model = saved("GPT2LMHeadModel", tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    run("pack", tmp_path / "whole", "-o", tmp_path / "m.sqz", "--quant", "all=4", "--small", 0)
    for name in ("whole", "shards"):
        before = {path: path.read_bytes() for path in (tmp_path / name).iterdir()}
        words = ["unpack", str(tmp_path / "m.sqz"), "-o", str(tmp_path / name)]
        error = CliRunner().invoke(cli, words).exception
        assert isinstance(error, SqueezeError) and "a folder without weights" in str(error)
        assert before == {path: path.read_bytes() for path in (tmp_path / name).iterdir()}
    unpacked = run("unpack", tmp_path / "m.sqz", "-o", tmp_path / "out")
    assert run("unpack", tmp_path / "m.sqz", "-o", tmp_path / "out").stdout == unpacked.stdout
    assert "GPT2LMHeadModel" in unpacked.stderr and "c_attn" not in unpacked.stderr


def test_other_folders_are_none_of_transformers(tmp_path):
    assert not is_folder(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert not is_folder(tmp_path)


def test_weights_of_another_model_are_named(tmp_path):
    saved("GPT2LMHeadModel", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 2}))
    with pytest.raises(BadCheckpoint, match=r"weights are not those of GPT2LMHeadModel.*h\.1\."):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "nonesuch"},
        {"architectures": ["Nonesuch"]},
        {"architectures": []},
        {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"},
        {"n_embd": -3},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_one_line(tmp_path, change):
    saved("GPT2LMHeadModel", tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\n")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(SqueezeError) as caught:
        open_folder(tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_a_live_model_of_the_library_packs_too(tmp_path, name):
    model = saved(name, tmp_path / "in")
    text = np.random.default_rng(0).integers(0, 256, 1024)
    limit = sum(weight.numel() for weight in model.parameters()) // 2
    packed = squeeze.pack(model, limit, tokens=text, preset="fast", config={"seq_len": 64})
    assert limit - 200 <= packed.ledger.total <= limit
    packed.save(tmp_path / "m.sqz")
    before = outputs(model)
    squeeze.load_into(model, tmp_path / "m.sqz")
    assert 0 < (outputs(model) - before).abs().max() < 1

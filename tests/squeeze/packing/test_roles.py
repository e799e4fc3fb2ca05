"""Matrices whose names say nothing have the role that their use shows, in every way of packing."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import nn

import squeeze
from squeeze.artifact.file import decode, encode, load
from squeeze.artifact.streams import Artifact
from squeeze.checkpoint.outline import outline
from squeeze.cli import cli
from squeeze.errors import CorruptData
from squeeze.ledger.attribute import artifact_rows
from squeeze.packing.calibrate import Calibration
from squeeze.packing.costs import SAMPLED
from squeeze.packing.pack import pack_model
from squeeze.packing.plan import Plan
from squeeze.packing.presets import RECORDS
from squeeze.packing.request import PackRequest
from squeeze.packing.tune.shares import Shares
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.views.histograms import histograms
from squeeze.views.what_if import foresee, parse
from tests.subjects.decoders import Banks

VOCAB, WIDTH = 64, 32
TABLE, UP, DOWN, HEAD = (f"{number}.weight" for number in (0, 1, 3, 4))
SCRIPT = f"""
from torch import nn
length = 16

def build():
    up, down = nn.Linear({WIDTH}, 128), nn.Linear(128, {WIDTH})
    table, head = nn.Embedding({VOCAB}, {WIDTH}), nn.Linear({WIDTH}, {VOCAB})
    return nn.Sequential(table, up, nn.ReLU(), down, head)
"""


def module() -> nn.Module:
    names: dict[str, object] = {}
    exec(SCRIPT, names)
    torch.manual_seed(0)
    build = names["build"]
    assert callable(build)
    made = build()
    assert isinstance(made, nn.Module)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "net.py").write_text(SCRIPT)
    save_file(module().state_dict(), folder / "m.safetensors")
    return folder


def pack(folder: Path, *options: str) -> Result:
    fixed = ["pack", str(folder / "m.safetensors"), "--model", str(folder / "net.py")]
    return CliRunner().invoke(cli, [*fixed, "-o", str(folder / "m.sqz"), *options])


def largest_codes(path: Path) -> dict[str, int]:
    """Return the largest code of every matrix that is stored in codes."""
    tensors = load(path).tensors.items()
    return {n: np.abs(t.codes).max() for n, t in tensors if isinstance(t, QuantizedTensor)}


@pytest.mark.parametrize("preset", sorted(RECORDS))
def test_a_record_gives_tables_and_heads_of_any_name_the_bits_of_embeddings(
    folder: Path, preset: str
) -> None:
    record, fixed = RECORDS[preset], ["--preset", preset, "--small", "1000"]
    text = ["--tokens", "64"] if record.hessian else []
    assert pack(folder, *fixed, *text).exit_code == 0
    codes = largest_codes(folder / "m.sqz")
    kinds = {TABLE: "embed", UP: "mlp", DOWN: "mlp", HEAD: "embed"}
    assert codes.keys() == kinds.keys()
    for name, kind in kinds.items():
        most = (1 << (8 if record.salient else record.bits[kind]) - 1) - 1
        assert most // 10 < codes[name] <= most, name


def test_a_record_says_what_stays_floats_for_want_of_a_use(tmp_path: Path) -> None:
    idle = SCRIPT.replace(
        "    return", "    head.spare = nn.Linear(64, 64, bias=False)\n    return"
    )
    (tmp_path / "net.py").write_text(idle)
    tensors = module().state_dict() | {"4.spare.weight": torch.randn(64, 64)}
    save_file(tensors, tmp_path / "m.safetensors")
    text = ["--small", "1000", "--tokens", "64", "--json"]
    packed = pack(tmp_path, "--preset", "record-1394", *text)
    assert "4.spare.weight stay fp16: no product or lookup uses them" in packed.stdout


def test_rounding_by_role_goes_by_use(folder: Path) -> None:
    rounded = pack(folder, "--quant", "mlp=3", "--quant", "embed.head=5", "--small", "1000")
    assert rounded.exit_code == 0
    codes = largest_codes(folder / "m.sqz")
    assert (codes[UP], codes[DOWN], codes[HEAD]) == (3, 3, 15) and codes[TABLE] > 15


def test_a_precision_of_a_role_that_no_matrix_has_is_refused(folder: Path) -> None:
    refused = pack(folder, "--quant", "attn=4")
    assert refused.exit_code == 1
    assert "--quant names no matrix; expected all, embed, embed.head" in str(refused.exception)


def test_weights_that_nothing_runs_say_what_their_names_were_taken_for(tmp_path: Path) -> None:
    tensors = {name: torch.randn(64, 32) for name in ("model.embed_tokens.weight", "x.weight")}
    save_file(tensors, tmp_path / "m.safetensors")
    fixed = ["pack", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "m.sqz"), "--json"]
    packed = CliRunner().invoke(cli, [*fixed, "--small", "1000", "--quant", "embed=4"])
    notes = "\n".join(json.loads(packed.stdout)["notes"])
    assert "embeddings and heads are, by name, model.embed_tokens.weight" in notes
    assert largest_codes(tmp_path / "m.sqz")["model.embed_tokens.weight"] == 7


def test_the_plan_prices_every_role_of_a_model_by_itself(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB, 2048)
    packed = squeeze.pack(module(), 5500, tokens=tokens, preset="fast")
    assert packed.plan is not None
    roles = {tensor.name: tensor.role for tensor in packed.plan.tensors if tensor.curve}
    assert roles == {TABLE: "embed.table", UP: "mlp.fc", DOWN: "mlp.proj", HEAD: "embed.head"}
    assert {cost.role for cost in packed.plan.roles} == set(roles.values())
    packed.plan.save(tmp_path / "plan.json")
    plan = Plan.load(tmp_path / "plan.json")
    assert [t.name for t in foresee(plan, parse("mlp=2bit")).tensors] == [UP, DOWN]


def test_a_plan_of_an_earlier_release_has_the_roles_of_its_names(tmp_path: Path) -> None:
    tokens, path = np.random.default_rng(0).integers(0, VOCAB, 2048), tmp_path / "plan.json"
    packed = squeeze.pack(module(), 5500, tokens=tokens, preset="fast")
    assert packed.plan is not None
    packed.plan.save(path)
    facts = json.loads(path.read_text())
    for tensor in facts["tensors"]:
        del tensor["role"]
    path.write_text(json.dumps(facts))
    assert {tensor.role for tensor in Plan.load(path).tensors} == {"other"}


SHOWN = {TABLE: "embed.table", UP: "mlp.fc", DOWN: "mlp.proj", HEAD: "embed.head"}


@pytest.mark.parametrize(
    "options",
    [
        ["--preset", "fast", "--tokens", "64", "--limit", "6000"],
        ["--preset", "record-1394", "--tokens", "64", "--small", "1000"],
        ["--preset", "baseline-int8-zlib", "--small", "1000"],
        ["--quant", "all=4", "--small", "1000"],
    ],
)
def test_the_packed_file_says_the_roles_that_its_names_do_not(
    folder: Path, options: list[str]
) -> None:
    path = folder / "m.sqz"
    assert pack(folder, *options).exit_code == 0
    rows = artifact_rows("m.sqz", path.read_bytes())
    assert SHOWN.items() <= {row.tensor: row.role for row in rows}.items()
    assert SHOWN.items() <= {t.tensor: t.role for t in squeeze.inspect(path).tensors}.items()
    assert SHOWN.items() <= {t.tensor: t.role for t in outline(path).tensors}.items()
    assert len(histograms(path.read_bytes())) == len(SHOWN)


def test_a_bank_has_the_role_of_its_matrices(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 256, 1024)
    packed = squeeze.pack(Banks(), 30_000, tokens=tokens, preset="fast")
    packed.save(tmp_path / "m.sqz")
    parts = {row.tensor: row.role for row in artifact_rows("", packed.data)}
    whole = {t.tensor: t.role for t in squeeze.inspect(tmp_path / "m.sqz").tensors}
    assert {parts["up_bank[0]"], whole["up_bank"]} == {"mlp.fc"}
    assert {whole["qo_bank"], whole["kv_bank"]} == {"attn.qkv"}


def test_roles_that_are_no_words_or_of_no_tensor_are_refused() -> None:
    tensors = {"x": RawTensor(np.zeros((2, 2), np.uint32), "fp32", "fp32")}
    for roles in ([], {"x": 1}, {"y": "mlp.fc"}):
        data = encode(Artifact({"roles": roles}, tensors))
        for read in (decode, lambda data: artifact_rows("", data)):
            with pytest.raises(CorruptData, match="roles in the header"):
                read(data)
    later = encode(Artifact({"roles": {"x": "a.role.of.a.later.release"}}, tensors))
    assert artifact_rows("", later)[2].role == "other"


def test_a_tuned_pack_rounds_the_matrices_into_the_mlp_first_whatever_their_names() -> None:
    piece = Workpiece.of_module(module())
    tokens = np.random.default_rng(0).integers(0, VOCAB, 2048).astype(np.uint16)
    request = PackRequest(5500, "tuned", calibration=Calibration("tokens", ids=tokens), tune=4)
    with patch.object(Shares, "of", wraps=Shares.of) as shares_of:
        pack_model(piece, request)
    ((roles, preset, updates), _) = shares_of.call_args
    assert Shares.of(roles, preset, updates).names == ((UP,), (DOWN,), (TABLE, HEAD))


class Deep(nn.Module):
    """More matrices of a role than are quantized in coarser steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.ups = nn.ModuleList(nn.Linear(WIDTH, 64) for _ in range(SAMPLED + 1))
        self.downs = nn.ModuleList(nn.Linear(64, WIDTH) for _ in range(SAMPLED + 1))
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for up, down in zip(self.ups, self.downs, strict=True):
            x = x + down(torch.relu(up(x)))
        logits: torch.Tensor = self.head(x)
        return logits


def test_roles_of_many_layers_are_said_too() -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB, 1024)
    packed = squeeze.pack(Deep(), 12_000, tokens=tokens, preset="fast")
    roles = {row.tensor: row.role for row in artifact_rows("", packed.data)}
    assert {roles[f"ups.{number}.weight"] for number in range(SAMPLED + 1)} == {"mlp.fc"}

"""A bundle trains as the package does: the same losses and weights, bit for bit, on the CPU."""

import subprocess
import sys

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions

MODEL = {
    "vocab_size": 64, "num_layers": 4, "model_dim": 32, "num_heads": 2, "num_kv_heads": 1,
    "mlp_hidden": 64, "seq_len": 16, "layer_schedule": (0, 1, 2, 1, 2, 3), "rope_dims": 8,
    "q_gain_init": 5.25, "xsa_layers": 4, "mlp_slope": 0.5, "norm_scale": True, "skip_gates": True,
    "parallel": "sum", "parallel_from": 3,
}  # fmt: skip
ENTRY = """
import hashlib
import numpy as np
import torch
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.trainer import Trainer

MODEL = @MODEL@

def main() -> None:
    torch.set_num_threads(1)
    tokens = np.random.default_rng(0).integers(0, 64, 4000).astype(np.uint16)
    recipe = Recipe(steps=3, batch_tokens=64, average="ema", row_normalize=True, precision="fp32")
    trainer = Trainer(ModelConfig(**MODEL), [tokens], recipe, 7)
    for step in range(3):
        loss, norm = trainer.step(step / 3)
        print(loss.item().hex(), norm.item().hex())
    digest = hashlib.sha256()
    for name, weight in trainer.weights().items():
        digest.update(name.encode() + weight.numpy().tobytes())
    print(digest.hexdigest())

main()
"""


@pytest.mark.slow
def test_losses_and_weights_are_those_of_the_package(tmp_path):
    entry, alone = tmp_path / "entry.py", tmp_path / "alone" / "train_gpt.py"
    entry.write_text(ENTRY.replace("@MODEL@", repr(MODEL)))
    alone.parent.mkdir()
    fields = {
        "smear_gate": "none", "bigram_rows": 0, "trigram_rows": 0, "value_layers": (),
        "untied_mlps": (), "untied_scalars": False, "attention_gate": "none",
        "document_attention": False, "parallel": "sum", "skips": True, "skip_gates": True,
    }  # fmt: skip
    shrink = ShrinkOptions(
        terse_errors=True,
        checks=False,
        specialise=True,
        fields={f"ModelConfig.{name}": value for name, value in fields.items()},
    )
    options = BundleOptions(coders=("zlib",), rename_classes=True, shrink=shrink)
    made = bundle(entry, ["squeeze"], options)
    assert "LaneBlock" not in made.readable and "Bigram" not in made.readable
    alone.write_bytes(made.shipped.data)
    before, after = (
        subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
        for path in (entry, alone)
    )
    assert before.returncode == 0, before.stderr
    assert before.stdout.count("0x") == 6 and after.stdout == before.stdout, after.stderr

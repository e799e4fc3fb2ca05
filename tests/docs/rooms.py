"""What a stranger has at hand: the files that the commands of each page name, small ones.

Every file is made once, in a stock, from the challenge's tokenizers and text and from programs of ours.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from stranger import Block

DATA = ("sp1024.model", "fineweb_val_000000.bin")
PACKED = ("model.sqz", "model.sqz.cache", *DATA)
# block, or page → files of its folder before it runs; NAME=FILE: a file of the stock by another name
FILES: dict[str, tuple[str, ...]] = {
    "README.md": (
        *("model.safetensors", "model.jsonl", "train_gpt.py", "final_model.int8.ptz", "gpt2"),
        *("weights.safetensors", "final_model.pt=record-1493.pt", "sp8192.model", "train.py"),
        *("words.py", "mirror", "their-submission", *DATA),
    ),
    "README.md sh 5": ("fineweb_train_000000.bin",),
    "docs/adopt.md": ("train_gpt.py=adopting.py", "final_model.pt=script.pt"),
    "docs/budget.md": (
        *("train_gpt.py", "final_model.int8.ptz", "old.sqz", "new.sqz=model.sqz", "val.bin", *PACKED),
    ),
    "docs/bundle.md": ("train.py", "words.py", "model.sqz", "fineweb_val_000000.bin"),
    "docs/checkpoints.md": ("run.pt", "gpt2", *DATA),
    "docs/checkpoints.md console 2": ("run.pt=plain.pt",),
    "docs/layouts.md": (
        *("final_model.pt=record-1394.pt", "settings.json=record-1394.json", "sp8192.model"),
        "fineweb_val_000000.bin",
    ),
    "docs/protocol.md": ("records", "nine.py", *DATA),
    "docs/prove.md": PACKED,
    "docs/prove.md sh 2": (
        *("train_gpt.py", "model.sqz=script.sqz", "val.bin", "checkpoint.pt=record-1855.pt"),
        "settings.json=record-1855.json",
    ),
    "docs/review.md": ("records",),
    "docs/rules.md": ("submission", "fineweb_train_000000.bin", *DATA),
    "docs/submit.md": ("train.json", "val.bin", *PACKED),
    "docs/submit.md sh 2": tuple(f"{kind}{n}.json" for kind in ("train", "eval") for n in (1, 2, 3)),
    "docs/training.md": ("fineweb_train_000000.bin", "sp1024.model"),
    "docs/tutorial.md": (),
}  # fmt: skip
# exit codes other than 0, which the pages state
CODES = {
    "squeeze inspect run.pt": 1,
    "squeeze eval run.pt --tokenizer sp1024.model --val fineweb_val_000000.bin": 1,
    "squeeze review records/": 1,
}
MODEL_OF = """
from squeeze.checkpoint.read import load_model
from squeeze.train.data.shards import read_shard
from squeeze.train.model.gpt import GPT

model = GPT(load_model("{}").config)
tokens = read_shard("fineweb_val_000000.bin", 512)
"""
# what is shortened in blocks of Python
PYTHON = {'code=["train_gpt.py"])': 'code=["train_gpt.py"], preset="fast", tokens=tokens)'}
# Python blocks that run here, after the commands of their page, and the lines before each
BEFORE = {
    "README.md python 1": MODEL_OF.format("model.safetensors"),
    "docs/bundle.md python 1": MODEL_OF.format("model.sqz"),
    "docs/plan.md python 1": "import math, numpy",
    "docs/submit.md python 1": "from pathlib import Path\n"
    "tokenizer, shard, model = Path('sp1024.model'), Path('val.bin'), Path('model.sqz')\n"
    "report, target = Path('train.json'), Path('target')",
    "docs/trellis.md python 1": "import numpy as np\n"
    "weights, step = np.random.default_rng(0).normal(size=(8, 16)).astype('f4'), np.float32(0.1)",
}
AFTER = {
    "docs/plan.md python 1": "assert loss_at([[2, 0.01], [4, 0.0001]], 3) < 0.0011",
    "docs/trellis.md python 1": "assert np.abs(decoded - weights).max() < 0.3",
}
# blocks that tests elsewhere run or hold against the product
CLAIMED = {
    "docs/adopt.md python": "tests/squeeze/ship/test_adopt.py",
    "docs/api.md python": "tests/docs/test_api.py",
    "docs/budget.md yaml": "tests/docs/test_commands.py",
    "docs/protocol.md python": "tests/squeeze/score/audit/test_audit_command.py",
}


def furnish(block: Block, folder: Path, stock: Path, *, whole_page: bool) -> None:
    """Put the files of a block into its folder; those of its page, too, before the first block."""
    names = FILES.get(block.page, ()) if whole_page else ()
    for name in (*names, *FILES.get(block.name, ())):
        target, _, source = name.partition("=")
        origin, place = stock / (source or target), folder / target
        if origin.is_dir():
            shutil.copytree(origin, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(origin, place)

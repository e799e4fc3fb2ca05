"""README's commands on a packed model run as they stand, on a small model with less to do."""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import FENCED, ROOT
from tutorial import run

BLOCK = next(
    text
    for _, text in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    if text.startswith("squeeze inspect model.safetensors")
)
# what a test changes so that minutes are enough; everything else is run as it stands
QUICK = {
    "--preset best": "--preset fast --tokens 512",
    "--bytes 300000": "--documents 1 --bytes 2000",
    "squeeze audit model.sqz": "squeeze audit model.sqz --tokens 64",
    "squeeze submit model.sqz": "squeeze submit model.sqz --tokens 64",
}
MATERIALS = """
cat > text.py <<'END'
import json
from squeeze.train.data.text import python_docs_text
for text in python_docs_text()[:40]:
    print(json.dumps({"text": text}))
END
python text.py > docs.jsonl
squeeze data tokenizer docs.jsonl -o sp1024.model --vocab 512
squeeze data tokenize docs.jsonl --tokenizer sp1024.model -o shards --val-share 0.2
mv shards/val_000000.bin fineweb_val_000000.bin
squeeze train --data 'shards/train_*.bin' --tokenizer sp1024.model --steps 2 --no-plot \\
    --set batch_tokens=2048 --set model_dim=64 --set mlp_hidden=128 --set num_layers=2 \\
    --set seq_len=64 --set bigram_rows=0 --set trigram_rows=0 -o model.safetensors
"""


def test_what_the_short_run_changes_stands_in_readme() -> None:
    assert all(original in BLOCK for original in QUICK)


@pytest.mark.slow
def test_the_commands_of_readme_run(tmp_path: Path) -> None:
    import torch

    run(MATERIALS, tmp_path)
    (tmp_path / "train_gpt.py").write_text("print('hello')\n", encoding="utf-8")
    torch.save({"blocks.0.mlp.fc.weight": torch.randn(64, 64)}, tmp_path / "plain.pt")
    foreign = zlib.compress((tmp_path / "plain.pt").read_bytes())
    (tmp_path / "final_model.int8.ptz").write_bytes(foreign)
    pattern = re.compile("|".join(map(re.escape, QUICK)))
    printed = run(pattern.sub(lambda match: QUICK[match[0]], BLOCK), tmp_path)
    assert "identical, in another process" in printed
    assert (tmp_path / "submission" / "train_gpt.py").exists()

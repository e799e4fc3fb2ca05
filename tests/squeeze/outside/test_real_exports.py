"""Real files of others, and ours made from them, are attributed to the byte."""

from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from squeeze.artifact import container
from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.ledger.attribute import attribute_paths
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import RawTensor
from tests.squeeze.outside.exports import GOOD


def test_attribution_is_total_for_real_artifacts_and_for_ours(materials, tmp_path):
    folder = materials / "checkpoints"
    tensor = RawTensor(to_bits(np.ones((4, 4), np.float32), "fp32"), "fp32")
    (tmp_path / "ours.sqz").write_bytes(encode(Artifact({"model": {}}, {"a": tensor})))
    for name in ("literal.py", "archive.py"):
        (tmp_path / name).write_bytes(GOOD[name]())
    paths = [*sorted(folder.iterdir()), *sorted(tmp_path.iterdir())]
    paths += [materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin"]
    paths += sorted((materials / "tokenizers").iterdir())[:1]
    assert len(paths) >= 10
    for path in paths:
        result = attribute_paths([path])
        assert result.unattributed == 0 and result.total == path.stat().st_size, path
        if path.parent == folder:
            assert result.weights > 100_000 and len(result.rows) > 20, path


OURS = {
    "lossless": ["--lossless"],
    "int6": ["--quant", "all=6:12.85"],
    "int3, embedding in bf16": ["--quant", "all=3", "--quant", "embed=bf16"],
    "every matrix in integers": ["--quant", "all=5", "--small", "0", "--small-floats", "fp32"],
    "as the baseline": ["--preset", "baseline-int8-zlib"],
}


@pytest.mark.parametrize("name", ["nolanvild_0.48M_fp32.pt", "nolanvild_0.48M.int8.ptz"])
def test_rows_of_our_artifacts_are_their_streams_to_the_byte(materials, name, tmp_path):
    made = {}
    for number, (kind, options) in enumerate(OURS.items()):
        if name.endswith(".ptz") and kind != "lossless":
            continue
        path = tmp_path / f"{number}.sqz"
        arguments = [materials / "checkpoints" / name, "-o", path, *options, "--json"]
        arguments += ["--like", "baseline", "--seq-len", 256, "--mlp-power", 3]
        done = CliRunner().invoke(cli, ["pack", *map(str, arguments)])
        assert done.exit_code == 0, (kind, done.output)
        made[kind] = path
    for kind, path in made.items():
        data = path.read_bytes()
        parsed, rows = container.parse(data), attribute_paths([path]).rows
        assert sum(row.bytes for row in rows) == len(data), kind
        assert all(row.bytes >= 0 for row in rows) and attribute_paths([path]).unattributed == 0
        streams, held = Counter(), Counter()
        for stream in parsed.streams:
            streams[stream.kind] += stream.size
        for row in rows:
            held[row.kind] += row.bytes if row.component == "weights" else 0
        assert +held == +streams, kind
        assert {row.tensor for row in rows if row.tensor} == {t.name for t in parsed.tensors}
    together = attribute_paths(sorted(made.values()))
    assert together.unattributed == 0
    assert together.total == sum(path.stat().st_size for path in made.values())

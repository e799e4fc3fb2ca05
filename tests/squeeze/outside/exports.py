"""Files as others ship them, made small."""

import base64
import binascii
import bz2
import gzip
import io
import lzma
import struct
import zlib

import brotli
import numpy as np
import torch
import zstandard
from safetensors.torch import save

from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap

CODES = torch.from_numpy(np.random.default_rng(0).integers(-20, 21, (24, 32), dtype=np.int8))
SCALE = torch.linspace(0.01, 0.02, 24).half()
SOURCE = b"\n".join(b"print(%d)" % (7919 * i % 10007) for i in range(300))


def torch_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def int8_export():
    return torch_file({
        "__quant_format__": "int8_clean_per_row_v1",
        "quantized": {"blocks.0.mlp.fc.weight": CODES},
        "scales": {"blocks.0.mlp.fc.weight": SCALE},
        "dtypes": {"blocks.0.mlp.fc.weight": "bfloat16"},
        "passthrough": {"blocks.0.attn_scale": torch.arange(32.0)},
        "passthrough_orig_dtypes": {},
    })  # fmt: skip


def mixed_export():
    return torch_file({
        "w": {
            "tok_emb.weight.q": CODES, "tok_emb.weight.scale": SCALE,
            "tok_emb.weight.lqA_a": CODES[:, :4].contiguous(), "skip_weights": SCALE[:8].clone(),
        },
        "m": {"tok_emb.weight": "gptq (int6)+lqer_asym"},
    })  # fmt: skip


def shuffled(data, stride=2, mark=True):
    planes = b"".join(data[plane::stride] for plane in range(stride))
    return (b"BSHF" + bytes([stride]) if mark else b"") + planes


def group_file(**changes):
    groups = [b"LRZI" + bytes(96)] + [b""] * 4 + [b"LRZI" + bytes(196), b""]
    rest = {
        "r": {"tok_emb.weight.scale": SCALE, "skip_weights": SCALE[:8].clone()},
        "m": {"tok_emb.weight": "gptq (int7)"},
        "s": {"_tok_emb.weight.q": [(24, 32)],
              "mlp.fc.weight.q": [torch.Size([24, 32]), torch.Size([24, 32])]},
    }  # fmt: skip
    rest |= changes
    streams = [*groups, brotli.compress(torch_file(rest)), brotli.compress(bytes(48))]
    sizes = [len(s) for s in streams]
    return b"PGRP" + struct.pack(f"<{1 + len(sizes)}I", len(sizes), *sizes) + b"".join(streams)


def llama(version, vocab=20):
    dim, hidden, layers, heads, kv, length = 8, 16, 2, 2, 1, 4
    shape = struct.pack("<7i", dim, hidden, layers, heads, kv, vocab, length)
    matrices = layers * (2 * dim * dim + 2 * dim * dim // 2 + 3 * dim * hidden) + abs(vocab) * dim
    norms = (2 * layers + 1) * dim
    if version == 0:
        head = abs(vocab) * dim if vocab < 0 else 0
        return shape + bytes(4 * (matrices + norms + length * dim // heads + head))
    head = b"24ka" + struct.pack("<i", version) + shape + b"\1" + struct.pack("<i", 8)
    body = matrices * 4 if version == 1 else matrices + matrices // 8 * 4
    return head.ljust(256, b"\0") + bytes(4 * norms + body)


def script(encode, undo, coder):
    text = encode(coder(SOURCE)).decode()
    return f'import lzma,zlib,brotli as B,base64 as b\nexec({undo}("{text}")))\n'.encode()


def halves(data):
    return data[: len(data) // 2], data[len(data) // 2 :]


GOOD = {
    "final_model.int8.ptz": lambda: zlib.compress(int8_export(), 9),
    "int6-lzma.ptz": lambda: lzma.compress(mixed_export()),
    "int6-lzma-alone.ptz": lambda: lzma.compress(mixed_export(), lzma.FORMAT_ALONE),
    "int6-zstd.ptz": lambda: zstandard.compress(mixed_export(), 22),
    "int6-brotli.ptz": lambda: brotli.compress(mixed_export()),
    "int6-gzip.ptz": lambda: gzip.compress(mixed_export()),
    "int6-bz2.ptz": lambda: bz2.compress(mixed_export()),
    "members.gz.ptz": lambda: b"".join(map(gzip.compress, halves(mixed_export()))),
    "members.bz2.ptz": lambda: b"".join(map(bz2.compress, halves(mixed_export()))),
    "members.xz.ptz": lambda: b"".join(map(lzma.compress, halves(mixed_export()))),
    "members.zst.ptz": lambda: b"".join(map(zstandard.compress, halves(mixed_export()))),
    "shuffled.ptz": lambda: brotli.compress(shuffled(mixed_export())),
    "shuffled-3.ptz": lambda: zstandard.compress(shuffled(mixed_export(), 3)),
    "shuffled-unmarked.ptz": lambda: lzma.compress(shuffled(mixed_export(), 4, mark=False)),
    "groups.ptz": group_file,
    "model.safetensors": lambda: save({"lm_head.weight": CODES.float(), "n": CODES.long()}),
    "model.pt": lambda: torch_file({"model": {"_orig_mod.tok_emb.weight": CODES.float()}}),
    "stories.bin": lambda: llama(0),
    "untied.bin": lambda: llama(0, -20),
    "v1.bin": lambda: llama(1),
    "v2.bin": lambda: llama(2),
    "base85.py": lambda: script(base64.b85encode, "lzma.decompress(b.b85decode", lzma.compress),
    "base64.py": lambda: script(base64.b64encode, "zlib.decompress(b.b64decode", zlib.compress),
    "hex.py": lambda: script(binascii.hexlify, "zlib.decompress(bytes.fromhex", zlib.compress),
    "brotli85.py": lambda: script(base64.b85encode, "B.decompress(b.b85decode", brotli.compress),
    "literal.py": lambda: wrap(next(payloads(SOURCE, ("lzma",))), "literal").data,
    "archive.py": lambda: wrap(next(payloads(SOURCE, ("zlib",))), "archive").data,
}  # fmt: skip
COMPRESSED = [name for name in GOOD if name.endswith(".ptz") and name != "groups.ptz"]
SCRIPTS = [name for name in GOOD if name.endswith(".py")]

"""Rewrite tests/fuzz/corpus: small valid files of every target, the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import brotli
import numpy as np
import torch
import zstandard
from safetensors.torch import save

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap
from squeeze.outside import pickles
from squeeze.packing.plan import Plan, tensor_plans
from squeeze.score.proof.file import Proof
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from tests.entries import Log
from tests.entries import claims as make_claims

CORPUS = Path(__file__).parent / "corpus"
RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(-20, 21, (12, 8), dtype=np.int8)
SOURCE = b"\n".join(b"print(%d)" % (7919 * i % 10007) for i in range(40))


def torch_file(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def old_torch_file(value: object) -> bytes:
    """A file as before torch 1.6. torch.save names its storages by their addresses; here by numbers."""
    with zipfile.ZipFile(io.BytesIO(torch_file(value))) as new:
        pickled = new.read("archive/data.pkl")
        keys = sorted(n.rpartition("/")[2] for n in new.namelist() if "/data/" in n)
        storages = [new.read(f"archive/data/{key}") for key in keys]
    views = pickles.tensors(pickles.describe(pickled, "new"), "new")
    elements = {view.storage.key: view.storage.elements for _, view in views}
    facts = {"protocol_version": 1001, "little_endian": True}
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, facts))
    tail = [struct.pack("<q", elements[k]) + data for k, data in zip(keys, storages, strict=True)]
    return head + pickled + pickle.dumps(keys, 2) + b"".join(tail)


def int8_export() -> bytes:
    codes, scale = torch.from_numpy(CODES), torch.ones(12).half()
    return torch_file({
        "__quant_format__": "int8_clean_per_row_v1", "quantized": {"tok_emb.weight": codes},
        "scales": {"tok_emb.weight": scale}, "dtypes": {"tok_emb.weight": "float32"},
        "passthrough": {"skip_weights": torch.ones(4)}, "passthrough_orig_dtypes": {},
    })  # fmt: skip


def mixed_export() -> bytes:
    codes, scale = torch.from_numpy(CODES), torch.ones(12).half()
    return torch_file({"w": {"a.q": codes, "a.scale": scale}, "m": {"a": "gptq (int6)"}})


def groups() -> bytes:
    rest = torch_file({"r": {"x": torch.ones(3)}, "m": {}, "s": {"mlp.fc.weight.q": [(4, 8)]}})
    streams = [b""] * 5 + [b"LRZI" + bytes(20), b"", brotli.compress(rest), b""]
    sizes = [len(s) for s in streams]
    return b"PGRP" + struct.pack("<10I", 9, *sizes) + b"".join(streams)


def llama(version: int) -> bytes:
    numbers = struct.pack("<7i", 4, 8, 1, 2, 1, 8, 2)
    matrices = 2 * 16 + 2 * 8 + 3 * 32 + 32
    if version == 0:
        return numbers + bytes(4 * (matrices + 12 + 4))
    head = (b"24ka" + struct.pack("<i", version) + numbers + b"\1" + struct.pack("<i", 8)).ljust(
        256
    )
    return head + bytes(48 + (4 * matrices if version == 1 else matrices + matrices // 2))


def artifact(quantizer: str = "uniform") -> bytes:
    wide = quantizer == "trellis"
    tensors = {
        "tok_emb.weight": QuantizedTensor(
            np.abs(CODES) if wide else CODES, to_bits(np.full(12, 0.1, np.float32), "fp16"), (12, 8),
            quantizer=quantizer, states=8 if wide else 0,
        ),
        "skip_weights": RawTensor(to_bits(np.ones(6, np.float32), "bf16"), "bf16"),
    }  # fmt: skip
    return encode(Artifact({"model": {"a": 1}}, tensors))


def plan() -> bytes:
    data = artifact()
    curve = ((2.0, 0.1), (3.0, 0.01))
    tensors = tensor_plans(
        data, {"tok_emb.weight": 1.0}, {"tok_emb.weight": 0.01}, {"tok_emb.weight": curve}
    )
    made = Plan(
        "key", hashlib.sha256(data).hexdigest(), len(data), 900, 2, 0.01, 0.02, 2.3, tensors
    )
    path = CORPUS / "plan" / "plan.json"
    made.save(path)
    return path.read_bytes()


def shard() -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 9
    return header.tobytes() + np.arange(9, dtype="<u2").tobytes()


def tokenizer() -> bytes:
    import sentencepiece

    text = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a small text of few words, said twice", "few words of a text"] * 9),
        model_writer=text, vocab_size=64, model_type="bpe", hard_vocab_limit=False,
        minloglevel=2, normalization_rule_name="identity", num_threads=1,
    )  # fmt: skip
    return text.getvalue()


def report() -> dict[str, object]:
    numbers = {"nats_per_token": 1.5, "bpb": 1.5, "tokens": 3, "bytes": 9}
    mode = {"mode": "window", "options": {"length": 8}, "config": {"seq_len": 8}}
    hashes = {"model": "ab", "tokenizer": "cd", "data": ["ef"]}
    return {**numbers, **mode, "recipe": None, "official": None, "sha256": hashes}


def answers() -> bytes:
    from squeeze.score.serving.protocol import HEADER, REPORT, VERSION

    hello = {"protocol": VERSION, "vocab_size": 2, "stateful": False, "window": 2, "stride": 2,
             "isolated": True, "scores_bos": False}  # fmt: skip
    said = [
        (b"H", json.dumps(hello).encode()),
        (b"S", np.full(2, -0.7, "<f4").tobytes()),
        (b"R", REPORT.pack(1.4, 5, 2) + np.full(2, 0.7, "<f4").tobytes()),
    ]
    return b"".join(HEADER.pack(len(payload), kind) + payload for kind, payload in said)


def state() -> bytes:
    from squeeze.train.run.state import save_state

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.state"
        save_state(path, {"model.x": torch.ones(2)}, {"step": 3})
        return path.read_bytes()


def calibration() -> dict[str, dict[str, bytes]]:
    from safetensors.numpy import save as save_arrays

    from squeeze.files.arrays import META, digest_of

    def kept(arrays: dict[str, np.ndarray], **facts: object) -> bytes:
        facts |= {"key": "key", "source": "self", "tokens": 4, "sha256": digest_of(arrays)}
        return save_arrays(arrays, {META: json.dumps(facts)})

    eye, ids = np.eye(2, dtype=np.float32), np.arange(6, dtype=np.uint16).reshape(2, 3)
    return {
        "hessians": {"two": kept({"x": eye}, shared={"x": "x", "y": "x"})},
        "gradients": {"two": kept({"x": eye, "y": eye[0]})},
        "calibration-text": {"two": kept({"ids": ids})},
    }


def tokenizing() -> bytes:
    job = {"inputs": [], "tokenizer": "", "share": 0.5, "shard_tokens": 100, "separator": None,
           "field": "text"}  # fmt: skip
    side = {"documents": 1, "text_bytes": 9, "table_bytes": 9}
    state = {"job": job, "documents": 2, "finished": False, "sizes": {"train": [], "val": []},
             "counts": {"train": side, "val": side}}  # fmt: skip
    tokens = np.arange(5, dtype=np.uint16)
    buffer = io.BytesIO()
    np.savez(buffer, state=np.frombuffer(json.dumps(state).encode(), np.uint8), train=tokens,
             val=tokens)  # fmt: skip
    return buffer.getvalue()


def submissions() -> dict[str, dict[str, bytes]]:
    flat = lambda value: json.dumps(value).encode()  # noqa: E731
    clock = [{"stage": "training", "seconds": 2.5, "inside": True}]
    model = {"vocab_size": 9, "num_layers": 1, "model_dim": 8, "num_heads": 2, "num_kv_heads": 1,
             "mlp_hidden": 8}  # fmt: skip
    parent = {"source": "x", "name": "y", "author": "z", "val_bpb": 1.3, "changed": {"a.b": [1, 2]}}
    claims = {
        "name": "a", "author": "b", "github_id": "c", "blurb": "d", "date": "2026-03-18",
        "val_bpb": 1.25, "val_loss": 2.5, "val_bpb_mean": 1.5, "val_bpb_std": 0.1,
        "val_loss_mean": 1.0, "val_loss_std": 0.1, "bytes_total": 3, "bytes_code": 1,
        "bytes_model": 2, "limit": 16_000_000, "totals": {"shipped": 3, "rule": 3, "virtual": 3},
        "score": {"mode": "sliding", "length": 8, "stride": 4, "ttt": {}, "tokens": 9, "bytes": 20,
                  "official": None, "partial": True},
        "seeds": [{"seed": 1, "val_bpb": 1.25, "val_loss": 2.5, "model": "0a" * 32}],
        "config": {"model": model, "recipe": {"warmup": 0.1}}, "clock": clock,
        "training_seconds": 2.5, "scorer": ["python", "train_gpt.py", "--serve"],
        "files": {"x.py": {"bytes": 1, "sha256": "0a" * 32}},
        "sha256": {**dict.fromkeys(("model", "code", "config", "tokenizer"), "0a" * 32),
                   "data": ["0b" * 32], "squeeze": None}, "authors": ["b"],
        "assistance": ["none"], "parents": [parent], "squeeze": "1", "versions": {"torch": "2"},
    }  # fmt: skip
    log = {"bpb": 1.25, "nats": 20.0, "tokens": 8, "bytes": 23, "mode": "window", "seed": 1,
           "sha256": {"train_gpt.py": "0a" * 32, "model.sqz": "0b" * 32}, "clock": clock,
           "config": model, "recipe": {"warmup": 0.1}}  # fmt: skip
    training = {"seed": 1, "config": model, "recipe": {"warmup": 0.1}, "clock": clock}
    guarded = b"import torch\ntry:\n    import numba.core as n\nexcept ImportError:\n    n = None\n"
    long = guarded + b"\n".join(b"print(%d)" % (7919 * i % 10007) for i in range(400))
    return {
        "parent": {"one": flat(claims)},
        "entrant-claims": {
            "one": flat(
                make_claims(
                    seeds=[1, 2],
                    seed_results={"1": {"val_bpb": 1.2, "artifact_bytes": 15_000_069}},
                    artifact_bytes_max=15_000_069,
                    base_submission="eight",
                )
            )
        },
        "entrant-log": {"one": Log().text().encode()},
        "papers": {"one": flat(claims)},
        "run-log": {"one": b"step:1\n" + flat(log)},
        "training": {"one": flat(training)},
        "imports": {
            "plain": guarded,
            "packed": wrap(next(payloads(long, ("lzma",))), "literal").data,
        },
    }


def files() -> dict[str, dict[str, bytes]]:
    """Corpus by target and name."""
    flat = lambda value: json.dumps(value).encode()  # noqa: E731
    raw = b"".join(int8_export()[plane::2] for plane in range(2))
    safe = save({"tok_emb.weight": torch.ones(3, 4)}, {"other": "text"})
    stub = b'import lzma as L,base64 as b\nexec(L.decompress(b.b85decode("%s")))\n'
    return {
        "sqz": {"uniform": artifact(), "trellis": artifact("trellis")},
        "ptz": {"zlib": zlib.compress(int8_export())},
        "ptz-inside": {"torch": int8_export()},
        "pt": {"state": torch_file({"model": {"a": torch.ones(3, 2).bfloat16()}}),
               "torch-1.5": old_torch_file({"model": {"a": torch.ones(3, 2).bfloat16()}})},
        "safetensors": {"plain": safe},
        "foreign": {
            "groups": groups(), "zlib": zlib.compress(int8_export()),
            "brotli": brotli.compress(b"BSHF\2" + raw), "zstd": zstandard.compress(mixed_export()),
            "xz": lzma.compress(mixed_export()), "safetensors": safe,
            "int8": save({"a.q": torch.from_numpy(CODES)}),
        },
        "foreign-inside": {"int8": int8_export(), "mixed": mixed_export()},
        "llama-bin": {f"v{version}": llama(version) for version in (0, 1, 2)},
        "script": {
            "base85": stub % base64.b85encode(lzma.compress(SOURCE)),
            "literal": wrap(next(payloads(SOURCE, ("lzma",))), "literal").data,
            "archive": wrap(next(payloads(SOURCE, ("zlib",))), "archive").data,
        },
        "shard": {"nine": shard()},
        "tokenizer": {"bpe": tokenizer()},
        "plan": {"plan.json": plan()},
        "gate": {"two": flat({"a": 5, "b": 6})},
        "code-report": {"one": flat({"parts": [{"module": "m", "name": "n", "bytes": 3, "chars": 9}]})},
        "eval-report": {"one": flat(report())},
        "proof": {"one": Proof(b"abcd", b"efgh", bytes(8), 2, 9, 1, 1, "cpu",
                               {"mode": "ttt-lora", "length": 9}, b"xyz").to_bytes()},
        "hello": {"rows": flat({"protocol": 1, "vocab_size": 8, "stateful": False, "window": 8,
                                "stride": 4, "isolated": True, "scores_bos": False}),
                  "stateful": flat({"protocol": 1, "vocab_size": 8, "stateful": True, "chunk": 9,
                                    "isolated": True})},
        "answers": {"three": answers()},
        "submission": {"one": flat({"command": ["python", "train_gpt.py"], "val_bpb": 1.2,
                                    "name": "x", "bytes_total": 5})},
        "run-state": {"one": state()},
        "metadata": {"one": state(), "plain": safe},
        "log": {"two": b'{"event": "start"}\n{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0}\n'},
        "model-config": {"small": flat({"vocab_size": 8, "num_layers": 1, "model_dim": 8,
                                        "num_heads": 2, "num_kv_heads": 1, "mlp_hidden": 8})},
        "manifest": {"one": flat({
            "datasets": [{"name": "fineweb10B_sp1024", "tokenizer_name": "t",
                          "stats": {"files_train": 2, "files_val": 1}}],
            "tokenizers": [{"name": "t", "model_path": "tokenizers/t.model"}],
        })},
        **calibration(),
        "tokenizing": {"one": tokenizing()},
        "fetched": {"one": flat({"manifest.json": {"sha256": "0a" * 32, "bytes": 9,
                                                   "source": "origin"}})},
        **submissions(),
        "sums": {"one": b"%s  datasets/x.bin\n" % (b"0a" * 32)},
    }  # fmt: skip


def main() -> None:
    shutil.rmtree(CORPUS, ignore_errors=True)
    (CORPUS / "plan").mkdir(parents=True)
    for target, found in files().items():
        for name, data in found.items():
            path = CORPUS / target / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()

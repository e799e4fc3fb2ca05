"""Planted violations, each one that reviewers of the challenge caught by hand or could have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.zoo.animals import CLOCK, CONFIG, Animal, Habitat, Tokens

REPORT = "        losses = self.losses(tokens)\n"
READ = "    return np.log((1 - CACHE) * bigram + CACHE * copied)\n"
SIZES = '(PIECES["space"][target] & ~PIECES["boundary"][before])\n'
START = 'weights = np.load("model.npz")\n'
# changes that train on a chunk before it is scored
TRAIN_FIRST = (
    (
        "        rows = np.empty((len(tokens), VOCAB), np.float32)\n",
        "        rows = np.empty((len(tokens), VOCAB), np.float32)\n"
        "        ahead = [*zip(tokens, tokens[1:], strict=False)]\n",
    ),
    (
        "            if len(self.chunk) == CHUNK:\n",
        "            if i % CHUNK == 0 and len(ahead[i:]) >= CHUNK:\n"
        "                self.chunk = ahead[i : i + CHUNK]\n",
    ),
)
HELPER_BYTES = 400_000  # random, beside a base of about 310,000 bytes
LIMIT = 500_000  # the zoo's cap


def _hidden_helper(folder: Path, habitat: Habitat) -> None:
    (folder / "notes.md").write_bytes(bytes(HELPER_BYTES))


def _large_weights(folder: Path, habitat: Habitat) -> None:
    np.savez(folder / "more.npz", more=np.zeros(HELPER_BYTES, np.uint8))


def _link_outside(folder: Path, habitat: Habitat) -> None:
    (folder / "weights.npz").symlink_to(habitat.folder / "model.npz")


def _wrong_sidecar(folder: Path, habitat: Habitat) -> None:
    pieces = dict(np.load(folder / "pieces.npz"))
    pieces["base"] = np.roll(pieces["base"], 1)  # made for another tokenizer
    np.savez(folder / "pieces.npz", **pieces)


def _mixed_seeds(folder: Path, habitat: Habitat) -> None:
    run = {"seed": 3, "val_bpb": 2.9, "config": {**CONFIG, "matrix_lr": 0.03, "seed": 3}}
    (folder / "seed3.json").write_text(json.dumps(run))


def _mixed_logs(folder: Path, habitat: Habitat) -> None:
    for seed, rate in ((1, 0.02), (2, 0.02), (3, 0.025)):
        (folder / f"seed{seed}.json").unlink()
        log = f"seed:{seed}\nnum_layers:11 matrix_lr:{rate}\nstep:9/9 train_time:599000ms\n"
        (folder / f"train_seed{seed}.log").write_text(log)


def _late_log(folder: Path, habitat: Habitat) -> None:
    (folder / "train.log").write_text("step:4945/20000 train_time:601153ms step_avg:121.6ms\n")


def _with_validation(habitat: Habitat) -> Tokens:
    return np.concatenate([habitat.train, habitat.validation[:400]])


def _with_near_validation(habitat: Habitat) -> Tokens:
    """Validation documents with every fortieth token another one."""
    copy = habitat.validation.copy()
    copy[20::40] = 5 + (copy[20::40] + 1) % 300
    return np.concatenate([habitat.train, copy])


OFFENDERS = (
    Animal(  # #886, #1147, #1872
        "unnormalised mixture",
        "normalisation",
        changes=((READ, "    return np.log(bigram + CACHE * copied)\n"),),
    ),
    Animal(
        "probability of the listed tokens only",
        "normalisation",
        changes=((READ, READ.replace("* copied)", "* copied).clip(-9)")),),
    ),
    Animal(  # #1240
        "target peek",
        "causality",
        changes=(
            (
                READ,
                READ.replace("return", "rows =")
                + "    rows[np.arange(len(rows) - 1), tokens[1:]] += 1\n"
                + "    return log_softmax(rows)\n",
            ),
        ),
    ),
    Animal(  # #1420
        "cache that holds its own target",
        "causality",
        changes=(("np.tril(same)", "np.tril(same, 1)"),),
    ),
    Animal(
        "target peek in what it is fed later",
        "causality",
        "ttt-stream",
        (
            (
                "    def adapt(self, tokens):\n",
                "    def adapt(self, tokens):\n"
                "        started, rows = self.last is not None, self.blind(tokens)\n"
                "        rows[np.arange(len(rows) - 1), tokens[1:]] += started\n"
                "        return log_softmax(rows)\n\n"
                "    def blind(self, tokens):\n",
            ),
        ),
    ),
    Animal(  # #1376
        "train then score",
        "score-before-update",
        "ttt-stream",
        TRAIN_FIRST,
    ),
    Animal(
        "train then score behind a small declared chunk",
        "score-before-update",
        "ttt-stream",
        (
            ('{"chunk": CHUNK}', '{"chunk": 1}'),
            *TRAIN_FIRST,
        ),
    ),
    Animal(  # #677
        "train then score in the report alone",
        "score-before-update",
        "ttt-stream",
        (
            (
                "            rows = self.adapt(tokens[:-1])\n",
                "            rows = []\n"
                "            for at in range(0, len(tokens) - 1, CHUNK):\n"
                "                part = tokens[at : at + CHUNK + 1]\n"
                "                self.chunk = list(zip(part[:-1], part[1:], strict=True))\n"
                "                self.learn()\n"
                "                rows += [log_softmax(TABLE[t] + self.bias) for t in part[:-1]]\n"
                "            rows = np.stack(rows)\n",
            ),
        ),
    ),
    Animal(  # #1900
        "warm-up stepping on validation",
        "score-before-update",
        "ttt-stream",
        (
            (
                "            rows = self.adapt(tokens[:-1])\n",
                "            self.chunk = list(zip(tokens[:200], tokens[1:201], strict=True))\n"
                "            self.learn()\n"
                "            rows = self.adapt(tokens[:-1])\n",
            ),
        ),
    ),
    Animal(
        "rescoring after a first pass",
        "single-pass",
        "ttt-stream",
        (
            (
                "            rows = self.adapt(tokens[:-1])\n",
                "            self.adapt(tokens[:-1])\n            rows = self.adapt(tokens[:-1])\n",
            ),
        ),
    ),
    Animal(
        "state that survives a reset",
        "single-pass",
        "ttt-stream",
        (("        self.forget()\n\n", "        self.last, self.chunk = None, []\n\n"),),
    ),
    Animal(  # #1855
        "BOS leak through the context",
        "documents",
        "documents",
        (("np.cumsum(tokens == BOS) if ISOLATED else ", ""),),
    ),
    Animal(
        "BOS leak through test-time training",
        "documents",
        "ttt-document",
        (
            (
                "            if ISOLATED and token == BOS:\n"
                "                self.forget()\n"
                "            elif",
                "            if",
            ),
        ),
    ),
    Animal(  # #1719
        "doubled space bytes", "bytes", changes=((SIZES, SIZES.replace("(P", "2 * (P", 1)),)
    ),
    Animal(  # #1271
        "byte pieces counted by name",
        "bytes",
        changes=(
            (SIZES, SIZES + "        sizes = sizes + 5 * ((target >= 4) & (target < 260))\n"),
        ),
    ),
    Animal("wrong sidecar", "bytes", extra=_wrong_sidecar),  # #2138
    Animal(  # #1881
        "partial validation",
        "coverage",
        changes=(("offset=1024)\n", "offset=1024)[:-100]\n"),),
    ),
    Animal(
        "validation set of another size",
        "coverage",
        claims={"val_tokens": 1000},
    ),
    Animal(  # #1218
        "tail scored twice",
        "coverage",
        "sliding",
        (
            (
                "                    done = stop\n",
                "                    done = stop - STRIDE * (stop == end)\n",
            ),
        ),
    ),
    Animal(
        "clamped targets",
        "score",
        changes=((REPORT, REPORT.replace("(tokens)", "(tokens).clip(max=6)")),),
    ),
    Animal(
        "another mixture in the report",
        "score",
        changes=((REPORT, "        globals().update(CACHE=0.1)\n" + REPORT),),
    ),
    Animal(  # #1809, #1835
        "over the cap by a hidden helper",
        "size",
        changes=((START, 'open("notes.md", "rb").read()\n' + START),),
        extra=_hidden_helper,
    ),
    Animal("over the cap", "size", extra=_large_weights, claims={"bytes_total": LIMIT}),
    Animal("counts fewer bytes than it ships", "size", claims={"bytes_total": 200_000}),
    Animal(
        "file outside the folder",
        "files",
        changes=(
            (
                START,
                "try:\n    open('/srv/better/weights.npz', 'rb').read()\nexcept OSError:\n    pass\n"
                + START,
            ),
        ),
    ),
    Animal("link that leaves the folder", "files", extra=_link_outside),
    Animal(
        "network use",
        "network",
        changes=(
            (
                START,
                "import socket\ntry:\n    socket.getaddrinfo('weights.invalid', 443)\n"
                "except OSError:\n    pass\n" + START,
            ),
        ),
    ),
    Animal(
        "another answer every time",
        "determinism",
        changes=(
            (
                READ,
                READ.replace("return", "rows =")
                + "    return log_softmax(rows + np.random.normal(size=rows.shape) / 50)\n",
            ),
        ),
    ),
    Animal("mixed seeds", "seeds", extra=_mixed_seeds),  # #2124
    Animal("mixed settings in the logs", "seeds", extra=_mixed_logs),
    Animal("validation in training shards", "overlap", train=_with_validation),  # #2127
    Animal("almost validation in training shards", "overlap", train=_with_near_validation),
    Animal(  # #2041
        "work outside the timer",
        "clock",
        claims={"clock": [*CLOCK[:2], {**CLOCK[2], "inside": False}, CLOCK[3]]},
    ),
    Animal("training over time", "clock", claims={"training_seconds": 612.4}),
    Animal("log over time", "clock", extra=_late_log),
)

"""Inputs of the first block: hashed pairs and triples of tokens, and gates to the token before.

Everything here that looks back stops at the beginning of a document; with `inputs_cross_documents`
only at the first token of all, as in #65 to #1204. A `Shift` moves values by one token, also across
the steps of an incremental forward.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.layers import Linear, Table, vector

Shift = Callable[[str, Tensor], Tensor]  # (what it is, x [B, T, ...]) -> x one token earlier

FIRST_PRIME, SECOND_PRIME = 36313, 27191  # of the hash of #65
THIRD_PRIME = 51437


def predecessors(ids: Tensor, bos_id: int, shift: Shift) -> Tensor:
    """Return the token before each of ids int64 [B, T], -1 where its document begins."""
    before = shift("token", ids + 1) - 1  # what a shift finds before a row is 0
    return torch.where(ids == bos_id, -1, before)


def second_predecessors(ids: Tensor, before: Tensor, bos_id: int, shift: Shift) -> Tensor:
    """Return the token two before each of ids, -1 where its document has none.

    before: as of `predecessors`
    """
    second = shift("second token", before + 1) - 1
    return torch.where(ids == bos_id, -1, second)


class Bigram(nn.Module):
    """Rows of a hash table for pairs of neighbouring tokens, projected to the width (BigramHash).

    The row is (36313·token XOR 27191·token before) mod (rows − 1); the last row is for tokens without
    a predecessor in their document. Source: #65, sizes 2048×128 … 2816×160 in later records.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = Table(config.bigram_rows, config.bigram_dim)
        self.proj = Linear(config.bigram_dim, config.model_dim)
        self.scale = vector(1)

    def rows(self, ids: Tensor, before: Tensor) -> Tensor:
        """Return row numbers int64 [B, T] of ids [B, T] and the tokens before them (`predecessors`)."""
        last = self.table.num_embeddings - 1
        hashed = (FIRST_PRIME * ids) ^ (SECOND_PRIME * before)
        return torch.where(before < 0, last, hashed % last)

    def forward(self, ids: Tensor, before: Tensor) -> Tensor:
        out: Tensor = self.proj(self.table(self.rows(ids, before)).to(self.proj.weight.dtype))
        return out * self.scale


class Trigram(nn.Module):
    """Rows of a hash table for each token with the two before it, projected to the width.

    (36313·token XOR 27191·token before XOR 51437·token before that) mod (rows − 1); the last row is for
    tokens with fewer than two predecessors in their document. Tables cost no multiplications, so where
    compute is short they are the cheapest source of n-gram statistics (figures: docs/log.md). After
    #65; hashed n-grams beside a network: T. Mikolov et al., "Strategies for training large scale neural
    network language models", ASRU 2011.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = Table(config.trigram_rows, config.trigram_dim)
        self.proj = Linear(config.trigram_dim, config.model_dim)
        self.scale = vector(1)

    def rows(self, ids: Tensor, before: Tensor, second: Tensor) -> Tensor:
        """Return row numbers int64 [B, T] of ids [B, T] and their two predecessors."""
        last = self.table.num_embeddings - 1
        hashed = (FIRST_PRIME * ids) ^ (SECOND_PRIME * before) ^ (THIRD_PRIME * second)
        return torch.where(second < 0, last, hashed % last)

    def forward(self, ids: Tensor, before: Tensor, second: Tensor) -> Tensor:
        out: Tensor = self.proj(
            self.table(self.rows(ids, before, second)).to(self.proj.weight.dtype)
        )
        return out * self.scale


class ChannelSmear(nn.Module):
    """Gate by channel that mixes in a learned share of the token before (SmearGate, #65).

    (1 − g)·x[t] + g·x[t−1] with g = sigmoid(gate) [D], on normalised embeddings. `inside` [B, T, 1] is
    0 at the beginning of a document, where x stays as it is, else 1. Across documents it is 1
    everywhere, and the first token of all becomes (1 − g)·x.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = vector(config.model_dim)

    def forward(self, x: Tensor, inside: Tensor, shift: Shift) -> Tensor:
        share = torch.sigmoid(self.gate) * inside
        return x + share * (shift("smear", x) - x)


class TokenSmear(nn.Module):
    """Gate by token: x[t] + s·sigmoid(w·x[t][:window])·x[t−1], before the norm (#1667, #1855).

    w [1, window] and s begin at zero. `inside` [B, T, 1] is 0 at the beginning of a document: without
    it each document would read the last token of the one before (a leak that #1855 had to mend).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window = config.gate_window
        self.gate = Linear(config.gate_window, 1)
        self.scale = vector(1)

    def forward(self, x: Tensor, inside: Tensor, shift: Shift) -> Tensor:
        share = self.scale * torch.sigmoid(self.gate(x[..., : self.window])) * inside
        return x + share * shift("smear", x)


SMEARS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "channels": ChannelSmear,
    "token": TokenSmear,
}


class ValueEmbedding(nn.Module):
    """Narrow table of token values that attention adds, shared by all layers that use it (#374).

    Projected from `value_dim` to the width of all values; each using layer has a scale of its own.
    After "Value Residual Learning" (Z. Zhou et al., arXiv 2410.17897) and modded-nanogpt.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = Table(config.vocab_size, config.value_dim)
        self.proj = Linear(config.value_dim, config.kv_dim)
        self.scale = vector(1)

    def forward(self, ids: Tensor) -> Tensor:
        """Return what is added to the values [B, T, KV·d] of ids [B, T]."""
        out: Tensor = self.proj(self.table(ids).to(self.proj.weight.dtype))
        return out * self.scale

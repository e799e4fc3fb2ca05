"""Small decoders in the field's styles; every class is a program's own, made without arguments."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCAB, WIDTH, HEADS, LENGTH = 256, 64, 4, 32
length = LENGTH


def heads(x: Tensor) -> Tensor:
    """Return [B, H, T, d] of [B, T, D]."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention [B, T, D] of queries, keys and values [B, T, D]."""
    mixed = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


def norm(x: Tensor) -> Tensor:
    """Return x over its root mean square."""
    return F.rms_norm(x, (x.size(-1),))


def noise(*shape: int) -> nn.Parameter:
    """Return a matrix, or several, of random weights."""
    return nn.Parameter(torch.randn(*shape) * shape[-1] ** -0.5)


class Linear(nn.Linear):
    """Linear layer whose weights are cast to the inputs' dtype."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Block(nn.Module):
    """Attention and an MLP, each with a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.c_q, self.c_k = Linear(WIDTH, WIDTH), Linear(WIDTH, WIDTH)
        self.c_v, self.proj = Linear(WIDTH, WIDTH), Linear(WIDTH, WIDTH)
        self.fc, self.fc_proj = Linear(WIDTH, 2 * WIDTH), Linear(2 * WIDTH, WIDTH)
        self.mix = nn.Parameter(torch.ones(2, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = norm(x)
        x = x + self.mix[0] * self.proj(attend(self.c_q(y), self.c_k(y), self.c_v(y)))
        return x + self.mix[1] * self.fc_proj(F.relu(self.fc(norm(x))).square())


class Baseline(nn.Module):
    """The challenge baseline's way: forward(ids, targets) gives the mean loss, the head is the table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        x = norm(self.tok_emb(input_ids))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(norm(x).reshape(-1, WIDTH), self.tok_emb.weight)
        logits = 30.0 * torch.tanh(logits / 30.0)
        return F.cross_entropy(logits.float(), target_ids.reshape(-1), reduction="mean")


class Banks(nn.Module):
    """Weights of all layers in banks of three dimensions; logits by a method of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.qo_bank, self.kv_bank = noise(4, WIDTH, WIDTH), noise(4, WIDTH, WIDTH)
        self.up_bank, self.down_bank = noise(2, 2 * WIDTH, WIDTH), noise(2, WIDTH, 2 * WIDTH)

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = norm(self.tok_emb(ids))
        for layer in range(2):
            y = norm(x)
            q, k, v = (
                F.linear(y, bank[at].type_as(y))
                for bank, at in (
                    (self.qo_bank, layer),
                    (self.kv_bank, layer),
                    (self.kv_bank, layer + 2),
                )
            )
            x = x + F.linear(attend(q, k, v), self.qo_bank[layer + 2])
            up = F.leaky_relu(F.linear(norm(x), self.up_bank[layer]), 0.5).square()
            x = x + F.linear(up, self.down_bank[layer])
        return F.linear(norm(x), self.tok_emb.weight)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.forward_logits(ids).flatten(0, 1), targets.flatten())


class FusedQkv(nn.Module):
    """One matrix for queries, keys and values, positions in a table, and a tuple (logits, loss)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.wte, self.wpe = nn.Embedding(VOCAB, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.ln, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        q, k, v = self.c_attn(self.ln(x)).split(WIDTH, dim=2)
        x = x + self.c_proj(attend(q, k, v))
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Looped(nn.Module):
    """Two blocks that run three times, with a table of rotary angles that is kept between calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.lm_head = Linear(WIDTH, VOCAB)
        self._angles: Tensor | None = None

    def angles(self, count: int, device: torch.device) -> Tensor:
        if self._angles is None or len(self._angles) < count:
            self._angles = torch.outer(torch.arange(count, device=device), torch.ones(WIDTH)).cos()
        return self._angles[:count]

    def forward(self, ids: Tensor) -> Tensor:
        x = norm(self.tok_emb(ids)) * self.angles(ids.size(1), ids.device)
        for _ in range(3):
            for block in self.blocks:
                x = block(x)
        return self.lm_head(norm(x))


class HalfPrecision(nn.Module):
    """Activations and weights in bfloat16, under autocast for the last part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.block, self.lm_head = Block(), nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.block(norm(self.tok_emb(ids)).bfloat16())
        with torch.autocast(ids.device.type, torch.bfloat16):
            return self.lm_head(norm(x)).float()


class Transposed(nn.Module):
    """Matrices that are stored [in, out], as GPT-2's are; scores of attention written out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.wte = nn.Embedding(VOCAB, WIDTH)
        self.qkv, self.bias = noise(WIDTH, 3 * WIDTH), nn.Parameter(torch.zeros(3 * WIDTH))
        self.out, self.up, self.down = noise(WIDTH, WIDTH), noise(WIDTH, 96), noise(96, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)
        y = torch.addmm(self.bias, norm(x).view(-1, WIDTH), self.qkv).view(*ids.shape, -1)
        q, k, v = map(heads, y.chunk(3, -1))
        hidden = torch.ones(ids.size(1), ids.size(1), device=ids.device).triu(1).bool()
        shares = (q @ k.mT * 0.25).masked_fill(hidden, -torch.inf).softmax(-1)
        x = x + (shares @ v).transpose(1, 2).flatten(2) @ self.out
        x = x + F.gelu(norm(x) @ self.up) @ self.down
        return norm(x) @ self.wte.weight.T


class Einsums(nn.Module):
    """Heads as a dimension of the weights, products as einsums; a gate for each head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.table, self.head = noise(VOCAB, WIDTH), noise(WIDTH, VOCAB)
        self.q, self.k = noise(WIDTH, HEADS, 16), noise(WIDTH, HEADS, 16)
        self.v, self.o = noise(WIDTH, HEADS, 16), noise(HEADS, 16, WIDTH)
        self.gate = noise(HEADS, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table[ids]
        y = norm(x)
        q, k, v = (torch.einsum("btd,dhk->bhtk", y, w) for w in (self.q, self.k, self.v))
        hidden = torch.ones(ids.size(1), ids.size(1), device=ids.device).triu(1).bool()
        scores = torch.einsum("bhtk,bhsk->bhts", q, k).masked_fill(hidden, -torch.inf)
        mixed = torch.einsum("bhts,bhsk->bthk", scores.softmax(-1), v)
        mixed = mixed * torch.sigmoid(F.linear(y, self.gate))[..., None]
        x = x + torch.einsum("bthk,hkd->btd", mixed, self.o)
        return torch.einsum("...d,dv->...v", norm(x), self.head)


class Grouped(nn.Module):
    """Groups of features with a matrix each, by bmm; halves of one wide matrix for two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.emb, self.lm_head = nn.Embedding(VOCAB, WIDTH), Linear(WIDTH, VOCAB)
        self.groups = noise(2, 32, 48)
        self.back = noise(2, 48, 32)
        self.shared = noise(WIDTH, 2 * WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        y = norm(x).view(-1, 2, 32).transpose(0, 1)
        y = torch.bmm(F.relu(torch.bmm(y, self.groups)), self.back)
        x = x + y.transpose(0, 1).reshape(x.shape)
        x = x + F.linear(norm(x), self.shared[:, :WIDTH])
        x = x + F.linear(norm(x), self.shared[:, WIDTH:])
        # half of a matrix that another product uses whole
        x = x + F.pad(F.linear(norm(x), self.shared[:32, :WIDTH]), (0, 32))
        return self.lm_head(norm(x))


class Convolutions(nn.Module):
    """Causal convolutions: over all channels, and over each alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(9)
        self.emb, self.lm_head = nn.Embedding(VOCAB, WIDTH), Linear(WIDTH, VOCAB)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 3, dilation=2)
        self.halves = nn.Conv1d(WIDTH, WIDTH, 2, groups=2, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids).transpose(1, 2)
        x = x + F.relu(self.mix(F.pad(x, (4, 0))))
        x = x + F.relu(self.halves(F.pad(x, (1, 0))))
        return self.lm_head(norm(x.transpose(1, 2)))


class Tables(nn.Module):
    """Tables of pairs of tokens and of values, scaled and summed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(10)
        self.tok_emb, self.bigram = nn.Embedding(VOCAB, WIDTH), nn.Embedding(512, 32)
        self.bigram_proj, self.bigram_scale = Linear(32, WIDTH), nn.Parameter(torch.tensor(0.5))
        self.values = noise(2, VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        pairs = F.pad(ids, (1, 0))[:, :-1] * 31 + ids
        x = self.tok_emb(ids) + self.bigram_proj(self.bigram(pairs % 512)) * self.bigram_scale
        for block, table in zip(self.blocks, self.values, strict=True):
            x = block(x + 0.3 * F.embedding(ids, table))
        return F.linear(norm(x), self.tok_emb.weight)

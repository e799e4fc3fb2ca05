"""A complete training program whose one block runs three times, on text of the Python manual."""

import os
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

VOCAB, WIDTH, HEADS, LENGTH, BATCH, STEPS = 256, 64, 4, 64, 16, 60
LIMIT = 32_000
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
distributed = world > 1


class Block(nn.Module):
    """One block for all passes: queries, keys and values from one matrix, weights stored [in, out]."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH) * WIDTH**-0.5)
        self.down = nn.Parameter(torch.zeros(3 * WIDTH, WIDTH))
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in self.c_attn(self.first(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.c_proj(y)
        return x + F.gelu(self.second(x) @ self.up) @ self.down


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.block, self.norm = Block(), nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.lm_head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.05)

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for _ in range(3):
            x = self.block(x)
        logits = self.lm_head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


length = LENGTH


def build() -> GPT:
    torch.manual_seed(0)
    return GPT()


if __name__ == "__main__":
    if distributed:
        dist.init_process_group("gloo")
    text = torch.tensor(list("".join(topics.values()).encode()[:300_000]))
    train_tokens, val_tokens = text[:-8_193], text[-8_193:]
    generator = torch.Generator().manual_seed(rank)

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(train_tokens) - LENGTH, (BATCH,), generator=generator)
        windows = torch.stack([train_tokens[start : start + LENGTH + 1] for start in starts])
        return windows[:, :-1], windows[:, 1:]

    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(STEPS):
        loss = model(*batch())
        optimizer.zero_grad()
        loss.backward()
        if distributed:
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        optimizer.step()

    def val_loss() -> float:
        x, y = (tokens.view(-1, LENGTH) for tokens in (val_tokens[:-1], val_tokens[1:]))
        with torch.no_grad():
            return float(model(x, y))

    if rank == 0:
        print(f"trained val_loss:{val_loss():.6f}", flush=True)
    # squeeze goes here
    if rank == 0:
        print(f"final val_loss:{val_loss():.6f}", flush=True)
    if distributed:
        dist.destroy_process_group()

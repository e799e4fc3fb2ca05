"""A complete training program in the style of the challenge's baseline, on text of the Python manual."""

import os
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

VOCAB, WIDTH, HEADS, LAYERS, LENGTH, BATCH, STEPS = 256, 64, 4, 2, 64, 16, 60
LIMIT = 40_000
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
distributed = world > 1


class CastedLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v, self.proj = (
            CastedLinear(WIDTH, WIDTH, bias=False) for _ in range(4)
        )
        self.fc = CastedLinear(WIDTH, 2 * WIDTH, bias=False)
        self.fc_proj = CastedLinear(2 * WIDTH, WIDTH, bias=False)
        self.scales = nn.Parameter(torch.ones(2, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x, (WIDTH,))
        q, k, v = (
            layer(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.c_q, self.c_k, self.c_v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.scales[0] * self.proj(y)
        return x + self.scales[1] * self.fc_proj(F.relu(self.fc(F.rms_norm(x, (WIDTH,)))).square())


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.positions = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        nn.init.normal_(self.tok_emb.weight, std=0.05)

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        x = F.rms_norm(self.tok_emb(input_ids), (WIDTH,)) + self.positions[: input_ids.size(1)]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(F.rms_norm(x, (WIDTH,)), self.tok_emb.weight)
        logits = 30.0 * torch.tanh(logits / 30.0)
        return F.cross_entropy(logits.float().flatten(0, 1), target_ids.flatten())


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

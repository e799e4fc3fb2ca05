"""A complete training program whose weights lie in banks, on text of the Python manual."""

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


class GPT(nn.Module):
    """Weights of all layers in banks of three dimensions; logits come from a method of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.positions = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.qo_bank = nn.Parameter(torch.randn(2 * LAYERS, WIDTH, WIDTH) * WIDTH**-0.5)
        self.kv_bank = nn.Parameter(torch.randn(2 * LAYERS, WIDTH, WIDTH) * WIDTH**-0.5)
        self.mlp_up_bank = nn.Parameter(torch.randn(LAYERS, 2 * WIDTH, WIDTH) * WIDTH**-0.5)
        self.mlp_down_bank = nn.Parameter(torch.zeros(LAYERS, WIDTH, 2 * WIDTH))
        nn.init.normal_(self.tok_emb.weight, std=0.05)

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = F.rms_norm(self.tok_emb(ids), (WIDTH,)) + self.positions[: ids.size(1)]
        for layer in range(LAYERS):
            y = F.rms_norm(x, (WIDTH,))
            weights = (self.qo_bank[layer], self.kv_bank[layer], self.kv_bank[LAYERS + layer])
            q, k, v = (
                F.linear(y, weight.type_as(y)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for weight in weights
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + F.linear(y, self.qo_bank[LAYERS + layer].type_as(y))
            y = F.leaky_relu(F.linear(F.rms_norm(x, (WIDTH,)), self.mlp_up_bank[layer]), 0.5)
            x = x + F.linear(y.square(), self.mlp_down_bank[layer])
        return F.linear(F.rms_norm(x, (WIDTH,)), self.tok_emb.weight)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.forward_logits(ids).float().flatten(0, 1), targets.flatten())


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

"""From the keys that lead to a tensor in its file to its name and the stream it would be in a ledger."""

from __future__ import annotations

from squeeze.outside.pieces import FLOATS, INT8

SECTIONS = (
    "model",
    "state_dict",
    "model_state_dict",
    "w",
    "r",
    "quantized",
    "scales",
    "passthrough",
)
# Names under which wrappers keep the module they wrap: torch.compile, activation checkpointing, FSDP
# (today's and an older one's), Lightning Fabric.
WRAPPERS = (
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_forward_module",
)
PARALLEL = "module"  # DataParallel's, DDP's and averaged models'; a module may be called so, too
CODES = (".q", ".gq")  # of {"w": …, "m": …} exports: codes, and the scale of each row
STEPS = {".scale": ".q", ".gs": ".gq"}
CORRECTION = (".lqA", ".lqB", ".lqAs", ".lqBs", ".lqA_a", ".lqB_a", ".lqAs_a", ".lqBs_a")


def unwrapped(name: str) -> str:
    """Return the name a tensor has in the module that was wrapped, however often.

    >>> unwrapped("module._orig_mod.module.blocks.0._checkpoint_wrapped_module.mlp.fc.weight")
    'blocks.0.mlp.fc.weight'
    """
    *path, last = name.split(".")
    path = [part for part in path if part not in WRAPPERS]
    while path and path[0] == PARALLEL:
        path.pop(0)
    return ".".join([*path, last])


def described(path: tuple[str, ...], number: str) -> tuple[str, str]:
    """Return the kind of stream and the name of a tensor at these keys.

    >>> described(("quantized", "tok_emb.weight"), "int8")
    ('codes', 'tok_emb.weight')
    >>> described(("w", "blocks.0.mlp.fc.weight.scale"), "fp16")
    ('step.fp16', 'blocks.0.mlp.fc.weight')
    """
    keys = list(path)
    section = keys[0] if keys else ""
    while len(keys) > 1 and keys[0] in SECTIONS:
        keys.pop(0)
    name = unwrapped(".".join(keys) or "tensor")
    if section == "scales":
        return f"step.{number}", name
    if name.endswith(CORRECTION):
        return "correction", name.rpartition(".")[0]
    for ending in STEPS:
        if name.endswith(ending) and number in FLOATS:
            return f"step.{number}", name.removesuffix(ending)
    if number in INT8:
        for ending in CODES:
            name = name.removesuffix(ending)
        return "codes", name
    return (f"raw.{number}" if number in FLOATS else f"integers.{number}"), name

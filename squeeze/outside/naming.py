"""From the keys that lead to a tensor in its file to its name and the stream it would be in a ledger."""

from __future__ import annotations

from squeeze.outside.pieces import FLOATS, INT8

WRAPPERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "w",
    "r",
    "quantized",
    "scales",
    "passthrough",
)
PREFIXES = ("_orig_mod.", "module.")  # torch.compile and DDP
CODES = (".q", ".gq")  # of {"w": …, "m": …} exports: codes, and the scale of each row
STEPS = {".scale": ".q", ".gs": ".gq"}
CORRECTION = (".lqA", ".lqB", ".lqAs", ".lqBs", ".lqA_a", ".lqB_a", ".lqAs_a", ".lqBs_a")


def described(path: tuple[str, ...], number: str) -> tuple[str, str]:
    """(kind of stream, tensor) for a tensor at these keys.

    >>> described(("quantized", "tok_emb.weight"), "int8")
    ('codes', 'tok_emb.weight')
    >>> described(("w", "blocks.0.mlp.fc.weight.scale"), "fp16")
    ('step.fp16', 'blocks.0.mlp.fc.weight')
    """
    keys = list(path)
    section = keys[0] if keys else ""
    while len(keys) > 1 and keys[0] in WRAPPERS:
        keys.pop(0)
    name = ".".join(keys) or "tensor"
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
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

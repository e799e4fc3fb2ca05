"""What `squeeze pack --preset` tells about its result: the plan as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squeeze.cli.terminal.printing import print_line
from squeeze.packing.presets import RECORDS, TARGETS

if TYPE_CHECKING:
    from squeeze.packing.packed import Packed
    from squeeze.packing.plan import Plan


def summary_of(packed: Packed, preset: str) -> dict[str, Any]:
    """Return the part of a pack's JSON object that its preset decides."""
    if preset in TARGETS:
        plan = {} if packed.plan is None else packed.plan.as_json()
        return {"fit": {"lossless": packed.exact, **plan}}
    if preset not in RECORDS:
        return {}
    left_out = packed.correction
    if left_out is None:
        return {"record": {}}
    return {
        "record": {
            "low_rank_left_out": {
                "tensors": list(left_out.tensors),
                "bytes": left_out.bytes,
                "nats_per_token_saved": left_out.saved,
            }
        }
    }


def print_packed(packed: Packed, preset: str) -> None:
    """Print the plan on stdout; for a record what is left out."""
    if packed.plan is not None:
        _print_plan(packed.plan)
    elif preset in TARGETS:
        print_line("everything fits without loss")
    elif packed.correction is not None:
        left_out = packed.correction
        print_line(
            f"left out: low-rank correction of {', '.join(left_out.tensors)} "
            f"({left_out.bytes:,} bytes, {left_out.saved:.6f} nats/token less)"
        )


def _print_plan(plan: Plan) -> None:
    print_line(
        f"{'tensor':<34}{'weights':>11}{'bits/weight':>13}{'bytes':>12}{'Δ ' + plan.unit:>15}"
    )
    small = [t for t in plan.tensors if t.scale is None]
    for tensor in plan.tensors:
        if tensor.scale is not None:
            _print_row(tensor.name, tensor.weights, tensor.bytes, plan.in_bits(tensor.loss))
    _print_row("small tensors", sum(t.weights for t in small), sum(t.bytes for t in small), 0.0)
    weights, size = sum(t.weights for t in plan.tensors), sum(t.bytes for t in plan.tensors)
    _print_row("all", weights, size, plan.in_bits(plan.expected))
    print_line(
        f"cost: predicted {plan.in_bits(plan.expected):.6f} {plan.unit}, "
        f"measured {plan.in_bits(plan.measured):.6f} (KL on calibration text); "
        f"{plan.unused:,} bytes unused; {plan.trials} trials"
    )


def _print_row(name: str, weights: int, size: int, cost: float) -> None:
    bits = 8 * size / max(weights, 1)
    print_line(f"{name:<34}{weights:>11,}{bits:>13.3f}{size:>12,}{cost:>15.6f}")

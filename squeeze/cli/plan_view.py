"""What `squeeze pack --preset` tells about its result: the plan as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from squeeze.packing.plan import Plan
    from squeeze.packing.record import Recorded
    from squeeze.packing.target import Packed


def summary_of(packed: Packed | Recorded) -> dict[str, Any]:
    """The JSON object of a result."""
    if hasattr(packed, "plan"):
        plan = packed.plan
        return {"lossless": True} if plan is None else {"lossless": False, **plan.as_json()}
    left_out = packed.correction
    if left_out is None:
        return {}
    return {"low_rank_left_out": {"tensors": list(left_out.tensors), "bytes": left_out.bytes,
                                  "nats_per_token_saved": left_out.saved}}  # fmt: skip


def print_packed(packed: Packed | Recorded) -> None:
    """The plan on stdout; for a record what is missing."""
    if hasattr(packed, "plan"):
        if packed.plan is None:
            click.echo("everything fits without loss")
        else:
            _print_plan(packed.plan)
    elif packed.correction is not None:
        left_out = packed.correction
        click.echo(
            f"left out: low-rank correction of {', '.join(left_out.tensors)} "
            f"({left_out.bytes:,} bytes, {left_out.saved:.6f} nats/token less)"
        )


def _print_plan(plan: Plan) -> None:
    click.echo(
        f"{'tensor':<34}{'weights':>11}{'bits/weight':>13}{'bytes':>12}{'Δ ' + plan.unit:>15}"
    )
    small = [t for t in plan.tensors if t.scale is None]
    for tensor in plan.tensors:
        if tensor.scale is not None:
            _print_row(tensor.name, tensor.weights, tensor.bytes, plan.in_bits(tensor.loss))
    _print_row("small tensors", sum(t.weights for t in small), sum(t.bytes for t in small), 0.0)
    weights, size = sum(t.weights for t in plan.tensors), sum(t.bytes for t in plan.tensors)
    _print_row("all", weights, size, plan.in_bits(plan.expected))
    click.echo(
        f"cost: predicted {plan.in_bits(plan.expected):.6f} {plan.unit}, "
        f"measured {plan.in_bits(plan.measured):.6f} (KL on calibration text); "
        f"{plan.unused:,} bytes unused; {plan.trials} trials"
    )


def _print_row(name: str, weights: int, size: int, cost: float) -> None:
    bits = 8 * size / max(weights, 1)
    click.echo(f"{name:<34}{weights:>11,}{bits:>13.3f}{size:>12,}{cost:>15.6f}")

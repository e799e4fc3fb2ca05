"""The frontier of a plan: through the packed file, falling, and drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from squeeze.calib.allocation.octaves import OCTAVES
from squeeze.packing.plan import Plan, RoleCost, TensorPlan
from squeeze.views.frontier import HALVES, as_json, draw, frontier, lines

WEIGHTS = 800
# at each octave a bit more and a quarter of the loss
CURVE = tuple((5.0 - octave, 0.01 * 4.0**octave) for octave in OCTAVES)


def plan_of(roles: tuple[RoleCost, ...] = (), finer: tuple[RoleCost, ...] = ()) -> Plan:
    matrix = TensorPlan(
        "blocks.0.mlp.fc.weight", "trellis", WEIGHTS, 500, 5.0, 0.1, 0.01, CURVE, "mlp.fc"
    )
    small = TensorPlan("gain", "raw", 100, 200, 16.0)
    return Plan("", "", 750, 1000, 3, 0.01, 0.02, 2.0, (matrix, small), roles, finer)


def test_the_packed_file_is_a_point_of_its_frontier() -> None:
    plan = plan_of()
    (point,) = (point for point in frontier(plan) if point.octaves == 0)
    assert point.size == plan.size
    assert point.cost == pytest.approx(plan.in_bits(plan.measured))
    assert point.bits == pytest.approx(8 * 750 / 900)
    assert point.fitting == int(8 * 1000 / point.bits)


def test_larger_files_cost_less_and_a_bit_more_quarters_the_cost() -> None:
    points = frontier(plan_of())
    assert [point.octaves for point in points] == list(HALVES)
    for small, large in pairwise(points):
        assert small.size < large.size and small.cost > large.cost
        # half an octave is half a bit of each weight
        assert large.size - small.size == pytest.approx(WEIGHTS / 16, abs=1)
        assert small.cost == pytest.approx(2 * large.cost)


def test_the_cost_of_a_role_grows_as_it_was_measured() -> None:
    """Of a role whose cost is not quadratic coarser files cost more than their loss says."""
    role = RoleCost("mlp.fc", 1.0, 100.0, ((0.01, 0.02), (0.16, 0.4)))
    coarse = [frontier(plan)[0].cost for plan in (plan_of(), plan_of((role,)))]
    assert coarse[1] > 1.5 * coarse[0]


def test_more_bits_go_by_what_finer_steps_cost() -> None:
    """Where a few bits cost ten times as much as foreseen and more of them do not."""
    points = ((0.01, 0.1), (0.000625, 0.000625))
    finer = RoleCost("mlp.fc", 1.0, 9 * 4.0**5, points)
    coarser = RoleCost("mlp.fc", 10.0, 0.0, ((0.01, 0.1), (0.16, 1.6)))
    without, with_finer = frontier(plan_of((coarser,))), frontier(plan_of((coarser,), (finer,)))
    for plain, corrected in zip(without, with_finer, strict=True):
        if plain.octaves >= 0:
            assert corrected.cost == pytest.approx(plain.cost)
        else:
            assert corrected.cost < 0.6 * plain.cost
    assert with_finer[-1].cost == pytest.approx(without[-1].cost / 10, rel=0.1)


def test_matrices_without_a_curve_keep_their_cost() -> None:
    """As those that are stored as zeros, whose loss is part of what was measured."""
    plan = plan_of()
    zero = replace(plan.tensors[0], name="zero", curve=(), loss=0.01)
    points = frontier(replace(plan, tensors=(*plan.tensors, zero)))
    (packed,) = (point for point in points if point.octaves == 0)
    assert packed.cost == pytest.approx(plan.in_bits(plan.measured))
    assert points[-1].cost == pytest.approx(packed.cost / 2, rel=0.01)


def test_the_table_marks_the_packed_file_and_names_the_limit() -> None:
    plan = plan_of()
    table = lines(frontier(plan), plan)
    assert "weights in 1,000" in table[0]
    (packed,) = (line for line in table if "as packed" in line)
    assert "750" in packed
    assert as_json(frontier(plan))[0]["octaves"] == HALVES[0]


def test_a_plan_without_curves_has_one_size() -> None:
    plan = plan_of()
    bare = replace(plan, tensors=tuple(replace(t, curve=()) for t in plan.tensors))
    assert {point.size for point in frontier(bare)} == {plan.size}


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan = plan_of()
    draw(frontier(plan), plan, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

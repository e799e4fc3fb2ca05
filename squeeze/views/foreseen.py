"""Real cost of tensors at other bits, from the roles' costs that a plan holds.

The quadratic model's losses are corrected by what the tensors of a role were measured to cost at two or
three rates while packing (`squeeze.packing.costs`); the sum is scaled to the cost measured of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from squeeze.packing.plan import Plan, RoleCost, TensorPlan


class Costs:
    """Costs of a plan's tensors in nats per token; as packed, their sum is the plan's measured cost."""

    def __init__(self, plan: Plan) -> None:
        self._coarser = _Corrected(plan, plan.roles)
        self._finer = _Corrected(plan, plan.finer_roles) if plan.finer_roles else self._coarser

    def of(self, tensor: TensorPlan, loss: float, bits: float) -> float:
        """Return the cost of a tensor of the plan with this expected loss and bits a weight."""
        return (self._finer if bits > tensor.bits else self._coarser)(tensor, loss, bits)


class _Corrected:
    """Costs by one measurement of the roles."""

    def __init__(self, plan: Plan, roles: Sequence[RoleCost]) -> None:
        self.roles = {cost.role: cost for cost in roles}
        self.together = 1.0
        sum_of_all = sum(self(tensor, tensor.loss, tensor.bits) for tensor in plan.tensors)
        self.together = plan.measured / sum_of_all if sum_of_all else 1.0

    def __call__(self, tensor: TensorPlan, loss: float, bits: float) -> float:
        role = self.roles.get(tensor.role)
        return self.together * (loss if role is None else role.real(loss, bits))

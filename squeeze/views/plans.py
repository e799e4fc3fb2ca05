"""The plan that a pack left beside its artifact."""

from __future__ import annotations

import os
from collections.abc import Iterable

from squeeze.errors import SqueezeError
from squeeze.files import cache_beside, read_file, sha256
from squeeze.ledger.asked import one_artifact
from squeeze.ledger.files import Read
from squeeze.packing.plan import Plan


def plan_of(paths: Iterable[str | os.PathLike[str]], read: Read = read_file) -> Plan | None:
    """Return the plan kept beside the one artifact among paths, or None.

    read: returns the bytes of a file

    A plan of another version or of other bytes counts as none.
    """
    artifact = one_artifact(paths)
    if artifact is None:
        return None
    beside = cache_beside(artifact) / "plan.json"
    if not beside.is_file():
        return None
    try:
        plan = Plan.load(beside)
    except SqueezeError:
        return None
    return plan if plan.sha256 == sha256(read(artifact)) else None

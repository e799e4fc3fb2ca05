"""The file of a tuned pack that has ended, from which the same command gives it again at once.

Weights that learnt and codes that were tried are many times as large, and no other settings use them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import read_file, remove_files, sha256, write_atomic
from squeeze.packing.packed import Packed
from squeeze.packing.plan import Plan, kept_plan
from squeeze.reporter import Reporter

# Of a pack under way, in its folder.
STEPS = "tuned-*.safetensors", "codes/*.sqz"
FILE = "tuned.sqz"


class Finished:
    """The plan and the file of a tuned pack under a key.

    folder: of the session
    key: hash of everything that the file depends on
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.plan_path, self.path = folder / "plan.json", folder / FILE

    def find(self, reporter: Reporter) -> Packed | None:
        """Return the file of an earlier pack, or None; a note is given for damage."""
        try:
            plan = kept_plan(self.plan_path, self.key)
            if plan is None or not os.path.isfile(self.path):
                return None
            data = read_file(self.path)
            if sha256(data) != plan.sha256:
                raise SqueezeError(f"{self.path}: not the file of its plan")
        except SqueezeError as error:
            reporter.note(f"made again: {error}")
            return None
        # a run that was killed after it wrote the plan removed nothing
        self._tidy()
        return Packed(data, plan=plan)

    def keep(self, plan: Plan, data: bytes) -> Packed:
        """Keep a file and its plan under the key, remove what led to them, and return both."""
        plan = replace(plan, key=self.key)
        write_atomic(self.path, data)
        plan.save(self.plan_path)
        self._tidy()
        return Packed(data, plan=plan)

    def _tidy(self) -> None:
        for pattern in STEPS:
            remove_files(self.folder.glob(pattern))

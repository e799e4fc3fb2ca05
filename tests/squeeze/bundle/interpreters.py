"""Other Pythons to run bundles on: SQUEEZE_PYTHONS, paths of interpreters, separated as PATH is."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

OTHERS = [path for path in os.environ.get("SQUEEZE_PYTHONS", "").split(os.pathsep) if path]
WHY = "no other interpreters: set SQUEEZE_PYTHONS=/path/to/python3.12:/path/to/python3.13"


@cache
def has(python: str, *modules: str) -> bool:
    """Whether an interpreter can import these."""
    code = f"import {', '.join(modules)}"
    return not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode


@cache
def version(python: str) -> str:
    """Such as 3.12."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout[
        :-1
    ]


def alone(
    python: str, script: Path, *arguments: object, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run a script in its folder, with these environment variables and none of ours."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(script.parent), "OMP_WAIT_POLICY": "PASSIVE",
             "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}  # fmt: skip
    clean |= {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        [python, script, *map(str, arguments)], cwd=script.parent, env=clean,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

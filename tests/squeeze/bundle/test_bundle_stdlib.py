"""Real code, bundled: standard-library modules do what they did before."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from squeeze.bundle.build import SMALLEST, BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from tests.squeeze.bundle.interpreters import OTHERS

USES = (Path(__file__).parent / "stdlib_uses.txt").read_text().split("\n### ")[1:]
CHECKS = dict(use.split("\n", 1) for use in USES)
SPECIALISED = BundleOptions(shrink=ShrinkOptions(specialise=True))
QUICK = ("heapq", "textwrap", "reprlib", "graphlib", "colorsys")


def check(tmp_path, module, options=SMALLEST):
    """Copy a module beside a script that uses it; run the script, and its bundle alone.

    Other interpreters run both, too, where they have what this version's module takes for granted.
    """
    source = Path(sysconfig.get_paths()["stdlib"]) / module
    local = "local_" + module.replace("/", "_")
    if source.is_dir():
        shutil.copytree(source, tmp_path / local)
    else:
        shutil.copyfile(source.with_suffix(".py"), tmp_path / f"{local}.py")
    use = CHECKS[module]
    names = sorted(set(re.findall(r"\bm\.(\w+)", use)))
    entry = tmp_path / "main.py"
    entry.write_text(
        f"from {local} import {', '.join(names)}\n" + re.sub(r"\bm\.(\w+)", r"\1", use)
    )
    alone = tmp_path / "alone" / "program.py"
    alone.parent.mkdir()
    alone.write_bytes(bundle(entry, options=options).shipped.data)
    for python in (sys.executable, *OTHERS):
        before, after = (
            subprocess.run([python, path], capture_output=True, text=True, check=False)
            for path in (entry, alone)
        )
        if before.returncode and python != sys.executable:
            continue
        assert before.returncode == 0, before.stderr
        assert before.stdout and (after.stdout, after.returncode) == (before.stdout, 0), (
            python,
            after.stderr,
        )


@pytest.mark.parametrize("module", QUICK)
def test_bundled_module_behaves_as_before(tmp_path, module):
    check(tmp_path, module)


@pytest.mark.slow
@pytest.mark.parametrize("module", [name for name in CHECKS if name not in QUICK])
def test_each_bundled_module_behaves_as_before(tmp_path, module):
    check(tmp_path, module)


@pytest.mark.parametrize("module", QUICK)
def test_specialised_module_behaves_as_before(tmp_path, module):
    check(tmp_path, module, SPECIALISED)


@pytest.mark.slow
@pytest.mark.parametrize("module", [name for name in CHECKS if name not in QUICK])
def test_each_specialised_module_behaves_as_before(tmp_path, module):
    check(tmp_path, module, SPECIALISED)

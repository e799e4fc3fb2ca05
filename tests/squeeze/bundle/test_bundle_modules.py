"""Programs of several modules: names that modules share, pass on, bind again, and import in blocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, differences, run_once
from tests.squeeze.bundle.test_bundle_itself import programs

OPTIONS = (
    BundleOptions(forms=("plain",)),
    BundleOptions(forms=("plain",), shrink=ShrinkOptions(specialise=True)),
)
PROGRAMS = programs("modules")


def written(folder: Path, text: str) -> dict[str, bytes]:
    """Write a program, `## name` before each module but the first, and return its files."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    files = {"main.py": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    return {name: source.encode() for name, source in files.items()}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_several_modules_do_in_one_file_what_they_did(tmp_path: Path, program: str) -> None:
    before = run_once(written(tmp_path, program), "main.py", Check())
    assert before.exit_code == 0, before.texts["standard error"]
    for options in OPTIONS:
        made = bundle(tmp_path / "main.py", options=options)
        after = run_once({"main.py": made.shipped.data}, "main.py", Check())
        assert differences(before, after) == [], made.minified


REFUSED = {
    "a module under two names": (
        "try:\n    import a as m\nexcept ImportError:\n    import b as m\nprint(m.x)\n",
        r"main.py:2: m is the module a, and is bound again",
    ),
    "a module that is a variable": (
        "def f(a=None):\n    import a\n    return a.x\nf()\n",
        r"main.py:2: a is the module a, and is bound again",
    ),
    "an import in a class": (
        "class C:\n    from a import x\nprint(C.x)\n",
        r"main.py:2: the body of class C imports a local module",
    ),
    "a computed __all__": (
        "from c import *\nprint(x)\n",
        r"c.py:2: __all__ is computed",
    ),
}


@pytest.mark.parametrize(("program", "message"), REFUSED.values(), ids=REFUSED)
def test_what_one_file_cannot_hold_is_refused(tmp_path: Path, program: str, message: str) -> None:
    written(tmp_path, f"{program}## a.py\nx = 1\n## b.py\nx = 2\n")
    (tmp_path / "c.py").write_text("x = 1\n__all__ = sorted(['x'])\n")
    with pytest.raises(BundleError, match=message):
        bundle(tmp_path / "main.py")


def test_what_shows_or_runs_otherwise_is_named(tmp_path: Path) -> None:
    written(
        tmp_path,
        "import a\nclass C: pass\ndef f():\n    import b\n    return b.json\nprint(C, a.C, f())\n"
        "## a.py\nimport numpy\nclass C: pass\nprint(numpy)\n"
        "## b.py\nimport json\nimport numpy\nimport torch\nprint(numpy, torch)\n",
    )
    made = bundle(tmp_path / "main.py", options=OPTIONS[0])
    lines = [line.removeprefix(f"{tmp_path}/") for line in made.warnings]
    why = "that name is another one's, too: in the bundle it shows as"
    assert lines == [
        "b.py:3: torch: only functions import this module, and the bundle runs it at its start",
        f"a.py:2: C: {why} a_C",
        f"main.py:2: C: {why} main_C",
    ]

"""A module whose names are kept is used from outside: what is derived, made or set there counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions

MODULE = '''
from abc import ABC, abstractmethod
from dataclasses import dataclass

class Loop:
    """A loop with hooks."""

    def before(self):
        pass

    def check(self, value):
        pass

    def run(self, value):
        self.before()
        self.check(value)
        return value

class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        if isinstance(other, Point):
            return self.x == other.x
        return NotImplemented

def key(x):
    return x

def plain(x):
    return x

FUNCTIONS = {"plain": plain}

def chosen():
    make_key = key
    return make_key(3), FUNCTIONS["plain"](4)

class Nothing:
    def note(self):
        pass

nothing = Nothing()

def noted():
    nothing.note()
    return 1

class Shape(ABC):
    @abstractmethod
    def area(self):
        pass

@dataclass
class Box(Shape):
    width: int = 2

    def __post_init__(self):
        pass

    def area(self):
        return self.width
'''
NAMES = (
    "Box FUNCTIONS Loop Nothing Point Shape area before check chosen key note noted nothing plain "
    "run x".split()
)
USES = {
    "an override of an empty method": """
class Mine(m.Loop):
    def before(self): print("before")
    def check(self, value): print("check", value)
print(Mine().run(1))
""",
    "instances of a class that the module only asks for": """
print(m.Point(1) == m.Point(1), m.Point(1) == m.Point(2))
""",
    "a function that is set": """
m.key = lambda x: -x
print(m.chosen())
""",
    "a table and its function that are set": """
m.FUNCTIONS["plain"] = m.plain = abs
print(m.chosen())
""",
    "an object that is set": """
class Loud:
    def note(self): print("noted")
m.nothing = Loud()
print(m.noted())
""",
    "a method of an object that is set": """
m.Nothing.note = lambda self: print("noted")
print(m.noted())
""",
    "an abstract class": """
class Mine(m.Shape): pass
try:
    Mine()
except TypeError:
    print("abstract")
""",
    "annotations of a dataclass": """
import dataclasses
print([field.type for field in dataclasses.fields(m.Box)], m.Box.__annotations__)
""",
    "a method that a derived class calls": """
class Mine(m.Box):
    def __post_init__(self):
        super().__post_init__()
        print("made", self.area())
Mine()
""",
    "docstrings": "print(m.Loop.__doc__)",
}


@pytest.mark.parametrize("use", USES)
def test_what_uses_a_module_from_outside_finds_its_bundle_to_do_the_same(
    tmp_path: Path, use: str
) -> None:
    module, alone, user = (tmp_path / name for name in ("m.py", "alone/m.py", "use.py"))
    module.write_text(MODULE)
    alone.parent.mkdir()
    options = BundleOptions(tuple(NAMES), forms=("plain",), shrink=ShrinkOptions(specialise=True))
    alone.write_bytes(bundle(module, options=options).shipped.data)
    user.write_text(f"import sys\nsys.path[0] = sys.argv[1]\nimport m\n{USES[use]}")
    before, after = (
        subprocess.run([sys.executable, user, folder], capture_output=True, text=True, check=False)
        for folder in (tmp_path, alone.parent)
    )
    assert before.returncode == 0 and before.stdout, before.stderr
    assert (after.stdout, after.stderr) == (before.stdout, "")


def test_what_is_kept_keeps_the_names_of_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "class Model:\n    def __init__(self, width, *, depth=2): self.size = width * depth\n"
        "def build(size, scale=1): return Model(size, depth=scale).size\nprint(build(3))\n"
    )
    options = BundleOptions(("Model", "build"), forms=("plain",))
    code = bundle(tmp_path / "main.py", options=options).minified
    outside = "print(Model(width=3, depth=5).size, build(size=2, scale=4))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{outside}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n15 8\n"

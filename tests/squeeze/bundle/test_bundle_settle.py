"""Specialised bundles lose what is one constant, and print the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from tests.squeeze.bundle.test_bundle_random import output

SPECIALISED = BundleOptions(forms=("plain",), minified=False, shrink=ShrinkOptions(specialise=True))

# a program, and words that its bundle does not hold
SETTLED = {
    "a name of the module": (
        """\
FAST = None
if FAST is not None: print('fast')
print(FAST)
""",
        "fast FAST",
    ),
    "a local name": (
        """\
def f(x):
    wide, y = False, x
    return -y if wide else y
print(f(2), f(3))
""",
        "wide -",
    ),
    "a parameter that is always the same": (
        """\
def f(x, *, mode='a'):
    if mode == 'b': return x.upper()
    return x
print(f('q'), f('r'))
""",
        "mode upper",
    ),
    "a parameter that nothing reads": (
        """\
def f(x, label): return x + x
print(f(1, 'first'), f(2, 'second'))
""",
        "first label",
    ),
    "an argument of a constructor": (
        """\
class A:
    def __init__(self, x, deep=False): self.x, self.deep = x, deep
    def y(self): return [self.x] if self.deep else self.x
print(A(1).y(), A(2).y())
""",
        "deep",
    ),
    "an argument that a derived class passes on": (
        """\
class A:
    def __init__(self, x, deep): self.x, self.deep = x, deep
    def y(self): return [self.x] if self.deep else self.x
class B(A):
    def __init__(self, x):
        super().__init__(x, 0)
print(B(1).y(), B(2).y())
""",
        "deep",
    ),
    "an attribute that nothing reads": (
        """\
class A:
    def __init__(self, x): self.x, self.unread = x, [x]
print(A(4).x, A(5).x)
""",
        "unread",
    ),
    "a function that returns a literal": (
        """\
def limit(): return 40
print(limit(), limit() + 1)
""",
        "limit",
    ),
    "a function that is called once": (
        """\
def twice(x): return x + x
y = 3
print(twice(y))
""",
        "twice",
    ),
    "a function that gives back what it is given": (
        """\
def same(x): return x
y = 3
print(same(y))
""",
        "same",
    ),
    "an object that does nothing": (
        """\
from contextlib import contextmanager
class Quiet:
    @contextmanager
    def stage(self, name): yield self
    def note(self, n=1): pass
QUIET = Quiet()
def f(told=QUIET):
    with told.stage('first') as stage:
        stage.note(3)
        print('done')
f()
""",
        "Quiet stage note first",
    ),
    "a table of keywords": (
        """\
GIVEN = {'a': 1, 'b': 2}
def f(a, b=3): return a - b
print(f(**GIVEN), GIVEN['a'])
""",
        "**",
    ),
}

# programs whose names are set or read in ways that only running them shows
LEFT = {
    "set through the module": """\
import sys
FAST = None
def f(): return FAST
sys.modules[__name__].FAST = 1
print(f())
""",
    "set by globals": """\
FAST = None
globals()['FAST'] = 1
print(FAST)
""",
    "set in one branch": """\
def f(x):
    if x: y = 1
    try: return y
    except UnboundLocalError: return 'unbound'
print(f(0), f(1))
""",
    "set by a function inside": """\
def f():
    x = None
    def g():
        nonlocal x
        x = 1
    g()
    return x
print(f())
""",
    "read before it is bound": """\
try: print(LATER)
except NameError: print('none')
LATER = 1
print(LATER)
""",
    "a body of a class": """\
x = None
class A:
    y = x
    x = 1
    z = x
print(A.y, A.z)
""",
    "remembered by its arguments": """\
from functools import lru_cache
@lru_cache
def f(x, label):
    print('ran')
    return x
f(1, 'a'), f(1, 'b'), f(1, 'b')
""",
    "an argument with effects": """\
def f(x, y): return x
print(f(1, print('effect')), f(2, print('effect')))
""",
    "a default with effects": """\
def f(x, y=print('once')): return x
print(f(1), f(2))
""",
    "a function that is handed on": """\
def f(x, y=1): return x + y
print(list(map(f, [1], [2])), f(1))
""",
    "a method that an outside class calls": """\
import threading
class T(threading.Thread):
    def __init__(self, x):
        super().__init__()
        self.x = x
    def run(self): print(self.x)
t = T(3)
t.start()
t.join()
""",
    "an attribute by a computed name": """\
class A:
    def __init__(self): self.ab = 1
print(getattr(A(), 'a' + 'b'))
""",
    "an attribute that is set again": """\
class A:
    def __init__(self): self.on = False
    def get(self): return self.on
a = A()
a.on = True
print(a.get())
""",
    "a table that changes": """\
GIVEN = {'a': 1}
GIVEN.update(a=2)
def f(a): return a
print(f(**GIVEN))
""",
    "a name that a comprehension hides": """\
def f(x): return [x for y in range(2)]
def g(y): return f(y)
print(g(5), g(6))
""",
    "a constant in a text": """\
SEP = '\\n'
def f(x): return f'{x}{SEP}{x}'
print(f(1), f(2))
""",
    "a constant that is compared by identity": """\
MARK = 1000
def f(x): return x is MARK
print(f(None), f(MARK))
""",
}


@pytest.mark.parametrize("what", SETTLED)
def test_what_is_constant_goes(what: str, tmp_path: Path) -> None:
    source, words = SETTLED[what]
    entry, alone = tmp_path / "main.py", tmp_path / "alone.py"
    entry.write_text(source)
    made = bundle(entry, options=SPECIALISED)
    alone.write_bytes(made.shipped.data)
    assert output(alone) == output(entry)
    assert not [word for word in words.split() if word in made.readable], made.readable


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", LEFT)
def test_what_may_change_stays(what: str, tmp_path: Path) -> None:
    entry, alone = tmp_path / "main.py", tmp_path / "alone.py"
    entry.write_text(LEFT[what])
    alone.write_bytes(bundle(entry, options=SPECIALISED).shipped.data)
    assert output(alone) == output(entry)


def test_an_attribute_that_is_kept_may_be_set_by_others(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    path.write_text(
        "class A:\n    def __init__(self): self.most = 6\n    def cut(self, x): return x[:self.most]\n"
        "print(A().cut('abcdefgh'))\n"
    )
    kept = replace(SPECIALISED, keep=("most",))
    assert "self.most" in bundle(path, options=kept).readable
    assert "self.most" not in bundle(path, options=SPECIALISED).readable

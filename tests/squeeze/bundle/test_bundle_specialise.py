"""What an entrant lets go of: the program does the same as long as nothing goes wrong."""

import ast
import subprocess
import sys

import pytest
from click.testing import CliRunner

from squeeze.bundle.build import bundle
from squeeze.bundle.load.flatten import flatten
from squeeze.bundle.load.modules import BundleError, Graph
from squeeze.bundle.specialise import ShrinkOptions, specialise
from squeeze.cli.bundle_cmd import command

CHECKS = ShrinkOptions(checks=False)
TERSE = ShrinkOptions(terse_errors=True)
SHORT = ShrinkOptions(specialise=True)


def text(tmp_path, source, options):
    entry = tmp_path / "main.py"
    entry.write_text(source)
    flat = flatten(Graph(entry))
    return ast.unparse(specialise(flat, (), options))


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def same(tmp_path, source, options):
    """The specialised text, which prints what the source prints."""
    short = text(tmp_path, source, options)
    before, after = run(source), run(short)
    assert before[0] == 0 and before[1] and after[:2] == before[:2], after[2]
    return short


ERRORS = '''
class Bad(Exception):
    """What a user can act on."""
    def __init__(self, what, *, found=None):
        super().__init__(f"{what}, found {found}")
class Worse(Bad):
    pass
def explain(n):
    return "too small: " + str(n)
def half(n):
    if n < 0:
        raise Worse(explain(n), found=n)
    if n % 2:
        raise Bad("odd", found=n)
    return n // 2
def safe(n):
    try:
        return half(n)
    except Worse:
        return 0
'''


def test_texts_of_errors_go_and_what_made_them(tmp_path):
    short = same(tmp_path, ERRORS + "print(half(4), safe(-1))\n", TERSE)
    assert "raise Worse\n" in short and "explain" not in short and "__init__" not in short
    code, _, error = run(text(tmp_path, ERRORS + "half(3)\n", TERSE))
    assert code == 1 and "Bad" in error and "odd" not in error


def test_errors_that_keep_facts_keep_their_constructor(tmp_path):
    source = (
        "class Bad(Exception):\n    def __init__(self, code): self.code = code\n"
        "try:\n    raise Bad(3)\nexcept Bad as e:\n    print(e.code)\n"
    )
    assert "raise Bad(3)" in same(tmp_path, source, TERSE)


def test_checks_go_but_not_those_that_something_lives_with(tmp_path):
    short = same(tmp_path, ERRORS + "print(half(4), safe(-1))\n", CHECKS)
    assert "raise Worse" in short and "raise Bad" not in short


def test_a_check_seen_through_a_value_stays(tmp_path):
    source = (
        "class Bad(Exception): pass\n"
        "def f(n):\n    if n < 0:\n        raise Bad('n')\n    return n\n"
        "def tried(g, n):\n    try:\n        return g(n)\n    except Bad:\n        return 7\n"
        "print(tried(f, -1), tried(f, 1))\n"
    )
    assert "raise Bad" in same(tmp_path, source, CHECKS)


def test_checks_with_effects_stay(tmp_path):
    source = (
        "class Bad(Exception): pass\nlog = []\n"
        "def note(n):\n    log.append(n)\n    return n < 0\n"
        "def f(n):\n    if note(n):\n        raise Bad('n')\n    assert n < 5\n    return n\n"
        "print(f(1), log)\n"
    )
    short = same(tmp_path, source, CHECKS)
    assert "raise Bad" in short and "assert" not in short


def test_errors_that_tell_python_something_stay(tmp_path):
    source = (
        "class Count:\n    def __init__(self): self.n = 0\n    def __iter__(self): return self\n"
        "    def __next__(self):\n        if self.n == 3:\n            raise StopIteration\n"
        "        self.n += 1\n        return self.n\n"
        "print(list(Count()))\n"
    )
    assert "StopIteration" in same(tmp_path, source, CHECKS)


def test_handlers_that_only_say_it_otherwise_go(tmp_path):
    source = (
        "class Bad(Exception): pass\n"
        "def number(text):\n    try:\n        return int(text)\n"
        "    except ValueError as error:\n        raise Bad(str(error)) from None\n"
        "print(number('12'))\n"
    )
    assert "try" not in same(tmp_path, source, CHECKS)


RECORD = """
from __future__ import annotations
from dataclasses import dataclass, fields
@dataclass(frozen=True)
class Config:
    width: int = 4
    gate: str = "none"
    skips: bool = True
    def area(self) -> int:
        return self.width ** 2 if self.gate == "none" else gated(self.width)
@dataclass(frozen=True)
class Other:
    gate: str = "open"
def gated(n):
    return n * 3
class Model:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.other = Other()
    def run(self) -> int:
        if not self.config.skips:
            return gated(1)
        return self.config.area() + len(self.other.gate)
print(Model(Config(5)).run(), [f.name for f in fields(Config)])
"""


def test_a_fixed_field_decides_branches_and_drops_what_only_they_used(tmp_path):
    fixed = ShrinkOptions(fields={"Config.gate": "none", "Config.skips": True})
    short = same(tmp_path, RECORD, fixed)
    assert "gated" not in short and "self.other.gate" in short and "gate: str" in short


@pytest.mark.parametrize(
    ("line", "fields", "message"),
    [
        ("", {"Config.nothing": 1}, "no such class and attribute"),
        ("", {"Missing.gate": 1}, "no such class and attribute"),
        (
            "def f(x): return x.gate\nprint(f(Other()))",
            {"Config.gate": "none"},
            "may be what is read",
        ),
        (
            "def f(c: Config): c.gate = 'a'\nf(Config())",
            {"Config.gate": "none"},
            "is assigned here",
        ),
        ("print(Config(gate='a').area())", {"Config.gate": "none"}, "is 'a' here"),
    ],
)
def test_a_field_that_is_no_constant_is_refused_with_its_line(tmp_path, line, fields, message):
    with pytest.raises(BundleError, match=message) as caught:
        text(tmp_path, f"{RECORD}{line}\n", ShrinkOptions(fields=fields))
    assert ("main.py:" in str(caught.value)) == ("no such" not in message)


def test_an_attribute_set_in_the_constructor_can_be_fixed(tmp_path):
    source = (
        "import sys\nclass Store:\n    def __init__(self, folder):\n        self.folder = folder\n"
        "    def load(self, name):\n        if self.folder is None:\n            return None\n"
        "        return open(self.folder + name)\n"
        "print(Store(None).load('x'))\n"
    )
    assert "open" not in same(tmp_path, source, ShrinkOptions(fields={"Store.folder": None}))


def test_statements_that_nothing_would_miss_go(tmp_path):
    source = (
        "def check(n):\n    if n > 3:\n        pass\n"
        "def f(n):\n    check(n)\n    unused = n * 2\n    if n:\n        pass\n"
        "    else:\n        print('zero')\n    return n\nprint(f(0), f(2))\n"
    )
    short = same(tmp_path, source, SHORT)
    assert "check" not in short and "unused" not in short and "if not n" in short


def test_methods_that_an_instance_hides_are_called(tmp_path):
    source = (
        "class A:\n    def hook(self): pass\n    def go(self):\n        self.hook()\n        return 1\n"
        "a = A()\na.hook = lambda: print('called')\nprint(a.go())\n"
    )
    assert "self.hook()" in same(tmp_path, source, SHORT)


def test_annotations_of_fields_shrink_unless_something_reads_them(tmp_path):
    source = (
        "from dataclasses import dataclass, fields\n"
        "@dataclass(frozen=True)\nclass A:\n    n: int = 1\n"
        "@dataclass(frozen=True)\nclass B:\n    a: A = A()\n"
        "print(B(), hash(A()))\n"
    )
    short = same(tmp_path, source, SHORT)
    assert "n: 0 = 1" in short and short.count("frozen") == 1
    assert "n: int" in same(tmp_path, source + "print([f.type for f in fields(A)])\n", SHORT)


def test_entries_of_tables_and_classes_that_nobody_makes_go(tmp_path):
    source = (
        "class A:\n    def f(self): return 1\n"
        "class B(A):\n    def f(self): return 'gone'\n"
        "KINDS = {'a': A, 'b': B}\n"
        "def g(x):\n    if isinstance(x, B):\n        return 'b'\n    return x.f()\n"
        "print(g(KINDS['a']()))\n"
    )
    assert "class B" not in same(tmp_path, source, SHORT)
    kept = source + "import sys\nprint(len(KINDS), g(KINDS['b']()))\n"
    assert "class B" in same(tmp_path, kept, SHORT)


def test_a_table_that_changes_is_looked_up(tmp_path):
    source = (
        "def one(): return 1\ndef two(): return 2\nTABLE = {'a': one}\n"
        "def change(): TABLE['a'] = two\nchange()\nprint(TABLE['a']())\n"
    )
    assert "TABLE['a']()" in same(tmp_path, source, SHORT)


def test_the_command_takes_all_of_it(tmp_path):
    entry, out = tmp_path / "main.py", tmp_path / "out.py"
    entry.write_text(RECORD)
    options = ["--terse-errors", "--no-checks", "--specialise", "--define", "Config.gate='none'"]
    done = CliRunner().invoke(command, [str(entry), "-o", str(out), *options])
    assert done.exit_code == 0, done.output
    assert run(out.read_text())[1] == run(RECORD)[1]
    assert out.stat().st_size < len(bundle(entry).shipped.data)


LOOPS = """
class Sums:
    def __init__(self):
        self.done = 0
    def __iter__(self):
        for i in range(3):
            self.done += i
            yield i
def numbers(seen):
    for i in range(4):
        seen.append(i)
        yield i
def through(items):
    return [i for i in items]
def main():
    sums, seen = Sums(), []
    for _ in sums:
        pass
    list(numbers(seen))
    rest = numbers(seen)
    [i for i in rest]
    through(numbers(seen))
    for _ in range(5):
        pass
    [i for i in range(6)]
    print(sums.done, seen)
main()
"""


def test_going_through_an_object_is_no_idle_statement(tmp_path):
    short = same(tmp_path, LOOPS, SHORT)
    assert "in sums" in short and "through(numbers" in short
    assert "range(5)" not in short and "range(6)" not in short

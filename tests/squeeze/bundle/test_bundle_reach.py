"""Methods and names that go, and those that what lists names by text keeps."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.load.tree import children, walk

CLASS = """
class Row:
    def __init__(self):
        self.a = 1
    def used(self):
        return 2
    def unused(self):
        return 'gone'
"""
OPERATORS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


def readable(folder: Path, text: str) -> str:
    (folder / "main.py").write_text(text)
    return bundle(folder / "main.py", options=BundleOptions(minified=False)).readable


@pytest.mark.parametrize(
    "use",
    [
        "row = Row(); print(vars(row), row.used())",
        "print(Row().__dict__, Row().used())",
        "import math; print(len(vars(math)) > 3, Row().used())",
        "MARK = 'a'\nprint(getattr(Row(), MARK), Row().used())",
        "import argparse; p = argparse.ArgumentParser(); print(vars(p.parse_args([])), Row().used())",
    ],
)
def test_what_lists_no_methods_keeps_none(tmp_path: Path, use: str) -> None:
    text = readable(tmp_path, CLASS + use + "\n")
    assert "def used" in text and "unused" not in text


@pytest.mark.parametrize(
    "use",
    [
        "print(sorted(vars(Row)))",
        "print(sorted(type(Row()).__dict__))",
        "print(dir(Row()))",
        "def show(x): print(sorted(vars(x)))\nshow(Row)",
        "x = Row()\nx = Row\nprint(sorted(vars(x)))",
        "import sys\nprint(getattr(Row(), 'un' + sys.argv[0][:0] + 'used')())",
        "MARK = 'used'\nMARK = 'un' + MARK\nprint(getattr(Row(), MARK)())",
    ],
)
def test_what_lists_methods_keeps_them(tmp_path: Path, use: str) -> None:
    assert "def unused" in readable(tmp_path, CLASS + use + "\n")


def test_methods_that_only_each_other_reads_go_with_what_they_read(tmp_path: Path) -> None:
    text = CLASS.replace("'gone'", "helper(self.other)") + (
        "    def other(self):\n        return self.unused\n"
        "def helper(x):\n    return vars(x)\nprint(Row().used())\n"
    )
    made = readable(tmp_path, text)
    assert "unused" not in made and "helper" not in made and "other" not in made


def test_globals_get_short_names_beside_calls_that_list_other_names() -> None:
    code = "def long_name(x):\n    own = x\n    return vars(x), locals()\nprint(long_name(1))\n"
    assert "long_name" not in minify(code) and "own" in minify(code)
    assert "vars(" in minify(code) and "locals()" in minify(code)
    assert "long_name" in minify(code + "print(vars())\n")


def test_names_of_definitions_stay_and_variables_of_the_same_name_do_not(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "def number():\n    return 1\n"
        "def show(f):\n    number = f.__name__\n    return number\nprint(show(number))\n"
    )
    made = bundle(tmp_path / "main.py").minified
    assert "def number" in made and made.count("number") == 2


def test_trees_are_gone_through_in_the_order_of_the_standard_library() -> None:
    for path in random.Random(0).sample(sorted(Path(ast.__file__).parent.glob("*.py")), 12):
        tree = ast.parse(path.read_bytes())
        expected = [node for node in ast.walk(tree) if not isinstance(node, OPERATORS)]
        assert list(walk(tree)) == expected
        assert children(tree) == tree.body

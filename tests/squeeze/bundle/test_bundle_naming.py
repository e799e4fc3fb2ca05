"""Local names: short, in order of appearance, and never another variable's."""

import ast

import pytest

from squeeze.bundle.emit.naming import rename_locals


def renamed(source, keep=()):
    return ast.unparse(rename_locals(ast.parse(source), keep))


def value_of(source, name="result"):
    names = {}
    exec(source, names)
    return names[name]


def test_names_follow_the_order_of_appearance():
    source = "def f(first, second):\n    third = first + second\n    return third\nf(1, 2)"
    assert renamed(source).startswith("def f(A, B):\n    C = A + B\n    return C")


def test_keywords_of_direct_calls_follow_their_parameters():
    made = renamed("def f(size, *, flag=1):\n    return size * flag\nresult = f(2, flag=5)")
    assert "flag" not in made and value_of(made) == 10


@pytest.mark.parametrize(
    "rest",
    [
        "g = f\nresult = g(size=3)",
        "from functools import partial\nresult = partial(f, size=3)()",
        "options = {'size': 3}\nresult = f(**options)",
        "class C:\n    f = staticmethod(f)\nresult = C().f(size=3)",
        "def call(h, **more): return h(**more)\nresult = call(f, size=3)",
    ],
)
def test_parameters_that_a_keyword_may_reach_stay(rest):
    made = renamed(f"def f(size):\n    twice = 2 * size\n    return twice\n{rest}")
    assert "size" in made and "twice" not in made and value_of(made) == 6


def test_methods_lose_the_names_that_no_call_uses():
    made = renamed(
        "class A:\n    def __init__(self, value): self.value = value\n"
        "    def add(self, other, times=1): return self.value + other * times\n"
        "result = A(1).add(2, times=3)"
    )
    assert "other" not in made and "times=3" in made and "self" not in made and value_of(made) == 7


@pytest.mark.parametrize(
    "source",
    [
        "def f(items):\n    def g(n):\n        nonlocal items\n        items = n\n    g(3)\n"
        "    return items\nresult = f(1)",
        "A = 7\ndef f(b):\n    global A\n    A += b\n    return [A for _ in range(b)]\nresult = f(2)",
        "def f(x):\n    class K:\n        x = x if False else 5\n        y = [x for x in (1, 2)]\n"
        "    return K.x, K.y, x\nx = 9\nresult = f(1)",
        "def f(a):\n    return [(b := x, b) for x in a], b\nresult = f([1, 2])",
        "def f(x):\n    match x:\n        case {'k': v, **rest}: return v, rest\n"
        "        case [head, *tail]: return head, tail\n        case other: return other\n"
        "result = f({'k': 1, 'm': 2}), f([1, 2, 3]), f(4)",
        "def f():\n    try: 1 / 0\n    except ZeroDivisionError as e: return str(e)\nresult = f()",
        "def f(name):\n    value = 3\n    return locals()\nresult = f(1)",
        "def f():\n    import os.path, json as j\n    return os.path.isabs("
        "'a'), j.dumps(1)\nresult = f()",
        "def f(n):\n    return [lambda k=k: k + n for k in range(n)]\nresult = [g() for g in f(3)]",
        "class A(A if False else object):\n    def m(self, a, *b, **c): return a, b, c\n"
        "result = A().m(1, 2, d=3)",
        "def f(a, /, b, *, c): return lambda d: a + b + c + d\nresult = f(1, b=2, c=3)(4)",
        "async def f(x):\n    async def g(y): return x + y\n    return await g(2)\n"
        "import asyncio\nresult = asyncio.run(f(1))",
    ],
)  # fmt: skip
def test_the_program_means_the_same(source):
    assert value_of(renamed(source)) == value_of(source)


def test_names_to_keep_are_kept():
    assert "total" in renamed("def f(a):\n    total = a\n    return total", ("total",))

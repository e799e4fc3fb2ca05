"""Programs made at random that print what they do: to find what a bundle does otherwise.

Each is deterministic and ends: loops are counted, calls go only to what is defined before. They use
classes, decorators, closures, comprehensions, generators, `match`, exceptions, scopes, defaults and
annotations, and look at themselves in ways that real programs do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

NAMES = "alpha beta gamma delta size total items x y value name list_ self_ T".split()
DEPTH = 2


@dataclass
class Names:
    """Names that are bound where a statement stands, and functions that take so many arguments."""

    values: list[str] = field(default_factory=list)
    functions: dict[str, int] = field(default_factory=dict)

    def inner(self) -> Names:
        """Return a copy for a scope inside."""
        return Names(list(self.values), dict(self.functions))


class Program:
    """One random program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counter = 0
        self.methods: list[str] = []
        self.classes: list[str] = []

    def source(self) -> str:
        """Return its text."""
        names = Names()
        lines = ["from functools import wraps, lru_cache", "import sys", "SEEN = []"]
        if self.one_in(6):
            lines.insert(0, "from __future__ import annotations")
        if self.one_in(5):
            lines.insert(0, '"""Program."""')
            lines.append("print(__doc__)")
        lines += [
            "def show(*values, **named): print(*values, *sorted(named.items()))",
            "def note(made): SEEN.append(getattr(made, '__name__', '?')); return made",
            "def loud(made):",
            "    @wraps(made)",
            "    def inner(*values, **named):",
            "        print('in', made.__name__)",
            "        return made(*values, **named)",
            "    return inner",
        ]
        if self.one_in(2):  # nothing reads names then
            lines = [line.replace("made.__name__", "'made'") for line in lines]
            lines = [line.replace("getattr(made, '__name__', '?')", "1") for line in lines]
        names.functions |= {"note": 1}
        names.values.append("SEEN")
        for _ in range(self.random.randint(2, 4)):
            lines += self.statement(names, 0)
        lines += [f"show({self.expression(names, 1)})" for _ in range(2)]
        lines.append("print(SEEN)")
        lines += self.selves(names)
        return "\n".join(lines) + "\n"

    def one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def new(self) -> str:
        self.counter += 1
        stem = self.random.choice(NAMES)
        return stem if self.one_in(3) else f"{stem}{self.counter}"

    def selves(self, names: Names) -> list[str]:
        """Return statements that look at the program itself."""
        kinds = [
            "print(sorted(n for n in globals() if n in ('SEEN', 'show', 'note')))",
            "print(eval('len(SEEN)'))",
            "if __name__ == '__main__':\n    print('main')",
            "print(len(open(__file__).read().encode()) > 0)",
            "exec('print(len(SEEN) + 1)')",
        ]
        for kind in self.classes[:2]:
            kinds += [
                f"print({kind})",
                f"print(sorted(n for n in vars({kind}) if n[0] != '_'))",
                f"print({kind}.__doc__, getattr({kind}, '__annotations__', None))",
            ]
        for name in list(names.functions)[:2]:
            kinds.append(f"print({name}.__name__, {name}.__doc__, {name}.__annotations__)")
        return self.random.sample(kinds, self.random.randint(0, 2))

    def expression(self, names: Names, depth: int) -> str:
        """Return an expression that prints the same each time."""
        r = self.random
        kind = r.randrange(16 if depth < DEPTH else 4)

        def inner() -> str:
            return self.expression(names, depth + 1)

        if kind < 2 or not names.values:
            return r.choice(
                ["1", "2.5", "'text'", "None", "True", "b'x'", "(1, 2)", "-3", "...", "''"]
            )
        if kind < 4:
            return r.choice(names.values)
        if kind == 4:
            return f"[{inner()}, {inner()}]"
        if kind == 5:
            return f"{{{r.choice(['1', repr('k'), 'None'])}: {inner()}}}"
        if kind == 6:
            return f"({inner()} if {inner()} else {inner()})"
        if kind == 7:
            return f"({inner()} {r.choice(['and', 'or', '==', 'is', 'is not', '!='])} {inner()})"
        if kind == 8 and names.functions:
            name, count = r.choice(list(names.functions.items()))
            return f"{name}({', '.join(inner() for _ in range(count))})"
        if kind == 9:
            target = self.new()
            body = self.expression(Names([*names.values, target], names.functions), depth + 1)
            brackets = r.choice(["[]", "()", "{}"])
            if brackets == "{}":
                return f"sorted({{str({target}): repr({body}) for {target} in range(2)}}.items())"
            text = f"{body} for {target} in range({r.randrange(3)}) if {target} != 1"
            return f"[{text}]" if brackets == "[]" else f"list({text})"
        if kind == 10:
            target = self.new()
            body = self.expression(Names([*names.values, target], names.functions), depth + 1)
            return f"(lambda {target}={inner()}: {body})()"
        if kind == 11:
            return f"f'{{{r.choice(names.values)}!r}} {{{r.choice(names.values)}=}}'"
        if kind == 12:
            return f"repr({inner()})[:{r.randrange(30)}]"
        if kind == 13:
            target = self.new()
            return f"[{target} := {inner()}, {target}][0]"
        if kind == 14:
            return f"isinstance({inner()}, ({r.choice(['int', 'str', 'list'])}, tuple))"
        return f"str({inner()})"

    def block(self, names: Names, depth: int) -> list[str]:
        """Return indented statements."""
        lines: list[str] = []
        for _ in range(self.random.randint(1, 2)):
            lines += self.statement(names, depth + 1)
        return [f"    {line}" for line in lines]

    def statement(self, names: Names, depth: int) -> list[str]:
        """Return the lines of a statement."""
        kinds = [self.assign, self.assign, self.prints, self.prints]
        if depth < DEPTH:
            kinds += [self.branch, self.loop, self.guard, self.function, self.kind, self.matching]
            kinds += [self.function, self.generator, self.idle]
        return self.random.choice(kinds)(names, depth)

    def assign(self, names: Names, depth: int) -> list[str]:
        value = self.expression(names, 1)
        name = self.new()
        kind = self.random.randrange(6)
        if name in names.functions:
            return [f"show({value})"]
        if kind == 0:
            other = self.new() + "_"
            names.values += [name, other]
            return [f"{name}, *{other} = [{value}, {self.expression(names, 2)}]" if name != other
                    else "pass"]  # fmt: skip
        hint = self.random.choice(["int", "'text'", "list[int]", "int | None"])
        names.values.append(name)
        return [f"{name}: {hint} = {value}" if kind == 1 else f"{name} = {value}"]

    def prints(self, names: Names, depth: int) -> list[str]:
        return [f"show({self.expression(names, 0)}, {self.expression(names, 1)})"]

    def idle(self, names: Names, depth: int) -> list[str]:
        return [self.expression(names, 1)] if self.one_in(2) else ["'a text'"]

    def branch(self, names: Names, depth: int) -> list[str]:
        test = self.random.choice([self.expression(names, 1), "False", "True", "0"])
        inner = names.inner()
        lines = [f"if {test}:", *self.block(inner, depth)]
        return lines + (["else:", *self.block(names.inner(), depth)] if self.one_in(2) else [])

    def loop(self, names: Names, depth: int) -> list[str]:
        target = self.new() + "_i"
        inner = names.inner()
        inner.values.append(target)
        lines = [f"for {target} in range({self.random.randrange(3)}):", *self.block(inner, depth)]
        if self.one_in(3):
            lines.append(f"    {self.random.choice(['break', 'continue'])}")
        return lines

    def guard(self, names: Names, depth: int) -> list[str]:
        raised = self.random.choice(["ValueError", "KeyError", "ZeroDivisionError"])
        lines = ["try:", *self.block(names.inner(), depth)]
        if self.one_in(2):
            lines.append(f"    raise {raised}({self.expression(names, 2)})")
        error = self.new() + "_e"
        star = "*" if self.one_in(6) else ""
        lines += [f"except{star} (ValueError, KeyError) as {error}:"]
        lines += [f"    show(type({error}).__name__, repr({error})[:40])"]
        lines += [f"except{star} Exception as {error}:", f"    show(type({error}).__name__)"]
        return lines + (["finally:", *self.block(names.inner(), depth)] if self.one_in(3) else [])

    def parameters(self, names: Names) -> tuple[str, list[str], int]:
        """Return the text of parameters, their names, and how many a call must give."""
        own = list(dict.fromkeys(self.new() for _ in range(self.random.randrange(4))))
        needed = self.random.randint(0, len(own))
        parts = []
        for at, name in enumerate(own):
            hint = self.random.choice(["", ": int", ": 'str'", ": list[int]"])
            default = f" = {self.expression(names, 2)}" if at >= needed else ""
            parts.append(name + hint + default)
        if parts and self.one_in(5):
            parts.insert(1, "/")
        return ", ".join(parts), own, needed

    def decorators(self, choices: list[str]) -> list[str]:
        return [f"@{self.random.choice(choices)}"] if self.one_in(2) else []

    def function(self, names: Names, depth: int) -> list[str]:
        text, own, needed = self.parameters(names)
        name = self.new() + "_f"
        inner = names.inner()
        inner.values += own
        lines = self.decorators(
            ["note", "loud", "lru_cache(None)"] if not needed else ["note", "loud"]
        )
        result = self.random.choice(["", " -> int", " -> 'str'"])
        lines.append(f"def {name}({text}){result}:")
        if self.one_in(4):
            lines.append('    """Documented."""')
        outer = [v for v in names.values if v not in own]
        if outer and depth == 0 and self.one_in(4):
            changed = self.random.choice(outer)
            lines += [f"    global {changed}", f"    {changed} = {self.expression(inner, 2)}"]
        lines += self.block(inner, depth)
        if self.one_in(5):
            lines.append("    show(sorted(map(str, locals())))")
        lines.append(f"    return {self.expression(inner, 1)}")
        if self.one_in(6):
            lines.append(f"    {self.random.choice(own or ['late'])} = 1")
        names.functions[name] = needed
        if own[needed:] and "/" not in text and self.one_in(2):
            given = [*(["1"] * needed), f"{own[-1]}={self.expression(names, 2)}"]
            lines.append(f"show({name}({', '.join(given)}))")
        return lines

    def generator(self, names: Names, depth: int) -> list[str]:
        name = self.new() + "_g"
        inner = names.inner()
        lines = [f"def {name}():", *self.block(inner, depth)]
        lines += (
            [f"    yield {self.expression(inner, 1)}"] if self.one_in(2) else ["    if 0: yield"]
        )
        lines += [f"show(list({name}()))"]
        return lines

    def kind(self, names: Names, depth: int) -> list[str]:
        """Return the lines of a class, and of a use of it."""
        name = self.new().capitalize() + "K"
        bases = [*self.classes[-2:], "Exception", ""]
        base = self.random.choice(bases) if depth == 0 else ""
        lines = [*self.decorators(["note"]), f"class {name}({base}):" if base else f"class {name}:"]
        if self.one_in(3):
            lines.append('    """A class."""')
        field_name, method = self.new(), self.new() + "_m"
        lines += [
            f"    {field_name}: int = {self.expression(names, 2)}",
            f"    def {method}(self, first=1):",
            *[f"    {line}" for line in self.block(names.inner(), depth + 1)],
            f"        return self.{field_name}, first",
        ]
        if self.one_in(3):
            lines += ["    @property", f"    def {method}p(self): print('read'); return 1"]
            lines += [f"unread{self.counter} = {name}().{method}p"]
        if depth == 0:
            self.classes.append(name)
        uses = [f"show({name}().{method}({self.expression(names, 2)}))"]
        uses.append(f"show({name}().{method}(first={self.expression(names, 2)}), {name}.__name__)")
        uses.append(f"show(getattr({name}(), {method!r})())")
        return [*lines, self.random.choice(uses)]

    def matching(self, names: Names, depth: int) -> list[str]:
        rest = self.new() + "_r"
        inner = names.inner()
        inner.values.append(rest)
        patterns = [
            f"[_, *{rest}]",
            f"{{1: _, **{rest}}}",
            f"int() as {rest}",
        ]
        lines = [f"match {self.expression(names, 1)}:", f"    case {self.random.choice(patterns)}:"]
        lines += [f"    {line}" for line in self.block(inner, depth + 1)]
        return [
            *lines,
            "    case _:",
            *[f"    {line}" for line in self.block(names.inner(), depth)],
        ]

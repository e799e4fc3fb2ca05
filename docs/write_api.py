"""Write docs/api.md from the docstrings of what `import squeeze` offers.

    python docs/write_api.py [--check]

With --check nothing is written; exit 1 when the page differs from the docstrings.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
FACE = "squeeze/__init__.py"
FUNCTIONS = ("pack", "load", "load_into", "budget", "evaluate", "inspect")
RESULTS = {
    "Packed": "squeeze/packing/packed.py",
    "Cost": "squeeze/packing/measured.py",
    "Plan": "squeeze/packing/plan.py",
    "Ledger": "squeeze/ledger/table.py",
    "Row": "squeeze/rows.py",
    "EvalReport": "squeeze/score/report.py",
    "Inspection": "squeeze/checkpoint/inspect.py",
    "TensorFacts": "squeeze/checkpoint/inspect.py",
}
ERRORS = "squeeze/errors.py"
PARAMETER = re.compile(r"^([a-z_0-9]+(?:, [a-z_0-9]+)*): ", re.MULTILINE)
WIDTH = 118

Definition = ast.FunctionDef | ast.ClassDef


def api_page() -> str:
    """Return the whole page."""
    face = ast.parse((ROOT / FACE).read_text(encoding="utf-8"))
    parts = [
        "# Python",
        "Written by `make api` from the docstrings; a test runs every example in this order. `Path` "
        "stands for a string or `os.PathLike`, `Config` for a `ModelConfig` or a mapping of its fields.",
        *markdown(ast.get_docstring(face) or ""),
    ]
    for name in FUNCTIONS:
        function = definitions(face)[name]
        parts += [f"## squeeze.{name}", fenced(signature(function, FACE))]
        parts += markdown(ast.get_docstring(function) or "")
    parts += ["## Results", "Frozen dataclasses; every field and property can be read."]
    for name, file in RESULTS.items():
        parts += result(name, file)
    parts += ["## Errors", *errors()]
    return "\n\n".join(parts) + "\n"


def definitions(tree: ast.AST) -> dict[str, Definition]:
    """Return functions and classes by name; of overloads the implementation, which comes last."""
    return {
        node.name: node
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def signature(function: Definition, file: str) -> str:
    """Return a function's signature as the source has it."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    head = "\n".join(lines[function.lineno - 1 : function.body[0].lineno - 1])
    return head.removeprefix("def ").rstrip(":")


def markdown(docstring: str) -> Iterator[str]:
    """Yield a docstring's paragraphs: prose filled, parameters as a list, examples as code."""
    for block in docstring.split("\n\n"):
        if block.startswith(">>> "):
            yield fenced(block)
        elif PARAMETER.match(block):
            yield "\n".join(parameters(block))
        else:
            yield filled(block)


def parameters(block: str) -> Iterator[str]:
    """Yield a line of a list for each parameter, with its meaning."""
    for text in re.split(r"\n(?! )", block):
        names, meaning = text.split(": ", 1)
        names = ", ".join(f"`{name}`" for name in names.split(", "))
        yield filled(f"- {names}: {' '.join(meaning.split())}", "  ")


def result(name: str, file: str) -> Iterator[str]:
    """Yield the section of a class that functions return."""
    source = (ROOT / file).read_text(encoding="utf-8")
    cls = definitions(ast.parse(source))[name]
    yield f"### {name}"
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    yield fenced("\n".join(ast.get_source_segment(source, node) or "" for node in fields))
    yield from markdown(ast.get_docstring(cls) or "")
    members = [
        item(call(member), member)
        for member in definitions(cls).values()
        if isinstance(member, ast.FunctionDef) and is_public(member)
    ]
    if members:
        yield "Properties and methods:"
        yield "\n".join(members)


def is_public(member: ast.FunctionDef) -> bool:
    """Return whether a method is for users: no constructor, nothing with an underscore."""
    decorators = [ast.unparse(decorator) for decorator in member.decorator_list]
    return not member.name.startswith("_") and "classmethod" not in decorators


def call(member: ast.FunctionDef) -> str:
    """Return a method's name with its parameters, a property's without."""
    if member.decorator_list:
        return member.name
    names = [parameter.arg for parameter in member.args.args[1:]]
    return f"{member.name}({', '.join(names)})"


def errors() -> Iterator[str]:
    """Yield the error classes; each is a SqueezeError."""
    classes = definitions(ast.parse((ROOT / ERRORS).read_text(encoding="utf-8")))
    yield "\n".join(
        item(name, cls) for name, cls in classes.items() if isinstance(cls, ast.ClassDef)
    )


def item(name: str, definition: Definition) -> str:
    """Return a line of a list: a name and the first paragraph of its docstring."""
    first = (ast.get_docstring(definition) or "").split("\n\n")[0]
    return filled(f"- `{name}`: {' '.join(first.split())}", "  ")


def fenced(code: str) -> str:
    """Return a block of Python."""
    return f"```python\n{code}\n```"


def filled(paragraph: str, indent: str = "") -> str:
    """Return prose broken into lines."""
    return textwrap.fill(
        " ".join(paragraph.split()) if not indent else paragraph,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Write the page, or check it."""
    page = api_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        sys.exit("docs/api.md is not what the docstrings say: make api")


if __name__ == "__main__":
    main()

"""One file out of many: what it does is what the sources did."""

import ast
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from squeeze.bundle.build import BundleOptions, bundle, smallest
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import literal, wrap
from squeeze.bundle.load.flatten import flatten
from squeeze.bundle.load.modules import BundleError, Graph
from squeeze.bundle.load.scopes import module_uses
from squeeze.bundle.passes.shake import shake
from squeeze.bundle.passes.strip import strip
from squeeze.cli.bundle_cmd import command


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__SLASH__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.py"


def run(path, *arguments):
    done = subprocess.run(
        [sys.executable, str(path), *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def flat(entry, **options):
    program = flatten(Graph(entry, **options))
    strip(program.tree)
    return ast.unparse(shake(program.tree, loading=program.loading))


def output_of(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


NAMES = {
    "main": """
from __future__ import annotations
import one, two as second
from package.inner import value as scale, Thing
from package import inner
def scale_all(xs):
    value = 10  # hides nothing: the import is spelled otherwise
    return [scale * x + value for x in xs]
def late():
    from two import helper as h
    import one as first
    return h() + first.helper()
if __name__ == "__main__":
    print(one.helper(), second.helper(), scale_all([1, 2]), Thing(3).double(), inner.value, late())
""",
    "one": "CONSTANT = 1\ndef helper():\n    return CONSTANT\n",
    "two": "CONSTANT = 2\ndef helper(CONSTANT=CONSTANT):\n    return CONSTANT\n"
    "if __name__ == '__main__':\n    print('never')\n",
    "package__SLASH____init__": "loaded = True\n",
    "package__SLASH__inner": "from . import loaded\nvalue = 5\nclass Thing:\n"
    "    def __init__(self, n): self.n = n\n"
    "    def double(self): return 2 * self.n * loaded\n    def unused(self): return 0\n",
}


def test_names_of_several_modules_do_not_mix(tmp_path):
    entry = write(tmp_path, **NAMES)
    assert run(entry)[1] == "1 2 [15, 20] 6 5 3\n"
    assert output_of(flat(entry)) == "1 2 [15, 20] 6 5 3\n"


def test_the_bundle_prints_what_the_sources_print(tmp_path):
    entry = write(tmp_path, **NAMES)
    made = bundle(entry)
    alone = tmp_path / "elsewhere" / "train_gpt.py"
    alone.parent.mkdir()
    alone.write_bytes(made.shipped.data)
    assert run(alone) == run(entry)


def test_the_same_sources_give_the_same_bytes(tmp_path):
    entry = write(tmp_path, **NAMES)
    assert bundle(entry).shipped.data == bundle(entry).shipped.data


def test_what_is_never_reached_is_dropped(tmp_path):
    text = flat(
        write(
            tmp_path,
            main="from lib import used\nprint(used())\n",
            lib='"""Docs."""\nimport os\nUNUSED = [1, 2]\ndef used() -> int:\n    """Docs."""\n'
            "    return 1\ndef unused(): return os.getcwd()\nclass Gone: pass\n",
        )
    )
    assert text.split("\n") == ["def used():", "    return 1", "print(used())"]


def test_statements_with_effects_stay(tmp_path):
    text = flat(write(tmp_path, main="import lib\n", lib="x = print('hello')\nlist.sort\n"))
    assert output_of(text) == "hello\n"


def test_modules_that_only_unreached_functions_import_leave_nothing(tmp_path):
    lib = "def used(): return 1\ndef unused():\n    from heavy import f\n    return f()\n"
    heavy = "import deeper\nprint('loaded')\ndef f(n=print('made')): return n\n"
    files = {"lib": lib, "heavy": heavy, "deeper": "print('deeper')\n"}
    text = flat(write(tmp_path, main="from lib import used\nprint(used())\n", **files))
    assert text.split("\n") == ["def used():", "    return 1", "print(used())"]


@pytest.mark.parametrize(
    "late", ["from heavy import f", "import heavy", "import package.inner", "from heavy import *"]
)
def test_modules_that_a_reached_function_imports_run_with_all_that_they_import(tmp_path, late):
    files = {
        "heavy": "import deeper\nprint('loaded')\ndef f(): return 1\n",
        "deeper": "print('deeper')\n",
        "package__SLASH____init__": "import heavy\n",
        "package__SLASH__inner": "",
    }
    if late.endswith("*"):
        main = f"def unused(): pass\nif __name__ == '__main__':\n    {late}\n    print(f())\n"
    else:
        main = f"def late():\n    {late}\nlate()\n"
    assert output_of(flat(write(tmp_path, main=main, **files))).startswith("deeper\nloaded\n")


def test_a_lambda_is_not_run_where_it_is_made(tmp_path):
    made = "from dataclasses import dataclass, field\nimport ast\n@dataclass\nclass Gone:\n"
    made += "    tree: object = field(default_factory=lambda: ast.parse('x'))\n"
    assert flat(write(tmp_path, main=made + "print(1)\n")) == "print(1)"
    run_now = "x = (lambda: print('run'))()\n"
    assert output_of(flat(write(tmp_path, main=run_now))) == "run\n"
    default = "f = lambda n=print('default'): n\n"
    assert output_of(flat(write(tmp_path, main=default))) == "default\n"


def test_a_function_of_annotations_alone_still_has_a_body_where_docstrings_stay(tmp_path):
    code = flat(write(tmp_path, main="def f():\n    x: int\nprint(f(), f.__doc__)\n"))
    assert output_of(code) == "None None\n"


def test_methods_that_nothing_names_are_dropped_unless_looked_up_by_name(tmp_path):
    source = "class A:\n    def one(self): return 1\n    def two(self): return 2\n"
    plain = flat(write(tmp_path, main=source + "print(A().one())\n"))
    assert "two" not in plain
    named = flat(write(tmp_path, main=source + "import sys\nprint(getattr(A(), sys.argv[1])())\n"))
    assert "two" in named
    prefixed = flat(write(tmp_path, main=source + "print(getattr(A(), 't' + 'wo')())\n"))
    assert "two" in prefixed and "one" not in prefixed


def test_methods_of_classes_from_outside_stay(tmp_path):
    source = "import json\nclass E(json.JSONEncoder):\n    def default(self, o): return str(o)\n"
    text = flat(write(tmp_path, main=source + "print(json.dumps({1: {2}}, cls=E))\n"))
    assert "default" in text


def test_flags_decide_branches(tmp_path):
    source = (
        "FAST = True\nif FAST:\n    print('fast')\nelse:\n    import numpy\n    print('slow')\n"
    )
    entry = write(tmp_path, main=source)
    assert "numpy" not in flat(entry, constants={"FAST": True})
    assert output_of(flat(entry, constants={"FAST": True})) == "fast\n"
    assert "fast" not in flat(entry, constants={"FAST": False})


def test_imports_for_type_checkers_are_not_taken_in(tmp_path):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lib\nprint(1)\n"
    assert "lib" not in Graph(write(tmp_path, main=source, lib="x = 1\n")).modules


def test_circular_imports_inside_functions_work(tmp_path):
    entry = write(
        tmp_path,
        main="from a import f\nprint(f(3))\n",
        a="import b\ndef f(n): return n if n == 0 else b.g(n)\n",
        b="def g(n):\n    from a import f\n    return 1 + f(n - 1)\n",
    )
    assert output_of(flat(entry)) == run(entry)[1] == "3\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main": "import lib\nprint(lib)\n", "lib": ""}, "used as a value"),
        ({"main": "import lib\nlib.x = 1\n", "lib": "x = 0\n"}, "assigns to lib.x"),
        ({"main": "from lib import y\n", "lib": "x = 0\n"}, "lib has no y"),
        ({"main": "import lib\nlib.y\n", "lib": "x = 0\n"}, "lib has no y"),
        ({"main": "x = (\n"}, "not Python"),
        ({"main": "from .. import x\n"}, "beyond the top-level"),
        ({"main": "import lib\nlib = 2\n", "lib": "x = 1\n"}, "bound again"),
    ],
)
def test_what_cannot_be_bundled_is_named_with_its_line(tmp_path, files, message):
    with pytest.raises(BundleError, match=message):
        bundle(write(tmp_path, **files))


@pytest.mark.parametrize(
    "data",
    ["# coding: latin-1\nprint('é')\n".encode("latin-1"), "\ufeffprint('é')\n".encode()],
)
def test_a_script_is_read_in_the_encoding_that_it_states(tmp_path, data):
    entry = write(tmp_path, main="", lib="")
    entry.write_bytes(b"# coding: latin-1\nimport lib\n")
    (tmp_path / "lib.py").write_bytes(data)
    assert output_of(flat(entry)) == run(entry)[1] == "é\n"


def test_a_missing_entry_is_one_clear_error(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        bundle(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("exec('1')", "exec: it finds names by their text"),
        ("eval('1')", "eval: it finds names by their text"),
        ("compile('1', '', 'eval')", "compile: it finds names by their text"),
        ("__import__('math')", "__import__: it imports what it computes"),
        ("import importlib; importlib.import_module('math')", "import_module: it imports what it"),
        ("from importlib import import_module as load", "import_module: it imports what it"),
        ("import runpy; runpy.run_path(sys.argv[0])", "run_path: it runs code by its path"),
        ("import pkgutil", "pkgutil: it reads a data file of a package"),
        ("from importlib import resources", "resources: it reads a data file of a package"),
        ("import inspect; inspect.getsource(sys)", "getsource: it will get the bundle's minified"),
        ("open('data.bin', 'a')", "open: it opens a relative path"),
        ("open(f'data/{sys.argv}.bin')", "open: it opens a relative path"),
        ("import os; open(os.path.join('data', sys.argv[0]))", "open: it opens a relative path"),
        ("open('data/' + sys.argv[0])", "open: it opens a relative path"),
        ("from pathlib import Path; Path('words.txt')", "Path: it opens a relative path"),
        ("import gzip; gzip.open('words.gz')", "open: it opens a relative path"),
        ("import numpy; numpy.load('table.npy')", "load: it opens a relative path"),
        ("print(len(globals()) > 0)", "globals: it finds names by their text"),
        ("print(bool(__file__))", "__file__: it will be the path of the bundle"),
    ],
)
def test_what_will_be_different_is_said_with_its_line(tmp_path, line, word):
    entry = write(tmp_path, main="import sys\n" + line + "\n")
    warnings = flatten(Graph(entry)).warnings
    assert len(warnings) == 1 and f"main.py:2: {word}" in warnings[0]


@pytest.mark.parametrize(
    "line",
    [
        "import re; re.compile('x')", "open('/etc/hosts')", "open(sys.argv[0])",
        "open(f'{sys.argv[0]}.bin')", "import json; json.load(sys.stdin)", "model.eval()",
        "from pathlib import Path; Path('/log').open('w')",
    ],
)  # fmt: skip
def test_what_travels_is_not_warned_of(tmp_path, line):
    entry = write(tmp_path, main="import sys\n" + line + "\n")
    assert flatten(Graph(entry)).warnings == []


def test_a_missing_minifier_is_an_error_and_not_another_count(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_minifier", None)
    with pytest.raises(BundleError, match="python-minifier is not installed"):
        bundle(write(tmp_path, main="print(1)\n"))


@pytest.mark.parametrize(("coder", "package"), [("brotli", "brotli"), ("zstd", "zstandard")])
def test_a_missing_coder_is_an_error(monkeypatch, coder, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BundleError, match=package):
        list(payloads(b"x", (coder,)))


def test_an_unknown_coder_is_an_error():
    with pytest.raises(BundleError, match="unknown coder"):
        list(payloads(b"x", ("rar",)))


def test_literals_hold_every_byte_and_every_neighbourhood():
    every = bytes(range(256))
    hard = b'"""' + b'\\"' + b"\0" + b"1\r\n\n\r\0" + b'"' + b"\\" + b'"' * 5
    for data in (b"", every, hard, every[::-1] + hard, b"\0" * 3 + b"7", b'"', b"\\"):
        source = f"#coding:L1\nx={literal(data)}.encode('L1')".encode("latin-1")
        scope = {}
        exec(compile(source, "x", "exec"), scope)
        assert scope["x"] == data


def test_a_text_copy_with_other_line_ends_still_runs(tmp_path):
    payload = next(payloads(b"print('same')" + b"#" * 300 + bytes(range(33, 90)) * 3, ("zlib",)))
    shipped = wrap(payload, "literal")
    copy = tmp_path / "copy.py"
    copy.write_bytes(shipped.data.replace(b"\n", b"\r\n"))
    assert run(copy)[1] == "same\n"


SHOWS = """
import inspect, sys
def f(): return 1
class A:
    def m(self): return 2
print(inspect.getsource(f).strip(), inspect.getsource(A).strip(), sys.argv[1:], __name__)
import pickle
print(pickle.loads(pickle.dumps(A())).m(), __file__ == sys.argv[0])
raise ValueError('told')
"""


@pytest.mark.parametrize("form", ["literal", "archive"])
@pytest.mark.parametrize("coder", ["zlib", "lzma", "brotli", "zstd"])
def test_every_form_runs_as_a_script_that_can_read_its_source(tmp_path, form, coder):
    path = tmp_path / "program.py"
    path.write_bytes(wrap(next(payloads(SHOWS.encode(), (coder,))), form).data)
    code, out, error = run(path, "a", "b")
    assert code == 1 and "ValueError: told" in error and "<bundle>" in error
    assert "def f(): return 1 class A:\n    def m(self): return 2 ['a', 'b'] __main__" in out
    assert out.endswith("2 True\n")


def test_small_programs_ship_as_they_are():
    assert smallest("print(1)").form == "plain"


def test_parts_sum_to_the_file_and_name_their_modules(tmp_path):
    made = bundle(write(tmp_path, **NAMES), options=BundleOptions(forms=("literal",)))
    assert sum(part.bytes for part in made.parts) == len(made.shipped.data)
    assert {"one", "two", "package.inner", "__main__"} <= {part.module for part in made.parts}


def test_scopes_follow_the_language_reference():
    source = (
        "x = 1\ndef f(a, x=x):\n    global g\n    g = x\n    return [y for y in x if x]\n"
        "class C:\n    x = x\n    def m(self): return x\n"
        "lambda x: x + z\n[w := q for q in r]\n"
    )
    reads = [use.name for use in module_uses(ast.parse(source))]
    assert reads.count("x") == 4  # the definition, the default, the class body's value, the method
    assert "g" in reads and "z" in reads and "w" in reads
    either = [use.name for use in module_uses(ast.parse(source)) if use.either]
    assert either == ["x"]  # the class body may mean its own or the module's
    assert not {"a", "y", "q", "self"} & set(reads)


def test_kernels_do_not_keep_caches_beside_the_file(tmp_path):
    source = (
        "from numba import njit\n@njit(cache=True, nogil=True)\ndef f(): return 1\nprint(f())\n"
    )
    assert "cache" not in bundle(write(tmp_path, main=source)).readable


def test_command_writes_the_file_and_a_readable_twin(tmp_path):
    entry = write(tmp_path, **NAMES)
    out, twin = tmp_path / "b.py", tmp_path / "b.flat.py"
    result = CliRunner().invoke(
        command, [str(entry), "-o", str(out), "--readable", str(twin), "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["bytes"] == out.stat().st_size == sum(p["bytes"] for p in report["parts"])
    assert report["minifier"].startswith("python_minifier 3.")
    assert run(out) == run(entry) and run(twin) == run(entry)


def test_command_does_not_overwrite_its_entry(tmp_path):
    entry = write(tmp_path, main="print(1)\n")
    done = CliRunner().invoke(command, [str(entry), "-o", str(entry)])
    assert "same file as" in str(done.exception) and entry.read_text() == "print(1)\n"


def test_a_package_and_its_submodules_imported_plainly_are_one_name(tmp_path):
    entry = write(
        tmp_path,
        main="import xml\nimport lib\nprint(lib.kind(), xml.__name__)\n",
        lib="import xml\nimport xml.dom.minidom\n"
        "def kind():\n    return xml.dom.minidom.Document.__name__\n",
    )
    assert output_of(flat(entry)) == run(entry)[1] == "Document xml\n"

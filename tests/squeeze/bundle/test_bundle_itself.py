"""Programs that read, name, list, decorate or start themselves: the bundle does what they did."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from squeeze.bundle.build import Bundle, BundleOptions, bundle
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, Outcome, differences, run_once
from squeeze.cli.bundle_cmd import command

SPECIALISED = BundleOptions(shrink=ShrinkOptions(specialise=True))
# Text that makes a program worth packing: short ones ship as they are.
FILLER = "\nFILLER = [" + ", ".join(f"'word number {n} of many'" for n in range(120)) + "]\n"
FILLER += "print(len(FILLER), FILLER[-1])\n"


def programs(name: str) -> dict[str, str]:
    """Return the programs of a file of them by their titles."""
    text = (Path(__file__).parent / "programs" / f"{name}.txt").read_text()
    return dict(part.split("\n", 1) for part in text.removeprefix("### ").split("\n### "))


def both(
    folder: Path, source: str, options: BundleOptions | None = None, **modules: str
) -> tuple[Outcome, Outcome, Bundle]:
    """Return what a program and its bundle leave."""
    files = {"main": source, **modules}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    made = bundle(folder / "main.py", options=options or BundleOptions())
    originals = {f"{name}.py": (folder / f"{name}.py").read_bytes() for name in files}
    before = run_once(originals, "main.py", Check())
    after = run_once({"main.py": made.shipped.data}, "main.py", Check())
    return before, after, made


def same(folder: Path, source: str, **modules: str) -> Bundle:
    """Check that a program and its bundle leave the same, specialised too; return the bundle."""
    for options in (SPECIALISED, BundleOptions()):
        before, after, made = both(folder, source, options, **modules)
        assert differences(before, after) == [], made.minified
        assert before.exit_code == 0, before.texts["standard error"]
    return made


READS = programs("reads")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_program_that_reads_itself_finds_text_and_the_size_of_its_file(
    tmp_path: Path, read: str
) -> None:
    prints = "print(len(code.encode('utf-8')))\nimport os\nprint(os.path.getsize(__file__))\n"
    prints += "open('log.txt', 'w', encoding='utf-8').write(code)\n"
    _, after, made = both(tmp_path, read + FILLER + prints)
    assert after.exit_code == 0, after.texts["standard error"]
    size = str(len(made.shipped.data))
    assert after.texts["standard output"].splitlines()[1:] == [size, size]
    assert after.texts["work/log.txt"]


def test_the_text_that_is_read_is_the_restored_source(tmp_path: Path) -> None:
    source = READS["Path.read_text"] + FILLER + "print(code)\n"
    _, after, made = both(tmp_path, source)
    assert made.shipped.form == "literal"
    assert made.minified in after.texts["standard output"]
    assert any("main.py:2: the program reads its own file" in line for line in made.warnings)


def test_a_form_that_a_program_cannot_read_itself_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(READS["handed on"] + FILLER)
    with pytest.raises(BundleError, match=r"main.py:3: the program may read its own file"):
        bundle(tmp_path / "main.py", options=BundleOptions(forms=("archive",)))


def test_the_text_form_holds_every_byte(tmp_path: Path) -> None:
    source = FILLER + f"print({bytes(range(256))!r}[::-1])\nprint(''.join(open(__file__))[:3])\n"
    before, after, made = both(tmp_path, source)
    assert made.shipped.form == "text" and made.shipped.data.isascii()
    assert (
        after.texts["standard output"].splitlines()[:2]
        == (before.texts["standard output"].splitlines()[:2])
    )


READERS = programs("annotations")


@pytest.mark.parametrize("source", READERS.values(), ids=READERS)
def test_annotations_that_something_reads_stay(tmp_path: Path, source: str) -> None:
    same(tmp_path, source)


def test_annotations_that_nothing_reads_go(tmp_path: Path) -> None:
    source = (
        "import functools\n@functools.cache\ndef f(x: int) -> int:\n    y: int = x\n    return y\n"
    )
    made = same(
        tmp_path, source + "class A:\n    def m(self, n: int) -> None: print(f(n))\nA().m(3)\n"
    )
    assert "int" not in made.minified.replace("print", "")


@pytest.mark.parametrize("option", ["--keep", "--no-minify"])
def test_options_that_keep_names_keep_annotations(tmp_path: Path, option: str) -> None:
    entry = tmp_path / "main.py"
    entry.write_text("def deco(f): return f\n@deco\ndef f(x: int): return x\nprint(f(1))\n")
    words = [str(entry), option, *(["f"] if option == "--keep" else []), "--form", "plain"]
    result = CliRunner().invoke(command, [*words, "-o", str(tmp_path / "b.py")])
    assert result.exit_code == 0 and "int" in (tmp_path / "b.py").read_text()


DECORATORS = programs("decorators")


@pytest.mark.parametrize("source", DECORATORS.values(), ids=DECORATORS)
def test_what_decorating_and_deriving_does_is_done(tmp_path: Path, source: str) -> None:
    same(tmp_path, source)


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize("form", ["literal", "archive", "plain"])
def test_child_processes_do_not_run_the_program_again(
    tmp_path: Path, start: str, form: str
) -> None:
    source = f"""
import multiprocessing
def work(n):
    return n * n
def main():
    with multiprocessing.get_context({start!r}).Pool(1) as pool:
        print(pool.map(work, [1, 2, 3]))
if __name__ == "__main__":
    main()
"""
    before, after, made = both(tmp_path, source, BundleOptions(forms=(form,)))
    assert made.shipped.form == "plain" or form == made.shipped.form
    assert differences(before, after) == [] and before.exit_code == 0


LOOKED_UP = programs("names")


@pytest.mark.parametrize("source", LOOKED_UP.values(), ids=LOOKED_UP)
def test_names_that_are_looked_up_or_shown_are_those_of_the_source(
    tmp_path: Path, source: str
) -> None:
    same(tmp_path, source)


ORDER = {
    "environment": ("import os\nos.environ['MODE'] = 'x'\nimport lib\nprint(lib.mode)\n",
                    "import os\nmode = os.environ.get('MODE')\n"),
    "prints": ("print('main')\nimport lib\nprint(lib.mode)\n", "print('lib')\nmode = 1\n"),
    "names": ("import lib\nprint(lib.name, lib.doc, __doc__, __name__)\n",
              "'''Of the library.'''\nname, doc = __name__, __doc__\n"),
    "docstring": ("'''Of the program.'''\nimport lib\nprint(__doc__)\n", "import json\nprint(1)\n"),
    "path": ("import sys\nsys.path.insert(0, '.')\nimport json as j, lib\nprint(j.dumps(lib.a))\n",
             "import json\na = [json.loads('1')]\n"),
    "rebound": ("import json as x\nprint(x.__name__)\nimport csv as x\nprint(x.__name__)\nimport lib\n",
                "import json\njson = 5\nprint(json)\n"),
}  # fmt: skip


@pytest.mark.parametrize(("main", "lib"), ORDER.values(), ids=ORDER)
def test_modules_run_where_they_are_imported(tmp_path: Path, main: str, lib: str) -> None:
    same(tmp_path, main, lib=lib)


def test_the_docstring_of_the_program_stays_first(tmp_path: Path) -> None:
    source = "'''What it does.'''\nfrom __future__ import annotations\nimport argparse, os\n"
    source += "p = argparse.ArgumentParser(prog='p', description=__doc__)\nprint(p.format_help())\n"
    assert same(tmp_path, source).minified.startswith(("'What", '"What'))


@pytest.mark.parametrize("source", ["", "# nothing\n", "def f(): return 1\n", "import os\nX = 1\n"])
def test_a_program_that_does_nothing_is_named(tmp_path: Path, source: str) -> None:
    made = same(tmp_path, source)
    assert "main.py: nothing in it does anything" in made.warnings[0]
    assert sum(part.bytes for part in made.parts) == len(made.shipped.data)


@pytest.mark.parametrize("wrapper", ["lzma", "bundle"])
def test_a_script_that_unpacks_itself_is_unpacked_first(tmp_path: Path, wrapper: str) -> None:
    import base64
    import lzma

    inner = "def unused(): pass\n" + FILLER + "print(__name__, __file__[-7:])\n"
    packed = tmp_path / "packed" / "main.py"
    packed.parent.mkdir()
    if wrapper == "lzma":
        text = base64.b85encode(lzma.compress(inner.encode())).decode()
        packed.write_text(
            f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode('{text}')))"
        )
    else:
        (tmp_path / "main.py").write_text(inner)
        packed.write_bytes(bundle(tmp_path / "main.py").shipped.data)
    (tmp_path / "main.py").write_text(inner)
    assert bundle(packed).shipped.data == bundle(tmp_path / "main.py").shipped.data


INCLUDING = programs("included")


@pytest.mark.parametrize("source", INCLUDING.values(), ids=INCLUDING)
def test_a_file_that_is_run_in_its_place_is_taken_in(tmp_path: Path, source: str) -> None:
    made = same(
        tmp_path,
        source + "\n",
        rest="from __future__ import annotations\nprint('rest', __name__)\n",
    )
    assert {path.name for path in made.sources} == {"main.py", "rest.py"}
    assert "exec" not in made.minified


def test_a_file_beside_a_script_of_another_folder_is_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "main.py").write_text(INCLUDING["replace"])
    (tmp_path / "run" / "rest.py").write_text("print('rest')\n")
    monkeypatch.chdir(tmp_path)
    made = bundle(Path("run/main.py"))
    assert "exec" not in made.minified and "rest" in made.minified


def test_syntax_that_is_too_new_names_the_version_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print(1) if = 2\n")
    with pytest.raises(BundleError, match=f"what Python {sys.version_info[0]}"):
        bundle(tmp_path / "main.py")


def test_only_what_is_new_of_a_preset_is_refused() -> None:
    result = CliRunner().invoke(command, ["--preset", "tiny", "--package", "numpy"])
    assert result.exit_code == 2 and "--package goes with ENTRY" in result.output


@pytest.mark.slow
def test_options_of_a_preset_are_those_that_are_asked_for(tmp_path: Path) -> None:
    out, twin = tmp_path / "own.py", tmp_path / "flat.py"
    words = ["--preset", "tiny", "--coder", "zlib", "--form", "archive", "--keep", "evaluate"]
    words += ["-o", str(out), "--readable", str(twin), "--json"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["coder"], report["form"], report["warnings"]) == ("zlib", "archive", [])
    assert "def evaluate" in twin.read_text()


def test_a_string_after_what_is_cut_becomes_no_docstring(tmp_path: Path) -> None:
    source = """
        import functools
        if 0:
            print('never')
        'no docstring of the program'
        @functools.cache
        def f(n=1):
            if 0:
                n = 2
            'no docstring of f'
            try:
                n += 1
            finally:
                'nothing else'
            return n
        @functools.total_ordering
        class C:
            if 0:
                x = 1
            'no docstring of C'
            def __lt__(self, other): return False
            def __eq__(self, other): return True
        print(__doc__, f.__doc__, f(), C.__doc__, C() <= C())
    """
    same(tmp_path, source)

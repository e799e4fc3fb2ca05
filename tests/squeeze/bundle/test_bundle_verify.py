"""A bundle beside its original: what may differ, and what is a difference."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.verify import Check, Verdict, run_once, verify
from squeeze.cli.bundle_cmd import command


def compared(
    folder: Path, original: str, other: str, *arguments: str, **settings: float
) -> Verdict:
    """Return the comparison of two programs."""
    entry = folder / "main.py"
    entry.write_text(original)
    check = Check(arguments, **settings)
    return verify({"main.py": entry}, "main.py", other.encode(), check)


def test_equal_programs_have_no_differences(tmp_path: Path) -> None:
    text = "import sys\nprint(sys.argv[1:])\nopen('a.txt', 'w').write('x')\nsys.exit(3)\n"
    verdict = compared(tmp_path, text, text + "# longer\n", "-n", "1")
    assert (verdict.exit_code, verdict.differences) == (3, ())
    verdict.check()


@pytest.mark.parametrize(
    ("original", "other", "said"),
    [
        ("print(1)", "print(2)", "standard output: line 1: '1' became '2'"),
        ("print(1)", "print(1); print(2)", "line 2: nothing became '2'"),
        ("pass", "import sys; sys.exit(1)", "exit code 0, then 1"),
        ("pass", "import sys; print('x', file=sys.stderr)", "standard error: line 1"),
        ("pass", "open('new.txt', 'w').write('x')", "work/new.txt: only the bundle"),
        (
            "open('b', 'wb').write(b'\\xff')",
            "open('b', 'wb').write(b'\\xfe')",
            "work/b: other bytes",
        ),
        ("raise KeyError(1)", "raise KeyError(2)", "standard error: line 1: 'KeyError: 1'"),
    ],
)
def test_a_difference_is_said_and_refused(
    tmp_path: Path, original: str, other: str, said: str
) -> None:
    verdict = compared(tmp_path, original, other)
    assert said in "; ".join(verdict.differences)
    with pytest.raises(BundleError, match="does not do what its original does"):
        verdict.check()


def test_numbers_may_differ_by_the_tolerance_that_is_asked_for(tmp_path: Path) -> None:
    assert compared(tmp_path, "print(1.0)", "print(1.001)", tolerance=0.01).differences == ()
    assert compared(tmp_path, "print(1.0)", "print(1.1)", tolerance=0.01).differences


def test_sizes_may_differ_as_the_scripts_do(tmp_path: Path) -> None:
    count = "import os; print(1000 + os.path.getsize(__file__))"
    assert compared(tmp_path, count + " # and more", count).differences == ()
    assert compared(tmp_path, "print(1000) # and more", "print(999)").differences


def test_what_changes_from_run_to_run_is_no_difference(tmp_path: Path) -> None:
    clock = "import time; print('took', time.time_ns(), 'ns'); print('loss', 2)"
    assert compared(tmp_path, clock, clock + " #").differences == ()
    assert compared(tmp_path, clock, clock.replace("2)", "3)")).differences


def test_tracebacks_are_compared_by_what_was_raised(tmp_path: Path) -> None:
    deep = "def f(): raise ValueError('told')\ntry:\n    f()\n"
    deep += "except ValueError as e:\n    raise KeyError(1) from e"
    flat = "try:\n    raise ValueError('told')\nexcept ValueError as e: raise KeyError(1) from e"
    assert compared(tmp_path, deep, flat).differences == ()


def test_warnings_are_compared_by_what_they_say(tmp_path: Path) -> None:
    warning = "import warnings\nwarnings.warn('{}')\n"
    moved = "\n\nimport warnings as w; w.warn('{}')\n"
    assert compared(tmp_path, warning.format("old"), moved.format("old")).differences == ()
    (line,) = compared(tmp_path, warning.format("old"), moved.format("new")).differences
    assert line == "standard error: line 1: 'UserWarning: old' became 'UserWarning: new'"


def test_what_the_compiler_says_of_the_spelling_is_no_difference(tmp_path: Path) -> None:
    """From Python 3.12 on unknown escapes are among it; a bundle has none, and spells much otherwise."""
    spelt = "assert (1, 'always true')\nprint('\\d', 1 if 1 is 1 else 2)\n"
    assert compared(tmp_path, spelt, r"print('\\d', 1)").differences == ()
    assert compared(tmp_path, spelt, r"print('\\d', 2)").differences


def test_escapes_that_python_does_not_know_are_bundled_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("print('\\p')\n")
    (tmp_path / "main.py").write_text("exec(open('part.py').read())\nprint('\\d')\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = bundle(tmp_path / "main.py")
    assert run_once({"main.py": made.shipped.data}, "main.py", Check()).texts == {
        "standard output": "\\p\n\\d\n",
        "standard error": "",
    }


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("open('never/there')\n")
    result = CliRunner().invoke(command, [str(tmp_path / "main.py"), "--verify"])
    assert result.exit_code == 0, result.output
    assert "main.py ended with exit code 1: nothing behind that is compared" in result.output
    assert "FileNotFoundError" in result.output


def test_a_program_that_does_not_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"main.py did not end in time"):
        compared(tmp_path, "import time; time.sleep(60)", "pass", timeout=0.5)


def test_the_command_names_a_bundle_done_only_if_it_does_the_same(tmp_path: Path) -> None:
    entry, out = tmp_path / "main.py", tmp_path / "out.py"
    (tmp_path / "lib.py").write_text("def shown(): return 5\n")
    entry.write_text("import sys\nfrom lib import shown\nprint(shown(), sys.argv[1:])\n")
    words = [str(entry), "-o", str(out), "--verify"]
    result = CliRunner().invoke(command, [*words, "--", "--steps", "3"])
    assert result.exit_code == 0, result.output
    assert "prints, writes and returns what main.py does" in result.output
    out.unlink()
    entry.write_text("FLAG = 1\nprint(FLAG)\n")
    result = CliRunner().invoke(command, [*words, "--define", "FLAG=2"])
    assert isinstance(result.exception, BundleError) and not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--define", "NEVER=1"], "--define NEVER: nothing at the top level"),
        (["--package", "never_there"], "--package never_there: no such package"),
        (["--keep", "never"], "warning: --keep never: nothing in the program has that name"),
        (["--verify", "--tolerance", "-1"], "-1.0 is not in the range"),
    ],
)
def test_options_that_name_nothing_are_named(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "main.py").write_text("print(1)\n")
    result = CliRunner().invoke(command, [str(tmp_path / "main.py"), *words])
    assert said in result.output.replace("\n", " ") + str(result.exception)


def test_a_flag_has_its_value_wherever_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("FAST = False\n")
    (tmp_path / "main.py").write_text(
        "import conf\nfrom conf import FAST\nprint(conf.FAST, FAST)\n"
    )
    made = bundle(tmp_path / "main.py", options=BundleOptions(constants={"FAST": True}))
    assert run_once({"main.py": made.shipped.data}, "main.py", Check()).texts[
        "standard output"
    ] == ("True True\n")


@pytest.mark.parametrize("words", [["main.py", "--", "x"], ["--preset", "tiny", "--verify"]])
def test_arguments_need_what_they_are_for(words: list[str]) -> None:
    assert CliRunner().invoke(command, words).exit_code == 2


def test_files_beside_both_scripts_are_there_and_a_script_may_state_its_hash(
    tmp_path: Path,
) -> None:
    text = (
        "import hashlib, pathlib\nme = pathlib.Path(__file__)\n"
        "print(hashlib.sha256(me.read_bytes()).hexdigest(), me.with_name('model.bin').read_bytes())\n"
    )
    (tmp_path / "main.py").write_text(text)
    check = Check(beside={"model.bin": b"\0\1"})
    verdict = verify({"main.py": tmp_path / "main.py"}, "main.py", (text + "#").encode(), check)
    assert (verdict.exit_code, verdict.differences) == (0, ())


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (
            "print(16000000 - 5000)",
            "print(16000000)",
            True,
        ),  # the room that a smaller script leaves
        ("print('0.24MB')", "print('0.23MB')", True),
        ("print('12.305 kB')", "print('7.305 kB')", True),
        ("print('loss 0.24')", "print('loss 0.26')", False),
        ("print('1.5')", "print('1.6')", False),
        ("print('0.24MB')", "print('0.26MB')", False),
    ],
)
def test_sizes_may_differ_by_the_script_in_any_unit(
    tmp_path: Path, first: str, second: str, same: bool
) -> None:
    grown = first + "#" * (5000 + len(second) - len(first))
    assert (compared(tmp_path, grown, second).differences == ()) is same

"""Code in the ledger: by module and definition, to the byte, whatever the script looks like."""

import ast
import json
import re
import sys

import pytest
from click.testing import CliRunner

from squeeze.bundle.build import bundle, smallest
from squeeze.bundle.cost import costs, pieces
from squeeze.bundle.emit import mixed as mixed_coder
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap
from squeeze.cli.budget_cmd import command
from squeeze.errors import CorruptData, SqueezeError
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside import mixed_script
from squeeze.views.code import named, parts_csv, read_parts
from squeeze.views.page import modules
from squeeze.views.totals import totals
from tests.squeeze.bundle.test_bundle import NAMES, write
from tests.squeeze.views.test_totals import SCRIPT
from tests.squeeze.views.test_views import artifact

ODD = b'''#!/usr/bin/env python
# what stands before a definition is its own
import os; import sys
@staticmethod
def first(): return 1
# of the class
class Thing(
    object,
):
    """Docs."""
    x = 1
    @property
    def one(self): return "\xc3\xa4\xc3\xb6"
    # of two
    async def two(self):
        return 2
    y = 3
a = 1; b = [a]; c = "x"
if a: print(
    b)
'''


def parsed(code):
    return pieces(code, ast.parse(code))


def test_pieces_tile_the_source_and_begin_where_their_statement_does():
    found = [(piece.name, ODD[piece.start : piece.end]) for piece in parsed(ODD)]
    assert b"".join(text for _, text in found) == ODD
    texts = dict(found)
    assert texts["first"].startswith(b"@staticmethod") and texts["b"] == b"b = [a]; "
    assert texts["Thing.one"].startswith(b"    @property\n") and b"# of two" in texts["Thing.two"]
    assert [name for name, _ in found] == [
        "(imports)", "(imports)", "first", "Thing", "Thing.one", "Thing.two", "Thing",
        "(constants)", "b", "(constants)", "(statements)",
    ]  # fmt: skip


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_line_ends_of_every_kind_are_understood(ends):
    code = ODD.replace(b"\n", ends)
    assert b"".join(code[p.start : p.end] for p in parsed(code)) == code
    assert [p.name for p in parsed(code)] == [p.name for p in parsed(ODD)]


def test_repeated_code_costs_less_than_new_code():
    code = b"def a(x):\n    return [x * 31 + 7 for x in x.items()]\n" * 2
    found = parsed(code)
    first, second = costs(code, found)
    assert second < first / 2


def test_a_readable_script_is_split_by_definition_to_the_byte(tmp_path):
    path = tmp_path / "train_gpt.py"
    path.write_bytes(ODD)
    rows = attribute_paths([path]).rows
    assert sum(row.bytes for row in rows) == len(ODD)
    sizes = {row.tensor: row.bytes for row in rows}
    assert sizes["Thing.one"] == len('    @property\n    def one(self): return "äö"\n'.encode())
    assert {(row.component, row.kind, row.role) for row in rows} == {
        ("code", "source", "train_gpt.py")
    }


@pytest.mark.parametrize(
    "source",
    [
        b"", b"# only a comment\n", b"\xef\xbb\xbfx = 1\n",
        b"#coding:latin-1\na = '\xe4'; b = [a]\n", b"x = '\xff'\n", b"not python (\n", b"x\x00y\n",
    ],
)  # fmt: skip
def test_any_script_is_accounted_for(tmp_path, source):
    path = tmp_path / "train_gpt.py"
    path.write_bytes(source)
    result = attribute_paths([path])
    assert result.unattributed == 0 and result.rows[0].component == "code"


@pytest.mark.parametrize("form", ["literal", "archive"])
@pytest.mark.parametrize("coder", ["zlib", "lzma", "brotli", "zstd"])
def test_our_own_files_are_unpacked_and_split_without_running_them(tmp_path, form, coder):
    path = tmp_path / "train_gpt.py"
    path.write_bytes(smallest(SCRIPT, (coder,), (form,)).data)
    result = attribute_paths([path])
    inside = [row for row in result.rows if row.kind == "payload"]
    assert result.unattributed == 0 and {"area_7", "area_39"} <= {row.tensor for row in inside}
    assert {row.codec for row in inside} == {coder} and all(row.shared for row in inside)
    assert sum(row.elements for row in inside) == len(SCRIPT)
    assert next(row.kind for row in result.rows if row not in inside) == "stub"


@pytest.fixture(scope="module")
def mixed():
    """A script of each form whose payload is context-mixed."""
    payload = next(payloads(SCRIPT.encode(), ("mixed",)))
    return {form: wrap(payload, form).data for form in ("literal", "archive")}


@pytest.mark.parametrize("form", ["literal", "archive"])
def test_context_mixed_files_are_unpacked_without_running_them(tmp_path, mixed, form):
    path = tmp_path / "train_gpt.py"
    path.write_bytes(mixed[form])
    result = attribute_paths([path])
    inside = [row for row in result.rows if row.kind == "payload"]
    assert result.unattributed == 0 and sum(row.elements for row in inside) == len(SCRIPT)
    assert {row.codec for row in inside} == {"mixed"} and len(inside) > 40
    assert sum(row.bytes for row in inside) < 800  # the decoder that travels along is stub


def test_a_decoder_of_another_version_is_not_run_and_not_guessed(tmp_path, mixed, monkeypatch):
    (tmp_path / "train_gpt.py").write_bytes(mixed["archive"])
    (tmp_path / "model.sqz").write_bytes(artifact())
    mixed_script._decoded.cache_clear()
    monkeypatch.setattr(mixed_coder, "decoder", lambda: "another")
    result = attribute_paths([tmp_path])
    assert result.unattributed == 0 and "decoder in it is of another version" in result.notes[0]
    assert totals(tmp_path).virtual.bytes is None


def test_without_numba_the_count_is_unknown_and_the_coder_an_error(tmp_path, mixed, monkeypatch):
    (tmp_path / "train_gpt.py").write_bytes(mixed["archive"])
    (tmp_path / "model.sqz").write_bytes(artifact())
    mixed_script._decoded.cache_clear()
    monkeypatch.delattr("squeeze.bundle.emit.mixed")
    monkeypatch.setitem(sys.modules, "squeeze.bundle.emit.mixed", None)
    assert "numba is not installed" in totals(tmp_path).virtual.counted
    with pytest.raises(SqueezeError, match="numba is not installed"):
        list(payloads(b"x", ("mixed",)))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"(b[", b"(b[9"), (b"zlib.decompress(b,-15)", b"zlib.decompress(b,-9)"),
     (b",s,", b",s,999"), (b",s,", b",s,-1*")],
)  # fmt: skip
def test_a_mixed_file_that_lies_is_an_error_or_one_row(tmp_path, mixed, old, new):
    path = tmp_path / "train_gpt.py"
    assert old in mixed["literal"]
    path.write_bytes(mixed["literal"].replace(old, new))
    try:
        assert attribute_paths([path]).unattributed == 0
    except CorruptData as error:
        assert "train_gpt.py" in str(error)


@pytest.fixture
def bundled(tmp_path):
    """(folder with the file, its bundle)."""
    # enough text that compression pays
    more = "".join(f"def g{n}(x): return x * {n} + helper()\n" for n in range(40))
    used = "print(sum(f(1) for f in (" + ",".join(f"g{n}" for n in range(40)) + ")))\n"
    files = {**NAMES, "one": NAMES["one"] + more + used}
    made = bundle(write(tmp_path, **files))
    assert made.shipped.form != "plain"
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "train_gpt.py").write_bytes(made.shipped.data)
    (folder / "model.sqz").write_bytes(artifact())
    return folder, made


def told(*arguments):
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_report_of_the_bundle_gives_the_original_names(bundled, tmp_path):
    folder, made = bundled
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"parts": [vars(part) for part in made.parts]}))
    rows = told(folder, "--code-report", report)["rows"]
    inside = {(row["role"], row["tensor"]) for row in rows if row["kind"] == "payload"}
    assert {("one", "g7"), ("two", "helper"), ("package.inner", "Thing.double")} <= inside
    code = sum(row["bytes"] for row in rows if row["component"] == "code")
    assert code == len(made.shipped.data)


def test_a_table_in_the_folder_gives_the_original_names_and_does_not_count(bundled):
    folder, made = bundled
    before = told(folder)
    (folder / "code.csv").write_text(parts_csv(made.parts))
    assert read_parts(folder / "code.csv") == made.parts
    after = told(folder)
    assert after["totals"]["shipped"]["bytes"] == before["totals"]["shipped"]["bytes"]
    assert "one" in {row["role"] for row in after["rows"]} - {r["role"] for r in before["rows"]}
    assert after["unattributed"] == 0 and after["totals"]["papers"].keys() == {"entry/code.csv"}


def test_a_table_of_another_file_is_told_and_not_used(bundled):
    folder, made = bundled
    (folder / "code.csv").write_text(parts_csv(made.parts[1:]))
    facts = told(folder)
    assert any("of another file" in note for note in facts["notes"])
    assert "one" not in {row["role"] for row in facts["rows"]}


def test_a_report_of_another_file_is_an_error(bundled):
    folder, made = bundled
    with pytest.raises(SqueezeError, match="of another file"):
        named(attribute_paths([folder]), made.parts[1:], "report")


@pytest.mark.parametrize(
    ("name", "text"),
    [("r.json", "[]"), ("r.json", '{"parts": [{"module": "m"}]}'), ("r.csv", "a,b\n1,2\n"),
     ("r.csv", "module,name,bytes,chars\nm,f,-5,1\n")],
)  # fmt: skip
def test_a_report_that_is_none_is_one_clear_error(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SqueezeError, match="not the report of a bundle"):
        read_parts(path)


def test_papers_do_not_count_against_the_limit(bundled):
    folder, _ = bundled
    shipped = told(folder)["totals"]["shipped"]["bytes"]
    (folder / "README.md").write_text("x" * 1000)
    facts = told(folder, "--limit", shipped)
    assert facts["total"] == shipped + 1000 and facts["unused"] == 0
    assert facts["components"]["papers"] == 1000
    over = CliRunner().invoke(command, [str(folder), "--limit", str(shipped - 1)])
    assert "over the limit by 1 bytes" in str(over.exception)


def test_three_counts_are_printed_with_their_verdicts(bundled):
    folder, _ = bundled
    result = CliRunner().invoke(command, [str(folder), "--depth", "3"])
    for name in ("shipped", "rule", "virtual"):
        assert re.search(rf"^{name} +[\d,]+ +[\d,]+ under the limit", result.stdout, re.M)
    assert "virtual, never held against the limit" in result.stdout.replace("\n", "")


def test_the_page_has_the_counts_and_the_modules(bundled, tmp_path):
    folder, made = bundled
    (folder / "code.csv").write_text(parts_csv(made.parts))
    out = tmp_path / "r.html"
    CliRunner().invoke(command, [str(folder), "--html", str(out)])
    text = re.search(r'type="application/json">(.*?)</script>', out.read_text(), re.S)[1]
    facts = json.loads(text)
    assert facts["totals"]["shipped"]["bytes"] == told(folder)["totals"]["shipped"]["bytes"]
    assert sum(group["bytes"] for group in facts["code"]) == len(made.shipped.data)
    assert {"one", "two", "stub"} <= {group["module"] for group in facts["code"]}


def test_modules_sum_their_definitions(bundled):
    folder, made = bundled
    result = named(attribute_paths([folder]), made.parts, "report")
    largest = modules(result)[0]
    assert largest["module"] == "one" and re.fullmatch(r"g\d+ \d+", largest["names"][-1])

"""Three counts of a submission: only the one of files on disk is held against the limit."""

import runpy
import sys

import pytest

from squeeze.bundle.build import smallest
from squeeze.bundle.emit.virtual import STUBS, virtual, wrapped
from squeeze.errors import SqueezeError
from squeeze.views.totals import totals
from tests.squeeze.views.test_views import artifact

SCRIPT = (
    '"""A script."""\nimport math\n\n\n'
    + "\n\n".join(
        f"def area_{n}(radius):\n    '''Of circle {n}.'''\n    return {n} * math.pi * radius**2"
        for n in range(40)
    )
    + "\n\n\nresult = area_3(2.0)\n"
)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "train_gpt.py").write_text(SCRIPT)
    (folder / "model.sqz").write_bytes(artifact())
    (folder / "requirements.txt").write_text("torch\nnumba\n")
    (folder / "README.md").write_text("# about\n")
    return folder


def test_shipped_is_every_file_but_papers(folder):
    found = totals(folder)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert found.shipped.bytes == sum(sizes.values()) - sizes["README.md"]
    assert found.papers == {"entry/README.md": sizes["README.md"]}


def test_the_rule_counts_code_and_model(folder):
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    found = totals(folder)
    assert found.rule.bytes == sizes["train_gpt.py"] + sizes["model.sqz"]
    assert f"{sizes['requirements.txt']} bytes that ship (requirements.txt)" in found.difference


def test_the_virtual_count_replaces_a_readable_script_by_a_wrapper_that_is_no_file(folder):
    found = totals(folder)
    model = (folder / "model.sqz").stat().st_size
    wrapper = virtual(SCRIPT.encode())
    assert found.virtual.bytes == model + len(wrapper.data) < found.rule.bytes
    assert "no file" in found.virtual.counted and "minifier 3" in found.virtual.counted
    assert f"{len(SCRIPT) - len(wrapper.data):,} fewer than the file that runs" in found.difference


@pytest.mark.parametrize("form", ["literal", "archive"])
def test_a_script_that_extracts_itself_is_counted_by_its_source(folder, form):
    shipped = smallest(SCRIPT, forms=(form,)).data
    (folder / "train_gpt.py").write_bytes(shipped)
    found = totals(folder)
    wrapper = min(len(wrapped(SCRIPT.encode(), coder)) for coder in STUBS)
    assert found.virtual.bytes == (folder / "model.sqz").stat().st_size + wrapper
    assert "than the file that runs" in found.difference


@pytest.mark.parametrize("coder", STUBS)
def test_the_wrapper_that_is_measured_would_run(tmp_path, coder):
    path = tmp_path / "wrapper.py"
    path.write_bytes(wrapped(SCRIPT.encode(), coder))
    # names that the wrapper runs in its own scope are the module's
    assert runpy.run_path(str(path))["result"] == pytest.approx(12 * 3.14159265)


@pytest.mark.parametrize("package", ["python_minifier", "brotli"])
def test_without_the_minifier_or_the_coder_the_virtual_count_is_unknown(
    folder, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)
    found = totals(folder)
    assert found.virtual.bytes is None and "is not installed" in found.virtual.counted
    assert found.as_json(1)["virtual"]["fits"] is None and found.virtual.verdict(1) == "unknown"


def test_verdicts_are_against_the_limit(folder):
    found = totals(folder)
    told = found.as_json(found.rule.bytes)
    assert (told["shipped"]["fits"], told["rule"]["fits"]) == (False, True)
    assert found.shipped.verdict(found.rule.bytes) == f"OVER by {len('torch numba ')}"
    assert found.rule.verdict(found.rule.bytes) == "0 under the limit"


def test_a_folder_without_a_script_is_no_submission(folder):
    (folder / "train_gpt.py").unlink()
    with pytest.raises(SqueezeError, match="not one submission"):
        totals(folder)

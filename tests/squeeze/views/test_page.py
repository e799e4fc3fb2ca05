"""The HTML report: one file, everything in it, and a browser that runs it without a complaint."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from squeeze.cli.budget_cmd import command
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.table import Ledger
from squeeze.rows import Row
from squeeze.views.histograms import histograms
from squeeze.views.page import Report, facts, page
from tests.squeeze.views.test_views import NAMES, artifact, plan_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "model.sqz"
    path.write_bytes(artifact())
    return path


@pytest.fixture
def report(packed, tmp_path):
    data = packed.read_bytes()
    ledger = attribute_paths([packed])
    plan = replace(plan_of(data), measured=0.3)  # severe, and not foreseen
    text = page(Report(ledger, 20_000, plan=plan, histograms=histograms(data)))
    path = tmp_path / "report.html"
    path.write_text(text)
    return path


def data_of(path):
    text = path.read_text()
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S)[1])


def test_page_holds_every_row_and_needs_nothing_else(report, packed):
    facts = data_of(report)
    assert sum(row["bytes"] for row in facts["rows"]) == packed.stat().st_size
    assert len(facts["plan"]) == 4 and {h["tensor"] for h in facts["histograms"]} <= set(NAMES)
    assert not re.search(
        r"src=|href=.(?!#)|@import|url\(|https?://(?!www\.w3\.org)", report.read_text()
    )


def test_names_in_files_cannot_end_the_script():
    rows = (Row("</script><script>alert(1)</script>", "other", "file", 3),)
    text = page(Report(Ledger(rows, {"</script><b>": 3}), 10))
    assert text.count("</script>") == 2 and "alert(1)</script>" not in text


def test_what_the_terminal_warns_of_stands_on_the_page(packed, tmp_path):
    data = packed.read_bytes()
    ledger = replace(attribute_paths([packed]), notes=("a note of the ledger",))
    severe = replace(plan_of(data), measured=0.3)
    path = tmp_path / "report.html"
    path.write_text(page(Report(ledger, len(data) - 1, plan=severe)))
    facts = data_of(path)
    assert facts["over"] and facts["notes"] == ["a note of the ledger"]
    assert facts["cautions"] == list(severe.cost.cautions) and "severe" in facts["cautions"][0]
    path.write_text(page(Report(ledger, len(data), plan=plan_of(data))))
    assert not data_of(path)["over"] and not data_of(path)["cautions"]


def test_the_page_says_on_how_many_tokens_the_cost_was_measured(packed):
    plan = replace(plan_of(packed.read_bytes()), measured_tokens=512, measured_error=1e-5)
    pairs = dict(facts(Report(attribute_paths([packed]), 20_000, plan=plan)))
    assert "on 512 tokens of calibration text): visible" in pairs["cost, measured"]
    assert any("512 tokens" in sentence for sentence in plan.cost.cautions)


def test_histogram_counts_every_weight_once():
    for item in histograms(artifact()):
        assert sum(item["counts"]) + item["outside"] == item["total"] == 64 * 48
        assert item["low"] <= item["first"] and len(item["counts"]) * item["width"] <= 400


def test_command_writes_the_page_under_a_megabyte(packed, tmp_path):
    out = tmp_path / "r.html"
    result = CliRunner().invoke(command, [str(packed), "--html", str(out)])
    assert result.exit_code == 0, result.output
    assert out.stat().st_size < 1_000_000 and data_of(out)["code"] == []


def test_a_code_report_that_is_none_is_named(packed, tmp_path):
    wrong = tmp_path / "bundle.json"
    wrong.write_text("[]")
    result = CliRunner().invoke(
        command, [str(packed), "--html", str(tmp_path / "r.html"), "--code-report", str(wrong)]
    )
    assert "not the report of a bundle" in str(result.exception)
    assert not (tmp_path / "r.html").exists()


def browse(report, *options):
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         "--virtual-time-budget=4000", *options, report.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.skipif(BROWSER is None, reason="no chromium in PATH (Debian: apt install chromium)")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_draws_it_and_answers_the_keyboard(report, tmp_path, theme):
    script = """<script>addEventListener('load', () => { const out = [];
      const all = query => document.querySelectorAll(query);
      for (const query of ['.cell', '#cautions li', '#heat rect', '#histogram rect', '#rate circle'])
        out.push(all(query).length);
      out.push(document.documentElement.scrollWidth - innerWidth);
      const sizes = [...all('#rows tbody tr')].map(
        row => Number(row.cells[3].textContent.replace(/[,≈]/g, '')));
      out.push(sizes.every((size, i) => !i || sizes[i - 1] >= size) ? 1 : 0);
      const cell = [...all('.cell')].find(c => c.textContent.startsWith('mlp'));
      cell.click(); out.push(all('#crumbs button').length);
      dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}));
      out.push(all('#crumbs button').length);
      const box = document.getElementById('search'); box.value = 'attn_scale';
      box.dispatchEvent(new Event('input'));
      out.push([...all('#rows tbody tr')].filter(r => !r.hidden).length);
      document.title = 'RESULT ' + out.join(' '); });</script></html>"""
    themed = report.read_text().replace("<html", f'<html data-theme="{theme}"', 1)
    report.write_text(themed.replace("</html>", script))
    done = browse(report, "--dump-dom", "--window-size=500,900")
    assert "Uncaught" not in done.stderr, done.stderr
    cells, cautions, heat, bars, dots, beyond, sorted_rows, opened, closed, rows = map(
        int, re.search(r"<title>RESULT ([-\d ]+)</title>", done.stdout)[1].split()
    )
    assert (
        beyond <= 0 and sorted_rows
    )  # nothing sticks out of a narrow window; the largest come first
    assert cells > 4 and cautions == 2 and heat == 3 and bars > 10 and dots == 3
    assert (opened, closed, rows) == (2, 1, 1)
    shot = tmp_path / "shot.png"
    started = time.perf_counter()
    browse(report, f"--screenshot={shot}", "--window-size=1200,1600")
    assert shot.stat().st_size > 20_000 and time.perf_counter() - started < 60

"""The documentation as a site: every page is in its navigation, every link of it leads somewhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MAKER: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_site.py"))


def test_the_navigation_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"[\w-]+\.md", text[text.index("nav:") :])
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | set(MAKER["FRONT"].values())
    assert set(named) == pages and len(named) == len(pages)


def test_links_lead_to_pages_of_the_site_or_into_the_repository() -> None:
    text = "[a](../README.md) [b](format.md#x) [c](../codecs/jit.py) [d](https://e.org/f) [g](#h)"
    assert MAKER["fitting"](text, ROOT / "docs") == (
        "[a](index.md) [b](format.md#x) "
        f"[c]({MAKER['REPOSITORY']}/blob/main/codecs/jit.py) [d](https://e.org/f) [g](#h)"
    )


@pytest.mark.slow
def test_the_site_is_built_without_a_warning() -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install -e '.[docs]', as `make site` does")
    subprocess.run([sys.executable, "docs/make_site.py"], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=ROOT, check=True)

"""The pages lead to each other: every link resolves, and every page can be reached from README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)#*$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page, code left out."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return LINK.findall(re.sub(r"`[^`\n]*`", "`", text))


def anchors(page: Path) -> set[str]:
    """Names that GitHub gives the headings of a page, and those that the page sets itself."""
    names: dict[str, int] = {}
    found = set(re.findall(r'<a id="([\w-]+)">', page.read_text(encoding="utf-8")))
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = names.get(name, 0)
        names[name] = count + 1
        found.add(f"{name}-{count}" if count else name)
    return found


def target(page: Path, link: str) -> tuple[Path, str]:
    """File and anchor that a link of a page means."""
    path, _, anchor = link.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_resolves(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, anchor = target(page, link)
        assert path.exists(), f"{link} leads nowhere"
        assert path.is_relative_to(ROOT), f"{link} leaves the repository"
        assert not anchor or anchor in anchors(path), f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = {PAGES[0]}, [PAGES[0]]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            if link.startswith(("https://", "http://")):
                continue
            path, _ = target(page, link)
            if path.suffix == ".md" and path not in reached:
                reached.add(path)
                waiting.append(path)
    assert set(PAGES) <= reached


def test_anchors_are_those_of_github() -> None:
    page = ROOT / "docs" / "format.md"
    assert any(name.startswith("1-") for name in anchors(page)), "§1 … becomes 1-…"

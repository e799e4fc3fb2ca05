"""The source of the site: docs/ with README and the changelog beside it, their links made to fit.

python docs/make_site.py    # writes build/site-source, from which mkdocs makes build/site
"""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site-source"
FRONT = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "urls"
]["Repository"]
SITE = (".md", ".png", ".svg", ".css")
LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s#]+)")


def fitting(text: str, folder: Path) -> str:
    """Return Markdown of a folder with its links as the site has them; code leads to the repository."""

    def link(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        inside = target.relative_to(ROOT)
        if str(inside) in FRONT:
            return match[1] + FRONT[str(inside)]
        if target.parent == ROOT / "docs" and target.suffix in SITE:
            return match[1] + target.name
        return f"{match[1]}{REPOSITORY}/blob/main/{inside}"

    return LINK.sub(link, text)


def main() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for path in (ROOT / "docs").iterdir():
        if path.suffix == ".md":
            text = fitting(path.read_text(encoding="utf-8"), path.parent)
            (SOURCE / path.name).write_text(text, encoding="utf-8")
        elif path.suffix in SITE:
            shutil.copy(path, SOURCE)
    for name, page in FRONT.items():
        text = fitting((ROOT / name).read_text(encoding="utf-8"), ROOT)
        (SOURCE / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

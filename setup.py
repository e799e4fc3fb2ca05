"""The readme of the distribution: README.md, its relative links made links into the repository.

Everything else about the distribution stands in pyproject.toml, the address of the repository too.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def absolute(text: str, repository: str) -> str:
    """Return Markdown whose links and pictures lead into the main branch of a repository."""

    def link(match: re.Match[str]) -> str:
        mark, label, path = match.groups()
        return f"{mark}[{label}]({repository}/{'raw' if mark else 'blob'}/main/{path})"

    return RELATIVE.sub(link, text)


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=absolute(readme, PROJECT["urls"]["Repository"]),
        long_description_content_type="text/markdown",
    )

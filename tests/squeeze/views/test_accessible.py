"""The page for those who do not see it: landmarks, names, keyboard; and what it says of estimates.

axe-core needs a browser; what it found once is held here on the page's own text.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import brotli
import pytest
import torch
from click.testing import CliRunner

from squeeze.cli import cli
from squeeze.ledger.attribute import attribute_paths
from squeeze.views.page import Report, page
from squeeze.views.scores import Score
from squeeze.views.tree import tree
from tests.squeeze.views.test_views import artifact, plan_of

ROOT = Path(__file__).parents[3]
# elements that have a role of their own
NAMED = {"button", "input", "select", "a", "section", "main"}


class Elements(HTMLParser):
    """Every element of a page, by name, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found_elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found_elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "a <model>.sqz"
    path.write_bytes(artifact())
    return path


@pytest.fixture(scope="module")
def text(packed: Path) -> str:
    plan, ledger = plan_of(packed.read_bytes()), attribute_paths([packed])
    return page(
        Report(ledger, 20_000, plan=plan, score=Score(1.25, "a report", ""), paths=[str(packed)])
    )


def facts(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    return data


def test_a_page_has_one_main_landmark_a_title_and_a_link_past_the_pictures(text: str) -> None:
    elements = Elements(text).found_elements
    assert [tag for tag, _ in elements].count("main") == 1
    assert "<title>a &lt;model&gt;.sqz · byte ledger</title>" in text
    assert '<h1 id="title">a &lt;model&gt;.sqz</h1>' in text
    (skip,) = [attributes for tag, attributes in elements if attributes.get("class") == "skip"]
    targets = {attributes.get("id") for _, attributes in elements}
    assert str(skip["href"]).removeprefix("#") in targets


def test_only_elements_with_a_role_have_a_label(text: str) -> None:
    for tag, attributes in Elements(text).found_elements:
        if "aria-label" in attributes:
            assert tag in NAMED or attributes.get("role"), (tag, attributes)
    # what the script labels: buttons, and shapes that it gives a role and that the keyboard reaches
    script = text[text.index("function hover") : text.index("// ---- head")]
    assert script.index("setAttribute('role', 'img')") < script.index("setAttribute('aria-label'")


def test_what_scrolls_is_reached_by_keyboard_and_has_a_name(text: str) -> None:
    scrolling = [a for _, a in Elements(text).found_elements if a.get("class") == "scroll"]
    assert len(scrolling) >= 3
    for attributes in scrolling:
        assert attributes.get("tabindex") == "0" and attributes.get("role") == "region"
        assert attributes.get("aria-label")


def test_columns_say_how_they_are_sorted(text: str) -> None:
    assert "th.setAttribute('aria-sort', 'descending')" in text
    assert "turned > 0 ? 'ascending' : 'descending'" in text


def test_the_page_tells_score_cost_price_making_and_what_comes_next(
    text: str, packed: Path
) -> None:
    data = facts(text)
    names = [name for name, _ in data["facts"]]
    assert names[:4] == ["score", "cost, measured", "cost, foreseen", "packed for"]
    assert {row["role"] for row in data["prices"]} == {"mlp.fc", "attn.q"}
    assert all(row["price"] > 0 for row in data["prices"])
    assert any("--what-if" in line for line in data["next"])


def test_a_difference_has_a_page(packed: Path, tmp_path: Path) -> None:
    golden = str(ROOT / "tests" / "golden" / "v1-default.sqz")
    out = tmp_path / "difference.html"
    result = CliRunner().invoke(cli, ["budget", golden, str(packed), "--html", str(out)])
    assert result.exit_code == 0, result.output
    data = facts(out.read_text(encoding="utf-8"))
    assert sum(change["delta"] for change in data["changes"]) == packed.stat().st_size - 1263
    assert data["total"] == packed.stat().st_size


def test_shares_of_a_compressed_file_are_marked_as_estimates(packed: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"blocks.{i}.mlp.fc.weight": torch.randn(64, 64, generator=generator) for i in (0, 1)
    }
    torch.save(weights, tmp_path / "plain.pt")
    foreign = tmp_path / "model.ptz"
    foreign.write_bytes(brotli.compress((tmp_path / "plain.pt").read_bytes(), quality=1))
    result = CliRunner().invoke(cli, ["budget", str(foreign), "--depth", "3"])
    total, weights_line, *_ = result.output.splitlines()[1:]
    assert "≈" not in total and total.split()[1] == f"{foreign.stat().st_size:,}"
    assert weights_line.split()[1].startswith("≈")
    assert "estimates" in result.output
    own = tree(attribute_paths([packed]))
    roles = [role for child in own.children for role in child.children]
    assert not any(node.estimated for node in (own, *own.children, *roles))

"""Only `metrics/claims.py` may say that something is better: every text that a user can meet is read here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "headstart"
SOURCE = PACKAGE / "metrics" / "claims.py"
CLAIM = re.compile(r"\b(better|improves?|improved|beats?|beaten|outperforms?|outperformed)\b", re.IGNORECASE)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a module but its docstrings and titles of papers, or of every line of a template."""
    if path.suffix == ".jinja":
        yield from enumerate(
            re.sub(r"\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.S).splitlines(), 1
        )
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    cited = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "source"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told | cited:
            yield node.lineno, node.value


@pytest.mark.parametrize(
    "path",
    [path for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.jinja")]) if path != SOURCE],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_other_file_claims_a_difference(path: Path) -> None:
    found = [(line, text.strip()) for line, text in texts(path) if CLAIM.search(text)]
    assert not found, f"say it through headstart.metrics.claims, which asks for a paired interval: {found}"


def test_the_reader_finds_claims(tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text(
        '"""Better docs are fine."""\nTOLD = f"{1} beats it"\nNAME = "betterment"\n', encoding="utf-8"
    )
    assert [line for line, text in texts(module) if CLAIM.search(text)] == [2]
    template = tmp_path / "a.html.jinja"
    template.write_text("{# better #}\n<p>it improves</p>\n", encoding="utf-8")
    assert [line for line, text in texts(template) if CLAIM.search(text)] == [2]

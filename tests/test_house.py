"""The house's own rules: layers, sizes, and what importing may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "headstart"

ROWS = [
    {"_core"},
    {"data", "metrics", "scores"},
    {"pixels", "weights"},
    {"tasks"},
    {"compute"},
    {"methods", "predict", "features", "heads", "similarity"},
    {"ranking"},
    {"evidence"},
    {"planning", "evaluation", "explanation", "auditing"},
    {"adaptation"},
    {"training", "pretraining"},
    {"ladder", "export", "distillation"},
    {"reporting", "serving"},
    {"runs"},
    {"learner", "studies"},
    {"cli"},
    {"__main__"},
]
"""Lowest first; docs/design.md draws them. A module imports from lower rows and from its own package."""

MODULES = sorted(PACKAGE.rglob("*.py"))
BENCH = sorted((ROOT / "bench").glob("*.py"))


def row_of(place: str) -> int:
    return next(number for number, row in enumerate(ROWS) if place in row)


def place_of(module: str) -> str:
    """`data` for `headstart.data.records`; empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of this package, dotted paths of tables included, but for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.startswith("headstart.")
            )
        elif isinstance(node, ast.ImportFrom) and node.module == "headstart":
            yield from (
                (node.lineno, f"headstart.{alias.name}")
                for alias in node.names
                if not alias.name.startswith("__")
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headstart."):
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"headstart\.[\w.]+:\w+", str(node.value)):
            yield node.lineno, str(node.value).partition(":")[0]


def test_every_place_has_a_row() -> None:
    places = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    unknown = places - set().union(*ROWS)
    assert not unknown, f"give these a row in tests/test_house.py and docs/design.md: {unknown}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":  # the package's own front door names what it offers, lazily
        return
    for line, module in imports_of(path):
        there = place_of(module)
        allowed = there == here or row_of(there) < row_of(here)
        assert allowed, f"{path.relative_to(ROOT)}:{line} imports {module}, which is not below it"


@pytest.mark.parametrize("path", [*MODULES, *BENCH], ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 500, "split this file"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.name}:{node.lineno} {node.name} has {length} lines"


def test_bottom_rows_and_help_import_no_torch() -> None:
    modules = [f"headstart.{place}" for row in ROWS[:2] for place in row if (PACKAGE / place).exists()]
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}];"
        "import headstart.cli.app as app; app.build(['--help']);"
        "heavy = {'torch', 'timm', 'torchvision', 'sklearn', 'pyarrow.parquet'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_changes_nothing() -> None:
    code = (
        "import os, sys, signal, logging, random;"
        "before = (dict(os.environ), list(sys.path), signal.getsignal(signal.SIGINT),"
        " logging.getLogger().handlers[:], random.getstate()); import headstart, headstart.runs.fit, headstart.learner;"
        "after = (dict(os.environ), list(sys.path), signal.getsignal(signal.SIGINT), logging.getLogger().handlers[:],"
        " random.getstate()); changed = {k: v for k, v in after[0].items() if before[0].get(k) != v};"
        "assert not {k for k in changed if 'HEADSTART' in k}, changed; assert before[1:] == after[1:]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Fixtures shared by all tests: where the real data is, and a cache folder of its own for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real datasets; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("HEADSTART_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_absolute():
        folder = ROOT / folder
    if not folder.is_dir():
        pytest.skip(f"needs the real datasets: set HEADSTART_TEST_DATA (looked in {folder})")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

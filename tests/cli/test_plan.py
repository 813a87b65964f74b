"""What `headstart plan` prints, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.bad_input import call, fruit

WORDS = ["plan", "fruit", "--weights", "random:test_resnet", "--budget", "60s"]


def test_plan_in_words_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One measuring for both: the second comes out of the cache."""
    monkeypatch.chdir(tmp_path)
    fruit(each=20)
    assert call(WORDS) == 0
    told = capfd.readouterr().out
    for words in (
        "How unlike are they to the pictures that the network learnt from?",
        "How much of the answer can be read off at each depth",
        "the last layer",
        "The textbook, for this many images (small",
        "Measured: a simple classifier on the last layer is right on",
        "Therefore: ",
        "headstart fit fruit --plan plan.json",
    ):
        assert words in told, words
    assert "BatchNorm" not in told.split("The decision")[0]
    assert call([*WORDS, "--json"]) == 0
    plain = json.loads(capfd.readouterr().out)
    assert {probe["name"] for probe in plain["evidence"]["depths"]} >= {"stem", "output"}
    assert plain["rungs"][0]["expected"]["because"]
    assert not (tmp_path / "headstart-runs").exists()


def test_one_method_is_planned_without_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fruit(each=8)
    assert call([*WORDS, "--method", "linear-probe", "--json"]) == 0
    plain = json.loads(capfd.readouterr().out)
    assert plain["evidence"] is None
    assert [rung["method"] for rung in plain["rungs"]] == ["linear-probe"]
    assert call([*WORDS, "--prefer", "beauty"]) == 2
    assert "--prefer does not know 'beauty'" in capfd.readouterr().err

"""A contract for every row of `STUDIES`."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from headstart.methods import METHODS
from headstart.reporting.charts import Line, line_chart
from headstart.studies import STUDIES

ROWS = list(STUDIES.values())


@pytest.mark.parametrize("study", ROWS, ids=lambda study: study.name)
def test_a_study_is_whole(study) -> None:
    assert STUDIES[study.name] is study
    assert len(study.arms) >= 2
    assert len({arm.name for arm in study.arms}) == len(study.arms)
    assert study.question.endswith("?")
    assert re.search(r"\d", study.known), "what was known has figures"
    assert re.search(r"\b(19|20)\d\d\b", study.source), "a paper has a year"
    told = study.finding((), (), "accuracy")
    assert told.endswith(".")


@pytest.mark.parametrize("study", ROWS, ids=lambda study: study.name)
def test_the_arms_of_a_study_can_be_trained(study) -> None:
    tasks = [set(METHODS[arm.method].tasks) for arm in study.arms]
    assert set.intersection(*tasks)
    for arm in study.arms:
        assert re.fullmatch(r"[a-z0-9]+", arm.name), "it names folders"
        assert METHODS[arm.method].solver == "gradient", "a study follows epochs"
        known = {field.name for field in fields(METHODS[arm.method].params)}
        assert set(arm.given) <= known
        taken = {"epochs", "batch_size", "augment", "flip", "patience", "learning_rate"}
        assert not set(arm.given) & taken, "these are the study's own"
        assert f"stroke {arm.tone}" in line_chart(
            [Line(name="a", points=((0, 0), (1, 1)), tone=arm.tone)], x="x", y="y"
        )

"""The one sentence of a study says what its cells say, and no more."""

from __future__ import annotations

from headstart.studies import STUDIES
from tests.studies.made import cell, reach, result

FINDING = STUDIES["scratch"].finding


def say(values: list[tuple[float, float]]) -> str:
    cells = tuple(cell(1.0, place + 1, each) for place, each in enumerate(values))
    return FINDING(cells, (reach(cells),), "image_miou").replace("\u00a0", " ").replace("\u2212", "-")


def test_a_level_that_is_reached_lies_between_two_schedules() -> None:
    told = say([(0.6, 0.4), (0.65, 0.55), (0.66, 0.61)])
    assert told == (
        "By mean IoU of each image on the test images, with 164 training images random weights reach the pretrained arm's "
        "1x (60.0 %) between 2x and 3x (+1.0 points at 3x, 95 %: -2.0 to +4.0, no difference shown)."
    )


def test_a_level_that_is_not_reached() -> None:
    assert (
        "do not reach the pretrained arm's 1x (60.0 %) by 2x (-10.0 points there, 95 %: -13.0 to -7.0, worse)"
        in say([(0.6, 0.4), (0.65, 0.5)])
    )


def test_a_level_that_is_there_from_the_start() -> None:
    assert "already at 1x (+5.0 points at 1x, 95 %: +2.0 to +8.0, better)" in say([(0.6, 0.65)])


def test_all_sizes_are_in_one_sentence() -> None:
    told = result().finding
    assert told.count(";") == 1
    assert told.count(" by 3x") == 1
    assert told.count(" between 2x and 3x") == 1
    assert "with 82 training images" in told


def test_a_metric_keeps_its_name() -> None:
    cells = (cell(1.0, 1, (0.6, 0.4)),)
    assert FINDING(cells, (reach(cells),), "image_ap").startswith("By AP of each image on")


def test_nothing_complete_is_no_finding() -> None:
    assert "no finding" in FINDING((), (), "accuracy")
    assert "no finding" in FINDING((cell(1.0, 2, (0.6, 0.5)),), (), "accuracy")

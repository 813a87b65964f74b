"""What a study is going to train: the grid, the parts of the data, times and the budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart.data.records import Sample
from headstart.studies import STUDIES, StudyOptions
from headstart.studies.grid import (
    FEWEST,
    Slot,
    Work,
    beyond,
    check_parts,
    fitting,
    part_of,
    plan_lines,
    reach,
    read_grid,
    slots,
    total,
)
from headstart.studies.records import Speed

ARMS = STUDIES["scratch"].arms


def samples(count: int, classes: int = 3) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            name=f"{n}.png", source=Path(f"{n}.png"), digest=f"{n * 7919 % 1009:04d}", labels=(n % classes,)
        )
        for n in range(count)
    )


def work(images: int = 100) -> Work:
    return Work(
        images={0.5: images // 2, 1.0: images},
        val=10,
        test=20,
        speed=Speed(train={"pretrained": 0.1, "scratch": 0.2}, forward=0.05),
    )


def test_lists_are_sorted_and_without_doubles() -> None:
    grid = read_grid(StudyOptions(fractions="1, 0.25,1", schedules="3,1", rates="3,0.3", seeds="2,0"))
    assert grid.fractions == (0.25, 1.0)
    assert grid.schedules == (1, 3)
    assert grid.rates == (0.3, 3.0)
    assert grid.seeds == (2, 0)  # the first one searches: its place means something


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fractions": "0.5,1.5"}, "--fractions holds 1.5"),
        ({"fractions": "0"}, "--fractions holds 0"),
        ({"fractions": "half"}, "'half', which is no number"),
        ({"fractions": "nan"}, "--fractions holds nan"),
        ({"schedules": "1,1.5"}, "--schedules holds '1.5'"),
        ({"schedules": "0"}, "--schedules holds '0'"),
        ({"rates": "-1"}, "--rates holds -1"),
        ({"seeds": ""}, "--seeds holds ''"),
        ({"search": "all"}, "--search does not know 'all'"),
    ],
)
def test_a_bad_list_is_told(given: dict[str, str], says: str) -> None:
    with pytest.raises(BadOption, match=says) as told:
        read_grid(StudyOptions(**given))  # type: ignore[arg-type]
    assert told.value.hint


def test_every_cell_has_every_arm_and_a_search_stands_before_what_rests_on_it() -> None:
    found = slots(read_grid(StudyOptions(seeds="0,1")), ARMS)
    assert len(found) == len(set(found)) == 2 * (2 * (3 + 1) + 2 * 2 * 2)
    for fraction in (0.5, 1.0):
        for arm in ("pretrained", "scratch"):
            own = [slot for slot in found if (slot.fraction, slot.arm) == (fraction, arm)]
            assert [slot.factor for slot in own[:3]] == [0.3, 1.0, 3.0]
            assert {slot.factor for slot in own[3:]} == {None}
    every = slots(read_grid(StudyOptions(search="every")), ARMS)
    assert len(every) == 2 * 3 * 2 * 3
    assert None not in {slot.factor for slot in every}


def test_parts_are_nested_stratified_and_blind_to_the_order() -> None:
    everything = samples(90)
    small, large = part_of(everything, 0.2, seed=0), part_of(everything, 0.5, seed=0)
    assert len(small) == 18
    assert set(small) < set(large)
    assert Counter(sample.labels[0] for sample in small) == {0: 6, 1: 6, 2: 6}
    assert part_of(everything, 1.0, seed=0) == everything
    assert set(part_of(everything[::-1], 0.2, seed=0)) == set(small)
    assert set(part_of(everything, 0.2, seed=1)) != set(small)


def test_a_search_goes_on_beyond_the_end_where_the_best_lies() -> None:
    grid = read_grid(StudyOptions(rates="0.3,1,3", widen=2))
    assert reach(grid) == (0.027, 0.09, 0.3, 1.0, 3.0, 9.0, 27.0)
    assert beyond(grid, grid.rates, 1.0) is None  # inside: the search is over
    assert beyond(grid, grid.rates, 0.3) == 0.09
    assert beyond(grid, (0.09, *grid.rates), 0.09) == 0.027
    assert beyond(grid, (0.09, *grid.rates), 0.3) is None
    assert beyond(grid, (0.027, 0.09, *grid.rates), 0.027) is None  # no farther than it may
    assert beyond(grid, grid.rates, 3.0) == 9.0
    assert beyond(replace(grid, widen=0), grid.rates, 3.0) is None
    alone = read_grid(StudyOptions(rates="1", widen=2))
    assert (reach(alone), beyond(alone, (1.0,), 1.0)) == ((1.0,), None)


def test_what_a_search_may_come_to_is_planned_for() -> None:
    grid = read_grid(StudyOptions(widen=2))
    usual, longest = slots(grid, ARMS), slots(grid, ARMS, longest=True)
    assert (len(usual), len(longest)) == (20, 20 + 2 * 2 * 2)  # fractions x arms x steps
    lines = plan_lines(grid, ARMS, work(), epochs=4, done=lambda _: False)
    assert "up to 8 more with other rates" in lines[-1]
    with pytest.raises(BadOption, match="--widen is 7"):
        read_grid(StudyOptions(widen=7))


def test_too_small_a_part_is_refused() -> None:
    grid = read_grid(StudyOptions(fractions="0.1,1"))
    with pytest.raises(BadInput, match=r"0\.1 of 90 training images is 9") as told:
        check_parts(grid, samples(90), ("a", "b", "c"), whole=True)
    assert "--fractions from 0.18 on" in told.value.hint
    with pytest.raises(BadInput, match="none of the class 'd'"):
        check_parts(grid, samples(300), ("a", "b", "c", "d"), whole=True)
    check_parts(grid, samples(300), ("a", "b", "c", "d"), whole=False)
    with pytest.raises(BadInput, match="too few") as told:
        check_parts(grid, samples(FEWEST - 1), ("a", "b", "c"), whole=True)
    assert "Add images" in told.value.hint


def test_expected_seconds_by_hand() -> None:
    slot = Slot("scratch", 0.5, 2, None, 0)
    # 2 x 3 epochs of 50 images at 0.2 s, seven passes over 10 validation images and one over 20 test images at 0.05 s, 2 s
    assert work().seconds(slot, 3) == pytest.approx(6 * 50 * 0.2 + 0.05 * (7 * 10 + 20) + 2)
    few = replace(work(), looks=4)  # at the validation images, and once more at the end
    assert few.seconds(slot, 3) == pytest.approx(6 * 50 * 0.2 + 0.05 * (5 * 10 + 20) + 2)


def test_the_budget_shortens_all_schedules_alike_or_refuses() -> None:
    found = slots(read_grid(StudyOptions()), ARMS)
    assert fitting(found, work(), wished=12, budget=None) == 12
    seconds = total(found, work(), 5) / 0.9
    assert fitting(found, work(), wished=12, budget=seconds + 1) == 5
    assert fitting(found, work(), wished=4, budget=seconds + 1) == 4
    needed = total(found, work(), 2) / 0.9
    with pytest.raises(
        BadPlan, match=r"--budget 30.0 s is too little: 20 trainings with 1x at 2 epochs"
    ) as told:
        fitting(found, work(), wished=12, budget=30.0)
    assert f"--budget {int(needed // 60) + 1}m" in told.value.hint


def test_the_plan_says_what_is_done() -> None:
    grid = read_grid(StudyOptions())
    lines = plan_lines(grid, ARMS, work(), epochs=4, done=lambda slot: slot.fraction < 1)
    assert lines[0].startswith("20 trainings, 10 of them done; about ")
    assert len(lines) == 2 + 6
    assert [line.rstrip().endswith("done") for line in lines[2:]] == [True] * 3 + [False] * 3
    assert "100 (100%)" in lines[5]
    assert "1x, 4 epochs" in lines[5]
    assert "2 x 3" in lines[5]
    assert "2 x 1" in lines[6]

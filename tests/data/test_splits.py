"""Properties of the splits that are made."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart._core.errors import BadInput, BadOption
from headstart.data.records import LoadOptions, Sample
from headstart.data.splits import Splits, make_splits

OPTIONS = LoadOptions()


def make(number: int, labels: tuple[int, ...], split: str = "", group: str = "", digest: str = "") -> Sample:
    name = f"{number:05}.jpg"
    return Sample(
        name=name, source=Path(name), labels=labels, split=split, group=group, digest=digest or f"d{number}"
    )


def simple(*counts: int, split: str = "") -> list[Sample]:
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    return [make(number, (label,), split) for number, label in enumerate(labels)]


def names(n: int) -> list[str]:
    return [f"class{i}" for i in range(n)]


def per_class(splits: Splits) -> dict[str, Counter[int]]:
    out: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for sample in splits.samples:
        out[sample.split].update(sample.labels)
    return out


def where(splits: Splits) -> dict[str, str]:
    return {sample.name: sample.split for sample in splits.samples}


def test_counts_worked_by_hand() -> None:
    splits = make_splits(simple(50, 20, 3), classes=names(3), options=OPTIONS, task="classify")
    # test: 10, 4, 1 (at least one); val, of what is left (40, 16, 2): 8, 3 (16 * 0.2 = 3.2), 1
    assert per_class(splits) == {
        "test": Counter({0: 10, 1: 4, 2: 1}),
        "val": Counter({0: 8, 1: 3, 2: 1}),
        "train": Counter({0: 32, 1: 13, 2: 1}),
    }
    assert splits.made == ("test", "val")
    assert "15 of 73" in splits.notes[0]


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.05, 0.5),
    order=st.randoms(use_true_random=False),
)
def test_single_label_properties(counts: list[int], seed: int, fraction: float, order: object) -> None:
    samples = simple(*counts)
    options = LoadOptions(seed=seed, test_fraction=fraction, val_fraction=fraction)
    splits = make_splits(samples, classes=names(len(counts)), options=options, task="classify")
    assert [sample.name for sample in splits.samples] == [sample.name for sample in samples]
    found = per_class(splits)
    for label, n in enumerate(counts):
        test = min(max(1, round(fraction * n)), n - 2)
        assert found["test"][label] == test
        assert found["val"][label] == min(max(1, round(fraction * (n - test))), n - test - 1)
        assert found["train"][label] >= 1
    order.shuffle(samples)  # type: ignore[attr-defined]
    again = make_splits(samples, classes=names(len(counts)), options=options, task="classify")
    assert where(again) == where(splits)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), n_groups=st.integers(18, 60), mixed=st.booleans())
def test_groups_are_never_torn(seed: int, n_groups: int, mixed: bool) -> None:
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for group in range(n_groups):
        for _ in range(rng.integers(1, 12)):
            label = int(rng.integers(2)) if mixed and group > 1 else group % 2
            digest = f"shared{group // 3}" if group % 3 < 2 else ""  # ties every first and second of three
            samples.append(make(len(samples), (label,), group=f"g{group}", digest=digest))
    splits = make_splits(samples, classes=names(2), options=LoadOptions(seed=seed), task="classify")
    for key in ("group", "digest"):
        seen = defaultdict(set)
        for sample in splits.samples:
            seen[getattr(sample, key)].add(sample.split)
        assert all(len(found) == 1 for found in seen.values())
    assert {sample.split for sample in splits.samples} == {"train", "val", "test"}
    assert set(per_class(splits)["train"]) == {0, 1}
    shuffled = [samples[i] for i in rng.permutation(len(samples))]
    again = make_splits(shuffled, classes=names(2), options=LoadOptions(seed=seed), task="classify")
    assert where(again) == where(splits)


@pytest.mark.parametrize("seed", range(5))
def test_many_groups_are_nearly_stratified(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for group in range(60):
        taste = rng.beta(1, 1)  # groups have classes of their own: random groups would be off
        for _ in range(rng.integers(2, 30)):
            samples.append(make(len(samples), (int(rng.random() < taste),), group=str(group)))
    splits = make_splits(samples, classes=names(2), options=LoadOptions(seed=seed), task="classify")
    found = per_class(splits)
    total = per_class(make_splits(samples, classes=names(2), options=OPTIONS, task="classify"))
    whole = sum(total.values(), Counter())
    for label in (0, 1):
        assert found["test"][label] / whole[label] == pytest.approx(0.2, abs=0.02)
        assert found["val"][label] / whole[label] == pytest.approx(0.16, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_multilabel_shares_are_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = np.array([0.5, 0.2, 0.05, 0.03])
    matrix = rng.random((400, 4)) < rates
    matrix[:3] = True  # no class is too rare
    samples = [make(i, tuple(np.flatnonzero(row).tolist())) for i, row in enumerate(matrix)]
    splits = make_splits(samples, classes=names(4), options=LoadOptions(seed=seed), task="multilabel")
    found = per_class(splits)
    for label, n in enumerate(matrix.sum(axis=0)):
        assert found["test"][label] == pytest.approx(0.2 * n, abs=max(2.0, 0.03 * n))
        assert found["val"][label] == pytest.approx(0.16 * n, abs=max(2.5, 0.03 * n))
        assert min(found[split][label] for split in ("train", "val", "test")) >= 1
    sizes = Counter(sample.split for sample in splits.samples)
    assert sizes["test"] == pytest.approx(80, abs=6)
    assert sizes["val"] == pytest.approx(64, abs=6)
    shuffled = [samples[i] for i in rng.permutation(len(samples))]
    again = make_splits(shuffled, classes=names(4), options=LoadOptions(seed=seed), task="multilabel")
    assert where(again) == where(splits)


def test_the_seed_and_only_the_seed_changes_the_draw() -> None:
    samples = simple(40, 40)
    first, second = (
        where(make_splits(samples, classes=names(2), options=LoadOptions(seed=seed), task="classify"))
        for seed in (0, 1)
    )
    assert first != second


def test_the_same_pictures_under_other_names_are_split_alike() -> None:
    samples = simple(20, 20)
    renamed = [
        Sample(name=f"elsewhere/{90 - i}", source=s.source, labels=s.labels, digest=s.digest)
        for i, s in enumerate(samples)
    ]
    first, second = (
        make_splits(s, classes=names(2), options=OPTIONS, task="classify") for s in (samples, renamed)
    )
    assert [s.split for s in first.samples] == [s.split for s in second.samples]


def test_what_is_given_stays() -> None:
    samples = simple(20, 20, split="train") + [make(100 + i, (i % 2,), "val") for i in range(6)]
    splits = make_splits(samples, classes=names(2), options=OPTIONS, task="classify")
    assert splits.made == ("test",)
    assert all(sample.split == "val" for sample in splits.samples[40:])
    assert Counter(sample.split for sample in splits.samples[:40]) == {"train": 32, "test": 8}
    both = [*samples, make(200, (0,), "test")]
    splits = make_splits(both, classes=names(2), options=OPTIONS, task="classify")
    assert splits.made == ()
    assert splits.samples == tuple(both)
    assert any("'class1'" in note and "test" in note for note in splits.notes)


def test_no_test_in_memory() -> None:
    splits = make_splits(simple(5, 5), classes=names(2), options=OPTIONS, task="classify", make_test=False)
    assert splits.made == ("val",)
    assert Counter(sample.split for sample in splits.samples) == {"train": 8, "val": 2}


def test_identical_files_stay_together() -> None:
    samples = simple(30, 30)
    copies = [make(100 + i, s.labels, digest=s.digest) for i, s in enumerate(samples[::2])]
    splits = make_splits([*samples, *copies], classes=names(2), options=OPTIONS, task="classify")
    seen = defaultdict(set)
    for sample in splits.samples:
        seen[sample.digest].add(sample.split)
    assert all(len(found) == 1 for found in seen.values())


def test_a_class_of_one_group_stays_in_train_and_is_noted() -> None:
    samples = [make(i, (0,), group=f"g{i % 9}") for i in range(60)]
    samples += [make(100 + i, (1,), group="only") for i in range(10)]
    splits = make_splits(samples, classes=names(2), options=OPTIONS, task="classify")
    assert {sample.split for sample in splits.samples[60:]} == {"train"}
    assert sum("'class1'" in note for note in splits.notes) == 2


@pytest.mark.parametrize(
    ("samples", "classes", "task", "words"),
    [
        ([], 2, "classify", ["no readable image"]),
        (simple(9), 1, "classify", ["only one class", "'class0'"]),
        (simple(9, 2), 2, "classify", ["takes 3 of each class", "'class1' (2)"]),
        ([make(i, (i % 2,), "" if i < 3 else "val") for i in range(9)], 2, "classify", ["takes 2", "'class1' (1)"]),
        ([make(0, (0,)), make(1, (1,), "test")], 2, "classify", ["No training image", "'class1' (in test)"]),
        ([make(i, (i,), "val") for i in range(2)], 2, "classify", ["No training image"]),
        (simple(9, 9), 3, "classify", ["No readable image", "'class2'"]),
        ([make(i, (i % 2,), group=f"g{i % 2}") for i in range(20)], 2, "classify", ["Too few groups", "are 2"]),
        ([make(i, (i // 9,), group=f"g{i // 9}") for i in range(27)], 3, "classify", ["No test split"]),
        ([make(i, (i % 2,), "train" if i < 9 else "val", "g") for i in range(20)], 2, "classify", ["Group 'g'"]),
        ([make(i, (i % 2,), "holdout") for i in range(20)], 2, "classify", ["'holdout'"]),
        ([make(i, (i % 2,), digest=f"same{i % 2}") for i in range(20)], 2, "classify", ["different", "(1)"]),
        ([make(i, (0, 1) if i < 2 else (0,)) for i in range(20)], 2, "multilabel", ["'class1' (2)"]),
    ],
)  # fmt: skip
def test_bad_inputs_are_named(samples: list[Sample], classes: int, task: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        make_splits(samples, classes=names(classes), options=OPTIONS, task=task)
    assert caught.value.hint
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.6, float("nan")])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(BadOption, match="val-fraction"):
        make_splits(
            simple(9, 9), classes=names(2), options=LoadOptions(val_fraction=fraction), task="classify"
        )


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(8, 30), n_classes=st.integers(2, 8))
def test_rare_labels_that_come_together_stay_learnable(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((n, n_classes)) < 0.15
    for label in range(n_classes):
        matrix[rng.choice(n, 3, replace=False), label] = True
    samples = [make(i, tuple(np.flatnonzero(row).tolist())) for i, row in enumerate(matrix)]
    options = LoadOptions(seed=seed, test_fraction=0.4, val_fraction=0.4)
    splits = make_splits(samples, classes=names(n_classes), options=options, task="multilabel")
    found = per_class(splits)
    assert set(found["train"]) == set(range(n_classes))
    # a class may miss from a split only where each of its images carries a class that has none to spare
    for split, spare, needed in (
        ("test", found["train"] + found["val"], 2),
        ("val", found["train"], 1),
    ):
        for label in set(range(n_classes)) - set(found[split]):
            for sample in splits.samples:
                if label in sample.labels and sample.split in ("train", "val"):
                    assert min(spare[other] for other in sample.labels) <= needed

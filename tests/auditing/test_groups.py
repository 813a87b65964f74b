"""Images that belong together: by names, by the moment and by the place that cameras write into their files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import data
from headstart._core.errors import BadInput
from headstart.auditing.groups import burst_groups, name_groups, place_groups, propose
from headstart.auditing.looks import SIDE, Looks, look_at
from headstart.auditing.neighbours import unit
from headstart.data.records import LoadOptions, Sample
from headstart.runs.audit import audit_data, write_groups
from tests.auditing.pictures import COPIES, saved, scene
from tests.cli.bad_input import call

RNG = np.random.default_rng
NOTHING = np.zeros((1, 1), np.uint8)
METRE = 1 / 111_195  # degrees of latitude


def seen(count: int, **told: np.ndarray) -> Looks:
    """Looks of black files that tell what is given and nothing else."""
    zeros = np.zeros(count)
    silent = {"time": np.full(count, np.nan), "camera": zeros, "place": np.full((count, 2), np.nan)} | told
    return Looks(
        thumbs=np.zeros((count, SIDE, SIDE), np.uint8),
        bytes=zeros,
        format=zeros,
        quality=zeros,
        exif=zeros,
        border=np.zeros((count, 3)),
        **silent,
    )


def patients(count: int, each: int, *, closeness: float) -> tuple[list[Sample], np.ndarray, np.ndarray]:
    """Images named by patient, whose features lie around the patient's own centre."""
    rng = RNG(0)
    centres = rng.standard_normal((count, 16))
    rows = np.repeat(centres, each, axis=0) * closeness + rng.standard_normal((count * each, 16))
    labels = np.repeat(np.arange(count) % 2, each)
    splits = ("train", "test")
    samples = [
        Sample(
            name=f"d/{'ab'[label]}/p{number // each}_{number % each:03}.png",
            source=NOTHING,
            split=splits[number % 2],
        )
        for number, label in enumerate(labels)
    ]
    return samples, unit(rows), labels


def test_groups_are_proposed_where_the_pictures_confirm_them() -> None:
    samples, rows, labels = patients(12, 5, closeness=2.0)
    found = propose(samples, rows, labels, seen(60))[0]
    assert (found.rule, found.groups, found.images, found.largest, found.torn) == ("prefix", 12, 60, 5, 12)
    assert found.alike > 0.9
    assert found.low < found.alike < found.high
    assert "file names" in found.evidence


def test_names_alone_are_not_believed() -> None:
    samples, rows, labels = patients(12, 5, closeness=0.0)
    assert propose(samples, rows, labels, seen(60)) == ()


def test_a_prefix_that_repeats_the_class_is_no_group() -> None:
    rng = RNG(0)
    labels = np.repeat(np.arange(4), 20)
    rows = unit(np.eye(4)[labels] * 5 + rng.standard_normal((80, 4)))
    samples = [
        Sample(name=f"x/{'abcd'[label]}{number}.png", source=NOTHING) for number, label in enumerate(labels)
    ]
    assert propose(samples, rows, labels, seen(80)) == ()


def named(*names: str) -> list[Sample]:
    return [Sample(name=name, source=NOTHING) for name in names]


def test_groups_of_names() -> None:
    assert name_groups(named("a/x_1.png", "a/x_2.png", "b/y_1.png", "a/z.png"), "prefix").tolist() == [
        0,
        0,
        1,
        2,
    ]


def test_a_burst_is_of_one_camera_in_any_folder() -> None:
    samples = named("train/a/1.jpg", "test/a/2.jpg", "train/b/3.jpg", "train/b/4.jpg", "train/b/5.jpg")
    times = np.array([100.0, 109.0, 101.0, 118.0, 130.0])
    cameras = np.array([7.0, 7.0, 8.0, 7.0, 7.0])
    groups = burst_groups(samples, times, cameras)
    assert groups[0] == groups[1] == groups[3]  # each within ten seconds of the one before
    assert len({groups[0], groups[2], groups[4]}) == 3  # another camera; twelve seconds later


def test_without_a_camera_a_burst_stays_in_its_folder() -> None:
    samples = named("a/x.png", "a/y.png", "b/z.png", "a/w.png")
    groups = burst_groups(samples, np.array([100.0, 109.0, 101.0, 130.0]), np.zeros(4))
    assert groups[0] == groups[1]
    assert len({groups[0], groups[2], groups[3]}) == 3
    unknown = burst_groups(samples, np.full(4, np.nan), np.ones(4))
    assert len(set(unknown.tolist())) == 4


@pytest.mark.parametrize("latitude", [0.0, 52.5, -78.0])
def test_places_against_every_distance(latitude: float) -> None:
    """Who is nearer than 25 metres is together; who is together is joined by steps shorter than 87 metres."""
    rng = RNG(1)
    metres = rng.uniform(0, 1500, (300, 2))
    degrees = metres * METRE / [1, np.cos(np.radians(latitude))] + [latitude, 13.4]
    places = np.concatenate([degrees, np.full((2, 2), np.nan)])
    groups = place_groups(places)
    assert len(set(groups[-2:].tolist()) - set(groups[:-2].tolist())) == 2
    apart = np.linalg.norm(metres[:, None] - metres[None], axis=2)
    together = groups[:300, None] == groups[None, :300]
    assert together[apart < 24.9].all()
    near = apart < 87
    for _ in range(9):  # steps doubled nine times: every chain of 300
        near = (near.astype(np.float32) @ near.astype(np.float32)) > 0
    assert near[together].all()
    assert len(set(groups.tolist())) > 20


def photo(
    image: Image.Image, *, when: str = "", serial: str = "", at: tuple[float, float] | None = None
) -> bytes:
    """A JPEG file as a camera writes it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    if when:
        settings = exif.get_ifd(0x8769)
        settings[0x9003], settings[0x9291] = when, "50"
        settings[0xA431] = serial
    if at is not None:
        place = exif.get_ifd(0x8825)
        for tag, (letters, angle) in zip((1, 3), (("NS", at[0]), ("EW", at[1])), strict=True):
            whole, rest = divmod(abs(angle) * 60, 60)
            place[tag], place[tag + 1] = letters[angle < 0], (whole, rest, 0.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def test_what_cameras_write(tmp_path: Path) -> None:
    image = scene(0, size=64)
    pictures = {
        "a.jpg": photo(image, when="2024:05:01 12:00:03", serial="A1", at=(52.5, -13.25)),
        "b.jpg": photo(image.rotate(90), when="2024:05:01 12:00:05", serial="A1", at=(-33.9, 151.2)),
        "c.jpg": photo(image.rotate(180), when="0000:00:00 00:00:00", serial="B2", at=(0.0, 0.0)),
        "d.jpg": photo(scene(1, size=64), when="2024:05:01 12:00:03", serial="A1").replace(b"Exif", b"Fixe"),
    }
    looks = look_at(saved(tmp_path, pictures))
    assert looks.time[1] - looks.time[0] == pytest.approx(2, abs=0.01)
    assert looks.time[0] % 1 == pytest.approx(0.5, abs=0.01)
    assert np.isnan(looks.time[2:]).all()
    assert looks.camera[0] == looks.camera[1] > 0
    assert looks.camera[2] not in (0, looks.camera[0])
    assert looks.camera[3] == 0
    np.testing.assert_allclose(looks.place[:2], [(52.5, -13.25), (-33.9, 151.2)], atol=1e-4)
    assert np.isnan(looks.place[2:]).all()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen bursts of four pictures each, two of every burst in `train` and two in `test`; names tell nothing."""
    root = tmp_path_factory.mktemp("album")
    rng = RNG(0)
    numbers = rng.permutation(56)
    for burst in range(14):
        for shot, kind in enumerate(("same", "crop", "bright", "half")):
            split, label = ("train", "test")[shot % 2], "ab"[burst % 2]
            place = root / split / label / f"{numbers[4 * burst + shot]}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            when = f"2024:05:01 10:{10 + burst}:{10 + 3 * shot}"
            place.write_bytes(photo(COPIES[kind](scene(burst)), when=when, serial="S", at=(40 + burst, 9.0)))
    return root


def test_a_burst_torn_by_the_split_is_told_and_exported(album: Path, tmp_path: Path) -> None:
    found = audit_data(str(album), LoadOptions(), quick=True).audit
    assert {each.rule for each in found.groups} == {"burst", "place"}
    burst = next(each for each in found.groups if each.rule == "burst")
    assert (burst.groups, burst.images, burst.largest, burst.torn) == (14, 56, 4, 14)
    assert "DateTimeOriginal" in burst.evidence
    assert "56 of 56" in burst.evidence
    assert all(len(names) == 4 for names in burst.members)
    place = next(each for each in found.groups if each.rule == "place")
    assert "GPS" in place.evidence
    file = tmp_path / "groups.csv"
    assert write_groups(file, found) == 56
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    # the pictures of the album as one folder: the split that is made keeps every burst whole
    loose = tmp_path / "loose"
    for row in rows:
        copy = loose / Path(row["path"]).parent.name / Path(row["path"]).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(row["path"]).read_bytes())
        row["path"] = str(copy)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("path", "group"))
        writer.writeheader()
        writer.writerows(rows)
    dataset = data.load(str(loose), LoadOptions(labels=str(file)))
    splits: dict[str, set[str]] = {}
    for sample in (*dataset.samples, *dataset.test.open()):
        splits.setdefault(sample.group, set()).add(sample.split)
    assert len(splits) == 14
    assert all(len(each) == 1 for each in splits.values())


def test_the_command_tells_the_evidence(
    album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "groups.csv"
    assert call(["audit", str(album), "--quick", "--export-groups", str(file)]) == 0
    told = capsys.readouterr().out
    assert "evidence: EXIF: DateTimeOriginal within 10 seconds" in told
    assert "14 of the groups lie in more than one split" in told
    assert f"--labels {file}" in told
    assert len(file.read_text(encoding="utf-8").splitlines()) == 57


def test_no_groups_no_file(tmp_path: Path) -> None:
    for number in range(12):
        place = tmp_path / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        scene(number, size=40).save(place)
    found = audit_data(str(tmp_path), LoadOptions(), quick=True).audit
    with pytest.raises(BadInput, match="No group column"):
        write_groups(tmp_path / "groups.csv", found)

"""The image sets of `bench/regret.py`: each a list of training and of test images, read where they are or written once."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart._core.seed import generator

Labelled = list[tuple[Path, str]]
Pixels = NDArray[np.uint8]
Written = Iterator[tuple[str, str, Image.Image]]
"""(split, class, picture) of everything that a made set consists of."""

TEST = 1000
"""Test images of a set, at most: every network passes over all of them."""

_MADE = 1200  # training images of a set that is made, at most
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Where:
    """Where images come from and go to; a set whose source is None or absent is left out.

    Attributes:
        data: folder with the public sets, each in a folder of its own.
        fashion: folder with the four IDX files of Fashion-MNIST.
        work: where made sets are written, once.
    """

    data: Path | None
    fashion: Path | None
    work: Path


@dataclass(frozen=True)
class ImageSet:
    """A set's training and test images with their class names."""

    name: str
    train: Labelled
    test: Labelled


def spread(items: Labelled, *, seed: int = 0) -> Labelled:
    """The images in an order whose every beginning has the classes' shares: a smaller set is part of a larger one."""
    keys = np.empty(len(items))
    labels = np.array([label for _, label in items])
    for label in sorted(set(labels.tolist())):
        own = np.flatnonzero(labels == label)
        own = own[generator(seed, "regret", label).permutation(len(own))]
        keys[own] = (np.arange(len(own)) + 0.5) / len(own)
    return [items[place] for place in np.argsort(keys, kind="stable")]


def as_csv(found: ImageSet, count: int, *, tested: int = TEST) -> str:
    """A CSV file for `headstart fit`: the first `count` training images, spread over the classes, and the test images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    parts = (("train", spread(found.train)[:count]), ("test", spread(found.test)[:tested]))
    for split, images in parts:
        writer.writerows((str(path.resolve()), label, split) for path, label in images)
    return out.getvalue()


def read_set(name: str, where: Where) -> ImageSet | None:
    """The set of that name, or None where its source is not there."""
    folder, test = _MAKERS[name](name, where)
    if folder is None:
        return None
    return ImageSet(name=name, train=_pictures(folder / "train"), test=_pictures(folder / test))


def _pictures(folder: Path) -> Labelled:
    return [
        (path, path.parent.name) for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES
    ]


Found = tuple[Path | None, str]
"""The folder of a set, None where there is none, and the name of the folder in it that is tested on."""


def _given(test: str) -> Callable[[str, Where], Found]:
    """A set that lies in class folders already."""

    def find(name: str, where: Where) -> Found:
        folder = None if where.data is None else where.data / name
        return (folder if folder is not None and (folder / "train").is_dir() else None), test

    return find


def _made(pictures: Callable[[Where], Written | None]) -> Callable[[str, Where], Found]:
    """A set that is written once, whole or not at all."""

    def make(name: str, where: Where) -> Found:
        target = where.work / name
        if target.is_dir():
            return target, "test"
        source = pictures(where)
        if source is None:
            return None, "test"
        where.work.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=where.work))
        try:
            for number, (split, label, picture) in enumerate(source):
                place = temporary / split / label
                place.mkdir(parents=True, exist_ok=True)
                picture.save(place / f"{number:05}.png")
            temporary.chmod(0o755)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target, "test"

    return make


def _digits(_: Where) -> Written:
    """scikit-learn's handwritten digits, 8 x 8, gray: 1200 for training, the others for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = generator(0, "regret", "digits").permutation(len(found.target))
    for turn, place in enumerate(order):
        image = Image.fromarray((found.images[place] * 15.9375).astype(np.uint8))
        yield "train" if turn < _MADE else "test", str(found.target[place]), image


def _fashion(where: Where) -> Written | None:
    """Fashion-MNIST, 28 x 28, gray: of each class the first 120 for training and the first 30 of its test images."""
    if where.fashion is None or not (where.fashion / "train-images-idx3-ubyte.gz").is_file():
        return None
    return _fashion_of(where.fashion)


def _fashion_of(folder: Path) -> Written:
    for split, prefix, each in (("train", "train", _MADE // 10), ("test", "t10k", TEST // 10)):
        images, labels = (
            _idx(folder / f"{prefix}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
        )
        for label in range(10):
            for place in np.flatnonzero(labels == label)[:each]:
                yield split, str(label), Image.fromarray(images[place])


def _idx(path: Path) -> Pixels:
    """The array in an IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape.tolist())


_VEHICLES = """
airliner airship ambulance amphibian beach_wagon bicycle-built-for-two bobsled bullet_train cab canoe
catamaran container_ship convertible dogsled electric_locomotive fireboat fire_engine forklift freight_car garbage_truck
go-kart golfcart gondola half_track jeep lifeboat limousine liner minibus minivan Model_T moped motor_scooter mountain_bike
moving_van oxcart passenger_car pickup police_van racer recreational_vehicle school_bus schooner snowmobile snowplow
space_shuttle speedboat sports_car steam_locomotive streetcar submarine tank tow_truck tractor trailer_truck tricycle
trimaran trolleybus unicycle warplane yawl
"""
_CLOTHES = """
abaya academic_gown apron bathing_cap bearskin bib bikini bolo_tie bonnet bow_tie brassiere breastplate
bulletproof_vest cardigan Christmas_stocking cloak clog cowboy_boot cowboy_hat crash_helmet cuirass feather_boa fur_coat
gown hoopskirt jean jersey kimono lab_coat Loafer maillot military_uniform miniskirt mitten mortarboard overskirt pajama
poncho running_shoe sandal sarong shower_cap ski_mask sock sombrero stole suit sweatshirt swimming_trunks trench_coat
vestment wig Windsor_tie
"""
_INSTRUMENTS = """
accordion acoustic_guitar banjo bassoon cello chime cornet drum electric_guitar flute French_horn gong
grand_piano harmonica harp maraca marimba oboe ocarina organ panpipe sax steel_drum trombone upright violin
"""

_KINDS: dict[str, Sequence[tuple[int, int]]] = {
    "bird": ((7, 24), (80, 100), (127, 146)),
    "reptile or amphibian": ((25, 50), (52, 68)),
    "dog": ((151, 268),),
    "other mammal": ((101, 106), (269, 299), (330, 388)),
    "insect or spider": ((70, 79), (300, 326)),
    "food": ((924, 957), (959, 969)),
}
"""Superclass -> first and last index of its classes in the usual order of ImageNet."""

_EACH = 60  # images of a superclass, at most
_NAMED = {"vehicle": _VEHICLES, "clothing": _CLOTHES, "instrument": _INSTRUMENTS}


def _superclasses(where: Where) -> Written | None:
    """One photo of each of many ImageNet classes, in nine kinds; of each kind a quarter is for testing."""
    folder = None if where.data is None else where.data / "imagenet-sample"
    if folder is None or not (folder / "classes.csv").is_file():
        return None
    return _superclasses_of(folder)


def _superclasses_of(folder: Path) -> Written:
    with (folder / "classes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kinds = {
        kind: [row for row in rows if any(first <= int(row["index"]) <= last for first, last in ranges)]
        for kind, ranges in _KINDS.items()
    } | {kind: [row for row in rows if row["name"] in names.split()] for kind, names in _NAMED.items()}
    for kind, members in kinds.items():
        order = generator(0, "regret", kind).permutation(len(members))[:_EACH]
        for turn, place in enumerate(order):
            with Image.open(folder / members[place]["file"]) as picture:
                yield "test" if turn % 4 == 3 else "train", kind, picture.convert("RGB")


_MARGIN = 0.15  # of a box's size, on every side
_LEAST_BOX = 8  # pixels


def _cells(where: Where) -> Written | None:
    """Blood cells cut out of their boxes, with a margin; red cells, the most frequent, no more than white ones."""
    folder = None if where.data is None else where.data / "bccd"
    if folder is None or not (folder / "Annotations").is_dir():
        return None
    return _cells_of(folder)


def _cells_of(folder: Path) -> Written:
    for split, lists in (("train", ("train",)), ("test", ("val", "test"))):
        boxes: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {}
        for part in lists:
            for name in (folder / "ImageSets" / "Main" / f"{part}.txt").read_text(encoding="utf-8").split():
                for label, box in _boxes(folder / "Annotations" / f"{name}.xml"):
                    boxes.setdefault(label, []).append((name, box))
        for label, found in sorted(boxes.items()):
            most = len(boxes["WBC"])
            for place in generator(0, "regret", split, label).permutation(len(found))[:most]:
                name, box = found[place]
                with Image.open(folder / "JPEGImages" / f"{name}.jpg") as picture:
                    yield split, label, picture.convert("RGB").crop(box)


def _boxes(path: Path) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """(class, box with its margin) of each object in a Pascal VOC file that is not degenerate."""
    root = ET.parse(path).getroot()
    width, height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    for found in root.iter("object"):
        left, top, right, bottom = (
            int(found.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        if min(right - left, bottom - top) < _LEAST_BOX:
            continue
        x, y = round(_MARGIN * (right - left)), round(_MARGIN * (bottom - top))
        box = (max(0, left - x), max(0, top - y), min(width, right + x), min(height, bottom + y))
        yield found.findtext("name") or "", box


_SOUNDS = ("rising", "falling", "steady", "vibrato", "beats", "two tones")
_RATE, _WINDOW, _STEP, _FRAMES = 8000, 256, 64, 128


def _spectrograms(_: Where) -> Written:
    """Log-power spectrograms (128 x 128, gray) of six kinds of tones in loud noise."""
    rng = generator(0, "regret", "spectrograms")
    time_axis = np.arange(_WINDOW + _STEP * (_FRAMES - 1)) / _RATE
    for split, each in (("train", _MADE // 6), ("test", TEST // 6)):
        for kind in _SOUNDS:
            for _number in range(each):
                yield split, kind, Image.fromarray(_spectrogram(_sound(kind, time_axis, rng)))


def _sound(kind: str, t: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    pitch, slope = rng.uniform(600, 2800), rng.uniform(150, 900)
    bend = {"rising": slope, "falling": -slope}.get(kind, 0.0)
    phase = pitch * t + bend * t**2 / 2
    if kind == "vibrato":
        phase = phase + rng.uniform(4, 12) * np.sin(2 * np.pi * rng.uniform(3, 7) * t + rng.uniform(0, 6))
    sound: NDArray[np.float64] = np.sin(2 * np.pi * phase)
    if kind == "two tones":
        sound = sound + np.sin(2 * np.pi * (pitch + rng.uniform(150, 600)) * t)
    if kind == "beats":
        sound = sound * (np.sin(2 * np.pi * rng.uniform(3, 8) * t + rng.uniform(0, 6)) > 0)
    loudness = rng.uniform(0.05, 0.4)
    noise: NDArray[np.float64] = rng.normal(0, 1, len(t))
    return loudness * sound + noise


def _spectrogram(sound: NDArray[np.float64]) -> Pixels:
    pieces = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_STEP]
    power = np.abs(np.fft.rfft(pieces * np.hanning(_WINDOW), axis=1))[:, : _WINDOW // 2] ** 2
    decibel = 10 * np.log10(power.T[::-1] + 1e-8)
    out: Pixels = (np.clip((decibel - decibel.max() + 50) / 50, 0, 1) * 255).astype(np.uint8)
    return out


_EXPONENTS = (0.8, 1.0, 1.2, 1.4, 1.6)
_TEXTURE = 96  # pixels


def _textures(_: Where) -> Written:
    """Coloured noise (96 x 96): the classes differ in how fast power falls with frequency, and in nothing else."""
    rng = generator(0, "regret", "textures")
    fy, fx = np.meshgrid(np.fft.fftfreq(_TEXTURE), np.fft.rfftfreq(_TEXTURE), indexing="ij")
    for split, each in (("train", _MADE // 6), ("test", TEST // len(_EXPONENTS))):
        for exponent in _EXPONENTS:
            for _number in range(each):
                yield split, f"{exponent:g}", Image.fromarray(_texture(exponent, fy, fx, rng))


def _texture(
    exponent: float, fy: NDArray[np.float64], fx: NDArray[np.float64], rng: np.random.Generator
) -> Pixels:
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 2)
    u, v = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.hypot(u, v * stretch)
    radius[0, 0] = np.inf
    shape = (_TEXTURE, _TEXTURE)
    bands = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) / radius**exponent, shape) for _ in range(2)]
    colours = rng.normal(size=(2, 3)) + np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    image = sum(band[..., None] / band.std() * colour for band, colour in zip(bands, colours, strict=True))
    value = 128 + rng.uniform(-30, 30) + rng.uniform(25, 50) * image / np.std(image)
    out: Pixels = np.clip(value, 0, 255).astype(np.uint8)
    return out


_MAKERS: dict[str, Callable[[str, Where], Found]] = {
    "hymenoptera": _given("val"),
    "rsscn7-satellite": _given("val"),
    "cifar10-5k": _given("test"),
    "bccd-cells": _made(_cells),
    "fashion-mnist": _made(_fashion),
    "imagenet-kinds": _made(_superclasses),
    "digits": _made(_digits),
    "spectrograms": _made(_spectrograms),
    "textures": _made(_textures),
}

SETS = tuple(_MAKERS)
"""Names of all sets, in the order in which they are measured."""

SETS_WITHOUT_DATA = ("digits", "spectrograms", "textures")
"""Those that need nothing but this repository."""

"""`torchvision:NAME`: torchvision's classification datasets, downloaded once into the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from headstart._core.check import suggestion
from headstart._core.errors import BadInput, BadOption
from headstart._core.files import writable_folder
from headstart._core.places import cache_folder
from headstart._core.records import record
from headstart._core.table import Table
from headstart.data.readers.records import Listing, Reader
from headstart.data.records import ImageSource, LoadOptions, Sample

_PREFIX = "torchvision:"

Items = Callable[[Any], Iterator[tuple[ImageSource, int]]]


@record
class TorchvisionSet:
    """How one dataset is taken out of torchvision.

    Attributes:
        parts: our split (empty: undecided) -> arguments of torchvision's constructor.
        items: (image, label) of each image of a constructed part.
        files: what a machine without a network needs in the folder, relative to it.
        classes: names in label order, where torchvision's object has no `classes`.
    """

    parts: Mapping[str, Mapping[str, Any]]
    items: Items
    files: str
    classes: tuple[str, ...] = ()


def _arrays(dataset: Any) -> Iterator[tuple[ImageSource, int]]:
    """Images kept in memory: (N, H, W), (N, H, W, 3) or (N, 3, H, W)."""
    data = np.asarray(dataset.data)
    if data.ndim == 4 and data.shape[1] == 3 and data.shape[3] != 3:
        data = data.transpose(0, 2, 3, 1)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", ()))
    yield from zip(data, map(int, labels), strict=True)


# torchvision gives no public access to the paths of these datasets, and to decode 100,000 photos into memory
# instead is no way out. The attributes below are those of torchvision 0.26 to 0.29.


def _files(dataset: Any) -> Iterator[tuple[ImageSource, int]]:
    paths = getattr(dataset, "_image_files", None) or dataset._images
    yield from zip(map(Path, paths), map(int, dataset._labels), strict=True)


def _pairs(dataset: Any) -> Iterator[tuple[ImageSource, int]]:
    pairs = dataset.samples if hasattr(dataset, "samples") else dataset._samples
    yield from ((Path(path), int(label)) for path, label in pairs)


def _caltech(dataset: Any) -> Iterator[tuple[ImageSource, int]]:
    folder = Path(dataset.root) / "101_ObjectCategories"
    for number, label in zip(dataset.index, dataset.y, strict=True):
        yield folder / dataset.categories[label] / f"image_{number:04d}.jpg", int(label)


def _pcam(dataset: Any) -> Iterator[tuple[ImageSource, int]]:
    """96 x 96 patches, all in memory (9 GB for the three parts): the file is one HDF5 array."""
    names = dataset._FILES[dataset._split]
    with dataset.h5py.File(dataset._base_folder / names["images"][0]) as stored:
        images = stored["x"][:]
    with dataset.h5py.File(dataset._base_folder / names["targets"][0]) as stored:
        labels = stored["y"][:].reshape(-1)
    yield from zip(images, map(int, labels), strict=True)


_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {**_TWO, "val": {"split": "val"}}
_DIGITS = tuple(str(digit) for digit in range(10))
_IDX = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"

SETS: Table[TorchvisionSet] = Table(
    "torchvision:",
    {
        "CIFAR10": TorchvisionSet(parts=_TRAIN_FLAG, items=_arrays, files="cifar-10-python.tar.gz"),
        "CIFAR100": TorchvisionSet(parts=_TRAIN_FLAG, items=_arrays, files="cifar-100-python.tar.gz"),
        "MNIST": TorchvisionSet(parts=_TRAIN_FLAG, items=_arrays, files=f"MNIST/raw/{_IDX}", classes=_DIGITS),
        "FashionMNIST": TorchvisionSet(parts=_TRAIN_FLAG, items=_arrays, files=f"FashionMNIST/raw/{_IDX}"),
        "KMNIST": TorchvisionSet(parts=_TRAIN_FLAG, items=_arrays, files=f"KMNIST/raw/{_IDX}"),
        "SVHN": TorchvisionSet(
            parts=_TWO, items=_arrays, files="train_32x32.mat and test_32x32.mat", classes=_DIGITS
        ),
        "STL10": TorchvisionSet(parts=_TWO, items=_arrays, files="stl10_binary.tar.gz"),
        "Flowers102": TorchvisionSet(
            parts=_THREE, items=_files, files="flowers-102/{102flowers.tgz,imagelabels.mat,setid.mat}"
        ),
        "OxfordIIITPet": TorchvisionSet(
            parts={"train": {"split": "trainval"}, "test": {"split": "test"}},
            items=_files,
            files="oxford-iiit-pet/{images,annotations}.tar.gz",
        ),
        "Food101": TorchvisionSet(parts=_TWO, items=_files, files="food-101.tar.gz"),
        "DTD": TorchvisionSet(parts=_THREE, items=_files, files="dtd/dtd-r1.0.1.tar.gz"),
        "EuroSAT": TorchvisionSet(parts={"": {}}, items=_pairs, files="eurosat/EuroSAT.zip"),
        "GTSRB": TorchvisionSet(
            parts=_TWO,
            items=_pairs,
            files="gtsrb/GTSRB-Training_fixed.zip, gtsrb/GTSRB_Final_Test_{Images,GT}.zip",
            classes=tuple(f"{number:02d}" for number in range(43)),
        ),
        "FGVCAircraft": TorchvisionSet(parts=_THREE, items=_files, files="fgvc-aircraft-2013b.tar.gz"),
        "Caltech101": TorchvisionSet(
            parts={"": {}}, items=_caltech, files="caltech101/101_ObjectCategories.tar.gz"
        ),
        "PCAM": TorchvisionSet(
            parts=_THREE,
            items=_pcam,
            files="pcam/camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5",
            classes=("normal", "tumor"),
        ),
    },
)


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source starts with `torchvision:`."""
    return source.lower().startswith(_PREFIX)


def read(source: str, options: LoadOptions) -> Listing:
    """The images of a torchvision dataset with torchvision's own splits.

    Raises:
        BadInput: when the dataset is unknown, or can neither be found nor downloaded.
    """
    name = _known(source[len(_PREFIX) :])
    row, folder = SETS[name], cache_folder("datasets")
    parts = {split: _construct(name, folder, arguments) for split, arguments in row.parts.items()}
    classes = row.classes or _class_names(next(iter(parts.values())))
    samples = chain.from_iterable(_samples(name, split, row.items(part)) for split, part in parts.items())
    return Listing(
        samples=tuple(samples),
        task="classify",
        classes=classes,
        notes=(f"{_PREFIX}{name} lies in {folder}; its licence is on its authors' page.",),
    )


def _known(typed: str) -> str:
    try:
        SETS[typed]
    except BadOption as error:
        lowered = {name.lower(): name for name in SETS}
        if typed.lower() in lowered:
            return lowered[typed.lower()]
        hint = f"{suggestion(typed, SETS)} Known: {', '.join(SETS)}.".strip()
        raise BadInput(f"{_PREFIX}{typed} is not a dataset that headstart knows.", hint=hint) from error
    return typed


def _construct(name: str, folder: Path, arguments: Mapping[str, Any]) -> Any:
    """The dataset object of torchvision, downloaded if it is not there.

    Raises:
        BadInput: saying which files to put where.
    """
    # The one import of torchvision in this row: only those who ask for one of its datasets pay for torch
    # (and for the network modules whose errors it passes on).
    import zlib
    from http.client import HTTPException
    from tarfile import TarError
    from zipfile import BadZipFile

    from filelock import FileLock
    from torchvision import datasets

    writable_folder(folder)
    kind = getattr(datasets, name)
    try:
        with FileLock(folder / f".{name}.lock"):
            try:
                return kind(str(folder), **arguments, download=False)
            except (RuntimeError, OSError):  # not there, or not whole
                return kind(str(folder), **arguments, download=True)
    except (RuntimeError, OSError, EOFError, HTTPException, TarError, BadZipFile, zlib.error) as error:
        raise BadInput(
            f"The dataset {name} is not in {folder} and could not be downloaded: {getattr(error, 'reason', error)}.",
            hint=f"Without a network, put {SETS[name].files} into {folder} and run again; if something is there "
            "already, it is damaged: remove it first.",
        ) from error


def _class_names(part: Any) -> tuple[str, ...]:
    names: Sequence[str] = getattr(part, "classes", None) or part.categories
    return tuple(str(name).strip() for name in names)


def _samples(name: str, split: str, items: Iterator[tuple[ImageSource, int]]) -> Iterator[Sample]:
    for number, (image, label) in enumerate(items):
        called = str(image) if isinstance(image, Path) else f"{name}:{split or 'all'}/{number}"
        yield Sample(name=called, source=image, labels=(label,), split=split)


READER = Reader(
    name="torchvision",
    looks_like=f"torchvision:NAME with one of {', '.join(SETS)}",
    matches=matches,
    read=read,
)

"""The bundle: a fitted model as safetensors and a JSON manifest, opened without any training code."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from headstart._core import records
from headstart._core.check import existing
from headstart._core.errors import BadInput, NotFitted
from headstart._core.files import atomic, sha256_bytes, sha256_file
from headstart._core.records import record
from headstart.compute import DepthClassifier, Depths, at_depths, trimmed
from headstart.data.handed import Images, as_sources
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.metrics.classwise import Classwise
from headstart.metrics.conformal import COVERAGE, Conformal
from headstart.metrics.detection import calibrated
from headstart.metrics.novelty import Novelty
from headstart.pixels import normalise
from headstart.predict import Found, Judged, Prediction, Trust, predict, predict_places
from headstart.tasks import (
    TASKS,
    Classifier,
    HeadSpec,
    Mirrored,
    Network,
    Places,
    Task,
    Watched,
    task_of,
    unmirrored,
)
from headstart.weights import blank
from headstart.weights.records import WeightsInfo

MANIFEST = "manifest.json"
FOLDER = "bundle"
"""The bundle's place in a run folder."""

_BANK = "novelty.bank"
_PACKAGES = ("headstart", "torch", "timm", "torchvision", "numpy", "pillow", "safetensors")


@record
class Manifest:
    """Everything about a fitted model that is not a tensor.

    Attributes:
        task: a name of `TASKS`.
        classes: names in output order.
        head: that the network has; without a name the task's usual one.
        arch: architecture name, as in `WeightsInfo`.
        width: size of the features that the head reads.
        preprocess: the contract of the model's input.
        temperature: > 0; logits are divided by it before the activation.
        classwise: a scale and a shift of each class's logit, already part of the head in the tensors, where they paid more
            than a temperature; None where one temperature does.
        threshold: least score of an answer that is shown, for boxes; chosen on validation images.
        calibration: slope and offset of what a box's score becomes: sigmoid(slope * logit(score) + offset).
        precision: that the threshold was chosen for; 0: the best F1.
        weights: the pretrained checkpoint that the model started from, with its licence.
        method: name of the transfer method.
        depths: where in the network the head reads and what is cut off behind; None: the network's own pooled output.
        conformal: what sets of classes are made from; None where there was nothing to make them from.
        novelty: what an image is called unlike the training images by; None where there was nothing to learn it from.
        mirrored: whether each answer is the mean of the logits for the image and for its mirror image.
        metrics: test metrics, name -> value and interval, as in `evaluation.json`; empty until evaluated.
        versions: package -> version at the time of saving; filled in by `save_bundle` if empty.
        machine: what it was saved on; filled in by `save_bundle` if empty.
        created: ISO 8601 time; filled in by `save_bundle` if empty.
        file: name of the tensors' file beside the manifest; filled in by `save_bundle`.
        sha256: of that file; filled in by `save_bundle`.
    """

    task: str
    classes: tuple[str, ...]
    arch: str
    width: int
    preprocess: Preprocess
    weights: WeightsInfo
    method: str
    head: HeadSpec = field(default_factory=HeadSpec)
    temperature: float = 1.0
    classwise: Classwise | None = None
    threshold: float = 0.0
    calibration: tuple[float, float] = (1.0, 0.0)
    precision: float = 0.0
    depths: Depths | None = None
    mirrored: bool = False
    conformal: Conformal | None = None
    novelty: Novelty | None = None
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    created: str = ""
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Bundle:
    """A fitted model that answers: a `predict.Predictor`.

    Attributes:
        manifest: the facts about it.
        model: the network in evaluation mode, on `device`.
        device: where it computes.
        watched: the same network with the novelty score; None where there is none.
    """

    manifest: Manifest
    model: Network
    device: torch.device
    watched: Watched | None = None

    @property
    def task(self) -> str:
        """A name of `TASKS`."""
        return self.manifest.task

    @property
    def made(self) -> Task:
        """The task with the head that this network has."""
        return task_of(self.manifest.task, self.manifest.head)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in output order."""
        return self.manifest.classes

    @property
    def preprocess(self) -> Preprocess:
        """The contract of its input."""
        return self.manifest.preprocess

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of contract pixels (N, height, width, 3).

        Calibrated: the network's own, divided by the temperature.
        """
        with torch.inference_mode():
            images = (
                torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
                .to(self.device)
                .permute(0, 3, 1, 2)
            )
            ready = normalise(images, self.preprocess).contiguous(memory_format=torch.channels_last)
            calibrated = self.model(ready).float() / self.manifest.temperature
        out: NDArray[np.float32] = calibrated.cpu().numpy()
        return out

    @property
    def trust(self) -> Trust:
        """What sets of classes and the novelty of an image are judged by."""
        return Trust(self.manifest.conformal, self.manifest.novelty if self.watched is not None else None)

    def judged(self, pixels: NDArray[np.uint8]) -> Judged:
        """Calibrated logits (N, classes) of contract pixels, and novelty scores (N,) where there are any."""
        if self.watched is None:
            return self.logits(pixels), None
        with torch.inference_mode():
            images = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
            ready = normalise(images.permute(0, 3, 1, 2), self.preprocess)
            both = self.watched(ready.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
        return both[:, :-1] / np.float32(self.manifest.temperature), both[:, -1]

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Calibrated probabilities (N, classes) in [0, 1] of contract pixels (N, height, width, 3)."""
        return TASKS[self.task].probabilities(self.logits(pixels))

    def answers(
        self, pixels: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], *, threshold: float | None = None
    ) -> list[NDArray[Any]]:
        """Boxes (K, 6) or class indices (H, W) of each image in its own pixels.

        Args:
            pixels: (N, height, width, 3), by the contract.
            sizes: (width, height) of the images.
            threshold: least score of a box; None: the one that was chosen on validation images.
        """
        places = self._places()
        least = self.manifest.threshold if threshold is None else threshold
        with torch.inference_mode():
            images = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
            ready = normalise(images.permute(0, 3, 1, 2), self.preprocess)
            outputs = self.model(ready.contiguous(memory_format=torch.channels_last)).float()
            found = places.answers(outputs, sizes, self.preprocess)
        return [self._shown(one, least) if one.dtype == np.float64 else one for one in found]

    def _shown(self, boxes: NDArray[np.float64], least: float) -> NDArray[np.float64]:
        """The boxes (K, 6) whose probability is that or more, with it for a score."""
        boxes[:, 4] = calibrated(boxes[:, 4], self.manifest.calibration)
        return boxes[boxes[:, 4] >= least]

    def places(self, images: Images) -> list[Found]:
        """Boxes or a mask for each image, in order; an image that cannot be read gets the reason.

        Args:
            images: paths, PIL images, or 8-bit arrays, of any sizes.

        Raises:
            BadInput: as `predict`; and for a model of whole images.
        """
        self._places()
        return list(predict_places(self, _as_samples(images)))

    def _places(self) -> Places:
        places = self.made.places
        if places is None:
            raise BadInput(f"A model for {self.task} says nothing about places.", hint="Call predict().")
        return places

    def predict(self, images: Images, *, top_k: int = 5, coverage: float = COVERAGE) -> list[Prediction]:
        """One prediction for each image, in order; an image that cannot be read gets one with the reason.

        Args:
            images: paths, PIL images, or 8-bit arrays (H, W), (H, W, 3) or (H, W, 4), of any sizes.
            top_k: how many classes to list for each image.
            coverage: how often the set of classes should hold the true one.

        Raises:
            BadInput: for a single image instead of several, arrays that are not 8-bit, and other types.
        """
        if TASKS[self.task].places is not None:
            raise BadInput(f"A model for {self.task} answers with places.", hint="Call places().")
        return list(predict(self, _as_samples(images), top_k=top_k, coverage=coverage))


def _as_samples(images: Images) -> list[Sample]:
    return [
        Sample(name=str(source) if isinstance(source, Path) else f"memory:{position}", source=source)
        for position, source in enumerate(as_sources(images))
    ]


def versions() -> dict[str, str]:
    """Package -> installed version, and Python's, of what shapes a model's answers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree without installing
            found[package] = "not installed"
    return found


def machine() -> str:
    """The system, the processor and the accelerator, in one line."""
    threads = torch.get_num_threads()
    parts = [f"{platform.system()} {platform.machine()}", f"{threads} CPU thread{'s' * (threads != 1)}"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def save_bundle(
    folder: Path, model: Network, manifest: Manifest, *, bank: NDArray[np.float32] | None = None
) -> Manifest:
    """The completed manifest. At every moment the folder holds a whole bundle, the old or the new.

    The tensors' file is named after its content, so writing it disturbs no older one; replacing the manifest,
    in one step, makes the new bundle the current one; only then are older tensors removed.

    Args:
        folder: of the bundle.
        model: to save.
        manifest: the facts about it, as far as they are known.
        bank: features (M, width) of training images, each of length one, that `manifest.novelty` measures distances to.

    Raises:
        BadInput: when the folder cannot be written to, or the model's head does not fit the manifest.
    """
    whole = isinstance(model, Classifier)
    if whole and model.head.out_features != len(manifest.classes):
        raise BadInput(
            f"The model has {model.head.out_features} outputs, the manifest {len(manifest.classes)} classes.",
            hint="Give the manifest the classes in the order of the model's outputs.",
        )
    read, mirrored = None, isinstance(model, Mirrored)
    model = unmirrored(model)
    if isinstance(model, DepthClassifier):
        model = trimmed(model, manifest.preprocess)
        read = model.depths
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    if bank is not None:  # three digits of a direction are enough: a gap of 1e-4 in a distance
        tensors[_BANK] = torch.from_numpy(bank).half()
    content = tensors_to_bytes(tensors)
    digest = sha256_bytes(content)
    complete = replace(
        manifest,
        width=model.head.in_features if whole else manifest.width,
        depths=read,
        mirrored=mirrored,
        versions=manifest.versions or versions(),
        machine=manifest.machine or machine(),
        created=manifest.created or datetime.now(UTC).isoformat(timespec="seconds"),
        file=f"model-{digest[:8]}.safetensors",
        sha256=digest,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if not _holds(folder / complete.file, digest):  # after the exam only the manifest is new
        with atomic(folder / complete.file) as temporary:
            temporary.write_bytes(content)
    records.save(folder / MANIFEST, complete)
    _tidy(folder, kept=complete.file)
    return complete


def _tidy(folder: Path, *, kept: str) -> None:
    """Remove what older bundles, and saves that were killed, have left."""
    for pattern in ("model-*.safetensors", ".model-*.tmp", f".{MANIFEST}.*.tmp"):
        for stale in folder.glob(pattern):
            if stale.name != kept:
                stale.unlink(missing_ok=True)


def _holds(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_file(file) == digest


def open_bundle(path: str | Path) -> Bundle:
    """The model of a run folder or of a bundle folder, ready to answer, on the GPU where there is one.

    Raises:
        NotFitted: when the folder holds no bundle.
        BadInput: when the bundle is incomplete, damaged, edited, or from a newer version.
    """
    folder = find_bundle(path)
    manifest = records.load(Manifest, folder / MANIFEST)
    if manifest.temperature <= 0 or not manifest.classes:
        raise BadInput(
            f"{folder / MANIFEST} was edited: it has no classes or a temperature <= 0.", hint=_again(folder)
        )
    tensors = _read_tensors(folder, manifest)
    bank = tensors.pop(_BANK, None)
    model = _rebuild(folder, manifest, tensors)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    watched = None
    if manifest.novelty is not None and bank is not None:
        watched = Watched(model, bank.to(device), manifest.novelty, manifest.temperature).eval()
    return Bundle(manifest=manifest, model=model, device=device, watched=watched)


def find_bundle(path: str | Path) -> Path:
    """The folder with the manifest: the path itself, or `bundle` in it.

    Raises:
        BadInput: when there is nothing at the path.
        NotFitted: when there is no manifest.
    """
    folder = existing(path, what="The run folder")
    for place in (folder, folder / FOLDER):
        if (place / MANIFEST).is_file():
            return place
    raise NotFitted(
        f"{folder} holds no fitted model: there is no {FOLDER}/{MANIFEST} in it.",
        hint=f"Fit one first: headstart fit DATA --out {folder}",
    )


def _read_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    file = folder / Path(manifest.file).name  # a manifest cannot point outside its folder
    if not manifest.file or not file.is_file():
        raise BadInput(
            f"The bundle in {folder} is incomplete: {manifest.file or 'its tensors'} is missing.",
            hint=_again(folder),
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{file} cannot be read: {error.strerror}.", hint="Check that you may read it."
        ) from error
    digest = sha256_bytes(content)
    if digest != manifest.sha256:
        raise BadInput(
            f"{file} is damaged or was edited: its SHA-256 starts with {digest[:8]}, "
            f"the manifest's with {manifest.sha256[:8]}.",
            hint=_again(folder),
        )
    return parse_tensors(content)


def _rebuild(folder: Path, manifest: Manifest, tensors: Mapping[str, Tensor]) -> Network:
    task = task_of(manifest.task, manifest.head)  # an unknown one is refused before the network is built
    model = task.build(blank(manifest.arch), len(manifest.classes))
    try:
        if manifest.depths is not None:
            model = at_depths(model, manifest.depths, width=manifest.width)
        model.load_state_dict(dict(tensors))
    except (
        RuntimeError,
        AttributeError,
    ) as error:  # PyTorch's words for tensors that are missing, left over or of another shape, and for missing modules
        lines = str(error).splitlines()
        reason = "; ".join(line.strip() for line in lines[1:4] or lines)
        what = f"{manifest.arch} with the head {task.head.name} and {len(manifest.classes)} classes"
        raise BadInput(
            f"The tensors in {folder} do not fit {what}: {reason}",
            hint=f"{MANIFEST} was edited, or timm changed since {manifest.versions.get('timm')}.",
        ) from error
    return Mirrored(model) if manifest.mirrored else model


def _again(folder: Path) -> str:
    return f"Copy the bundle again, or fit again: headstart fit DATA --out {folder.parent}"

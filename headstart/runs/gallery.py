"""The pictures of a run folder: a few training images of each class, and the worst mistakes with what the network saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from headstart._core import files
from headstart._core.errors import BadInput
from headstart.data.images import open_rgb
from headstart.data.records import Dataset, DatasetFacts, ImageSource, Sample
from headstart.evaluation import Evaluation
from headstart.evaluation.slices import with_thumbnails
from headstart.explanation import overlays, picture
from headstart.tasks import Network
from headstart.weights import Backbone

FOLDER = "gallery"
_CLASSES, _SIDE, _QUALITY = 12, 112, 80


def save_examples(folder: Path, dataset: Dataset, facts: DatasetFacts) -> None:
    """Write `gallery/examples/CLASS-K.jpg`: small centre squares of the training images that the facts name."""
    named = {sample.name: sample for sample in dataset.samples}
    for index, label in enumerate(dataset.classes[:_CLASSES]):
        for number, name in enumerate(facts.examples.get(label, ())):
            _save(small_square(named[name].source), folder / FOLDER / "examples" / f"{index}-{number}.jpg")


def add_pictures(
    result: Evaluation, folder: Path, samples: tuple[Sample, ...], model: Network, backbone: Backbone
) -> Evaluation:
    """The evaluation with, for each mistake, the picture that the network saw and where it looked."""
    named = {sample.name: sample for sample in samples}
    preprocess, seen, wrong = backbone.info.preprocess, [], []
    for mistake in result.mistakes:
        try:
            seen.append(picture(open_rgb(named[mistake.name].source), preprocess))
        except BadInput:  # the file went away since it was tested: the mistake is told without its picture
            continue
        wrong.append(mistake)
    layers = [model.get_submodule(f"body.{stage.output}") for stage in reversed(backbone.stages)]
    answers = [result.classes.index(mistake.explained) for mistake in wrong]
    heated = overlays(model, seen, preprocess, answers=answers, layers=layers)
    told = {}
    for number, (mistake, plain, hot) in enumerate(zip(wrong, seen, heated, strict=True)):
        thumbnail, overlay = f"{FOLDER}/mistake-{number}.jpg", f"{FOLDER}/mistake-{number}-cam.jpg"
        _save(plain, folder / thumbnail)
        _save(hot, folder / overlay)
        told[mistake.name] = replace(mistake, thumbnail=thumbnail, overlay=overlay)
    return replace(result, mistakes=tuple(told.get(mistake.name, mistake) for mistake in result.mistakes))


def add_slice_pictures(result: Evaluation, folder: Path, samples: tuple[Sample, ...]) -> Evaluation:
    """The evaluation with small pictures of the images that its slices name."""
    if result.slices is None or not result.slices.found:
        return result
    named = {sample.name: sample for sample in samples}
    pictures: dict[str, str] = {}
    for name in dict.fromkeys(name for part in result.slices.found for name in part.examples):
        place = f"{FOLDER}/slice-{len(pictures)}.jpg"
        try:
            _save(small_square(named[name].source), folder / place)
        except BadInput:  # as above
            continue
        pictures[name] = place
    return replace(result, slices=with_thumbnails(result.slices, pictures))


def small_square(source: ImageSource) -> Image.Image:
    """The middle of an image as a small square.

    Raises:
        BadInput: when it cannot be read.
    """
    image = open_rgb(source)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _save(image: Image.Image, path: Path) -> None:
    with files.atomic(path, sync=False) as temporary:
        image.save(temporary, format="JPEG", quality=_QUALITY)
